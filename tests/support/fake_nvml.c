/* A libnvidia-ml.so.1 whose GPUs are described by a text file, for tests on machines without one.
 *
 * FAKE_NVML_STATE names the file: one "KEY VALUE" a line, read again at every nvmlInit and nvmlDeviceGetCount.
 *   driver 550.54        driver version           init.error 9         nvmlInit fails with this code
 *   count 2              number of GPUs           hang.ms 5000         nvmlDeviceGetCount sleeps first
 *   0.power 70000        a value of GPU 0         *.power 70000        ... of every GPU that has none of its own
 *   0.power.error 3      that call fails          0.lost 15            every call about GPU 0 fails
 *   0.mig 2              MIG on, two instances    0.1.memory_used 5    a value of MIG instance 1 on GPU 0
 *   0.process 12 4096 50 pid, bytes, percent      0.1.process 12 4096  ... in a MIG instance
 *   0.gpm 1, 0.sm_activity 35.5   GPM, and what it counts, in percent; 0.1.slices 3, 0.1.gpu_instance 2 in MIG
 *   0.xid 79 1           XID 79 on GPU 0, delivered once per last number
 * Compiled with LONG_PROCESS it writes a fifth field into processes, as drivers 535.43 to 535.86 do.
 * Compiled with OLD_DRIVER it lacks what came with drivers after 470, as an old library does.
 * Structures and signatures follow NVIDIA's nvml.h 13.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, TIMEOUT = 10 };
enum { GPUS = 16, INSTANCES = 7, LINES = 512, WHOLE = -1 };

#ifdef OLD_DRIVER
#define RUNNING_PROCESSES nvmlDeviceGetComputeRunningProcesses_v2
#else
#define RUNNING_PROCESSES nvmlDeviceGetComputeRunningProcesses_v3
#endif

typedef struct { int gpu, instance; } Device;
typedef struct { char key[48], value[80]; } Line;

typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;
typedef struct { unsigned version; unsigned sensor; int temperature; } Temperature;
typedef struct {
    unsigned pid;
    unsigned long long memory;
    unsigned gpu_instance, compute_instance;
#ifdef LONG_PROCESS
    unsigned long long confidential_memory;
#endif
} Process;
typedef struct { unsigned pid; unsigned long long time; unsigned sm, mem, enc, dec; } ProcessSample;
typedef struct { Device *device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } Event;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
typedef union { double d; int si; unsigned ui; unsigned long ul; unsigned long long ull; long long sll; } Value;
typedef struct { unsigned field, scope; long long time, latency; unsigned type; int result; Value value; } FieldValue;

static Line lines[LINES];
static int line_count;
static Device devices[GPUS][INSTANCES + 1];
static long long delivered;
static unsigned long long calls;
enum { GPM_METRICS = 4 };
static double counted[GPUS][INSTANCES + 1][GPM_METRICS]; /* percent times calls, as GPM counts busy cycles */

static void load(void) {
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    line_count = 0;
    if (!file) return;
    while (line_count < LINES && fscanf(file, "%47s %79[^\n]", lines[line_count].key, lines[line_count].value) == 2)
        line_count++;
    fclose(file);
}

static const char *find(const char *key) {
    for (int i = 0; i < line_count; i++)
        if (!strcmp(lines[i].key, key)) return lines[i].value;
    return NULL;
}

static void name_key(char *key, const Device *device, const char *field) {
    if (device->instance == WHOLE) snprintf(key, 48, "%d.%s", device->gpu, field);
    else snprintf(key, 48, "%d.%d.%s", device->gpu, device->instance, field);
}

static const char *find_of(const Device *device, const char *field) {
    char key[48];
    const char *value;
    name_key(key, device, field);
    if ((value = find(key))) return value;
    snprintf(key, sizeof key, device->instance == WHOLE ? "*.%s" : "*.*.%s", field);
    return find(key);
}

static long long number_of(const Device *device, const char *field, long long otherwise) {
    const char *value = find_of(device, field);
    return value ? atoll(value) : otherwise;
}

/* What a call about `field` of `device` returns: the GPU's loss, the call's own error, or success if there is a value. */
static int result_of(const Device *device, const char *field) {
    char error[48];
    const Device whole = {device->gpu, WHOLE};
    long long code = number_of(&whole, "lost", 0);
    if (code) return (int)code;
    snprintf(error, sizeof error, "%s.error", field);
    if ((code = number_of(device, error, 0))) return (int)code;
    return find_of(device, field) ? SUCCESS : NOT_SUPPORTED;
}

#define ANSWER(name, field, type) \
    int name(Device *device, type *answer) { *answer = (type)number_of(device, field, 0); return result_of(device, field); }

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    load();
    for (int gpu = 0; gpu < GPUS; gpu++)
        for (int i = 0; i <= INSTANCES; i++) devices[gpu][i] = (Device){gpu, i - 1};
    const char *error = find("init.error");
    return error ? atoi(error) : SUCCESS;
}
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { (void)code; return "an error of the fake library"; }

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    const char *version = find("driver");
    snprintf(text, length, "%s", version ? version : "0");
    return SUCCESS;
}

static const char *const gpm_fields[GPM_METRICS] = {"sm_activity", "sm_occupancy", "tensor_activity", "memory_bandwidth"};

int nvmlDeviceGetCount_v2(unsigned *count) {
    load();
    calls++;
    for (int gpu = 0; gpu < GPUS; gpu++) {
        const int measured = number_of(&devices[gpu][0], "gpm", 0) ? 1 + number_of(&devices[gpu][0], "mig", 0) : 0;
        for (int i = 0; i < measured; i++)
            for (int m = 0; m < GPM_METRICS; m++) {
                const Device device = {gpu, i - 1};
                const char *percent = find_of(&device, gpm_fields[m]);
                counted[gpu][i][m] += percent ? atof(percent) : 0;
            }
    }
    const char *hang = find("hang.ms"), *error = find("count.error"), *value = find("count");
    if (hang) usleep((useconds_t)atoi(hang) * 1000);
    *count = value ? (unsigned)atoi(value) : 0;
    return error ? atoi(error) : SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    if (index >= GPUS) return INVALID_ARGUMENT;
    *device = &devices[index][0];
    return (int)number_of(*device, "lost", SUCCESS);
}

static int text_of(Device *device, const char *field, char *text, unsigned length) {
    const char *value = find_of(device, field);
    snprintf(text, length, "%s", value ? value : "");
    return result_of(device, field);
}
int nvmlDeviceGetUUID(Device *device, char *text, unsigned length) {
    const char *uuid = find_of(device, "uuid");
    if (uuid) snprintf(text, length, "%s", uuid);
    else if (device->instance == WHOLE) snprintf(text, length, "GPU-%04d", device->gpu);
    else snprintf(text, length, "MIG-%04d-%d", device->gpu, device->instance);
    const Device whole = {device->gpu, WHOLE};
    return (int)number_of(&whole, "lost", SUCCESS);
}
int nvmlDeviceGetName(Device *device, char *text, unsigned length) { return text_of(device, "name", text, length); }
int nvmlDeviceGetPciInfo_v3(Device *device, Pci *pci) {
    memset(pci, 0, sizeof *pci);
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", device->gpu + 1);
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(Device *device, Utilization *rates) {
    rates->gpu = (unsigned)number_of(device, "utilization", 0);
    rates->memory = (unsigned)number_of(device, "memory_utilization", 0);
    return result_of(device, "utilization");
}
int nvmlDeviceGetMemoryInfo(Device *device, Memory *memory) {
    memory->total = (unsigned long long)number_of(device, "memory_total", 0);
    memory->used = (unsigned long long)number_of(device, "memory_used", 0);
    memory->free = memory->total - memory->used;
    return result_of(device, "memory_used");
}
ANSWER(nvmlDeviceGetPowerUsage, "power", unsigned)
ANSWER(nvmlDeviceGetEnforcedPowerLimit, "power_limit", unsigned)
int nvmlDeviceGetTemperature(Device *device, unsigned sensor, unsigned *temperature) {
    (void)sensor;
    *temperature = (unsigned)number_of(device, "temperature", 0);
    return result_of(device, "temperature");
}
int nvmlDeviceGetClockInfo(Device *device, unsigned domain, unsigned *megahertz) {
    const char *field = domain == 2 ? "memory_clock" : "sm_clock";
    *megahertz = (unsigned)number_of(device, field, 0);
    return result_of(device, field);
}
ANSWER(nvmlDeviceGetCurrentClocksThrottleReasons, "throttle", unsigned long long)
int nvmlDeviceGetTotalEccErrors(Device *device, unsigned type, unsigned counter, unsigned long long *count) {
    const char *field = type == 0 ? "ecc_corrected" : "ecc_uncorrected";
    if (counter != 1) return INVALID_ARGUMENT; /* the exporter asks for those over the lifetime */
    *count = (unsigned long long)number_of(device, field, 0);
    return result_of(device, field);
}

int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    *current = *pending = number_of(device, "mig", 0) > 0;
    return result_of(device, "mig");
}
int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *count) {
    *count = INSTANCES;
    return result_of(device, "mig");
}
int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned index, Device **instance) {
    if (index >= number_of(device, "mig", 0)) return NOT_FOUND;
    *instance = &devices[device->gpu][index + 1];
    return SUCCESS;
}

/* Calls back for every line "process" of the device; returns how many there are. */
static unsigned each_process(const Device *device, void (*take)(void *, unsigned, const char *), void *into) {
    char key[48];
    unsigned count = 0;
    name_key(key, device, "process");
    for (int i = 0; i < line_count; i++)
        if (!strcmp(lines[i].key, key)) {
            if (take) take(into, count, lines[i].value);
            count++;
        }
    return count;
}
static void take_process(void *into, unsigned index, const char *value) {
    Process *process = (Process *)into + index;
    long long memory = -1; /* NVML's "not available" is the largest unsigned number */
    memset(process, 0, sizeof *process);
    sscanf(value, "%u %lld", &process->pid, &memory);
    process->memory = (unsigned long long)memory;
}
int RUNNING_PROCESSES(Device *device, unsigned *count, Process *processes) {
    unsigned wanted = each_process(device, NULL, NULL), room = *count;
    const Device whole = {device->gpu, WHOLE};
    int code = (int)number_of(&whole, "lost", number_of(device, "process.error", 0));
    if (code) return code;
    *count = wanted;
    if (wanted > room) return INSUFFICIENT_SIZE;
    each_process(device, take_process, processes);
    return SUCCESS;
}
static void take_sample(void *into, unsigned index, const char *value) {
    ProcessSample *sample = (ProcessSample *)into + index;
    memset(sample, 0, sizeof *sample);
    sscanf(value, "%u %*s %u", &sample->pid, &sample->sm);
    sample->time = calls;
}
int nvmlDeviceGetProcessUtilization(Device *device, ProcessSample *samples, unsigned *count, unsigned long long since) {
    unsigned wanted = each_process(device, NULL, NULL), room = *count;
    if (device->instance != WHOLE) return NOT_SUPPORTED;
    if (since >= calls) return NOT_FOUND;
    *count = wanted;
    if (wanted > room) return INSUFFICIENT_SIZE;
    each_process(device, take_sample, samples);
    return SUCCESS;
}

int nvmlEventSetCreate(void **set) { *set = &delivered; return SUCCESS; }
int nvmlEventSetFree(void *set) { (void)set; return SUCCESS; }
int nvmlDeviceRegisterEvents(Device *device, unsigned long long types, void *set) {
    (void)set;
    return types == 8 ? (int)number_of(device, "events.error", SUCCESS) : INVALID_ARGUMENT;
}
int nvmlEventSetWait_v2(void *set, Event *event, unsigned milliseconds) {
    (void)set, (void)milliseconds;
    for (int i = 0; i < line_count; i++) {
        int gpu;
        long long xid, number;
        char field[8];
        if (sscanf(lines[i].key, "%d.%7s", &gpu, field) != 2 || strcmp(field, "xid")) continue;
        if (sscanf(lines[i].value, "%lld %lld", &xid, &number) != 2 || number <= delivered) continue;
        delivered = number;
        *event = (Event){&devices[gpu][0], 8, (unsigned long long)xid, ~0u, ~0u};
        return SUCCESS;
    }
    return TIMEOUT;
}

#ifndef OLD_DRIVER
ANSWER(nvmlDeviceGetTotalEnergyConsumption, "energy", unsigned long long)
ANSWER(nvmlDeviceGetCurrentClocksEventReasons, "throttle", unsigned long long)
int nvmlDeviceGetMemoryInfo_v2(Device *device, Memory2 *memory) {
    if (memory->version != (sizeof(Memory2) | 2u << 24)) return INVALID_ARGUMENT;
    memory->total = (unsigned long long)number_of(device, "memory_total", 0);
    memory->used = (unsigned long long)number_of(device, "memory_used", 0);
    memory->reserved = 0;
    memory->free = memory->total - memory->used;
    return result_of(device, "memory_used");
}
int nvmlDeviceGetTemperatureV(Device *device, Temperature *temperature) {
    temperature->temperature = (int)number_of(device, "temperature", 0);
    return result_of(device, "temperature");
}
int nvmlDeviceGetFieldValues(Device *device, int count, FieldValue *values) {
    const Device whole = {device->gpu, WHOLE};
    int code = (int)number_of(&whole, "lost", 0);
    if (code) return code;
    for (int i = 0; i < count; i++) {
        const char *field = values[i].field == 197   ? "pcie_transmitted"
                            : values[i].field == 198 ? "pcie_received"
                            : values[i].field == 138 && values[i].scope == ~0u ? "nvlink_transmitted"
                            : values[i].field == 139 && values[i].scope == ~0u ? "nvlink_received"
                                                                               : "unknown";
        values[i].type = 3;
        values[i].value.ull = (unsigned long long)number_of(device, field, 0);
        values[i].result = result_of(device, field);
    }
    return SUCCESS;
}

/* GPM: a sample holds counters; a metric is their growth between two samples of one device, the earlier one first. */
typedef struct { int gpu, place; unsigned long long time; double counts[GPM_METRICS]; } Sample;
typedef struct { unsigned id; int result; double value; const char *names[3]; } GpmMetric;
typedef struct { unsigned version, count; Sample *first, *second; GpmMetric metrics[]; } GpmQuestion;
typedef struct { unsigned version, supported; } GpmSupport;
typedef struct { unsigned multiprocessors, shared[5], gpu_slices, compute_slices; unsigned long long megabytes; } Attributes;

int nvmlGpmQueryDeviceSupport(Device *device, GpmSupport *support) {
    const Device whole = {device->gpu, WHOLE};
    if (support->version != 1) return INVALID_ARGUMENT;
    support->supported = (unsigned)number_of(&whole, "gpm", 0);
    return (int)number_of(&whole, "lost", SUCCESS);
}
static long long allocated;
int nvmlGpmSampleAlloc(Sample **sample) {
    *sample = calloc(1, sizeof **sample);
    allocated += 1;
    return *sample ? SUCCESS : 20;
}
int nvmlGpmSampleFree(Sample *sample) {
    free(sample);
    if (--allocated < 0) abort(); /* freed twice */
    return SUCCESS;
}
static int take_counts(const Device *device, Sample *sample) {
    const Device whole = {device->gpu, WHOLE};
    int code = (int)number_of(&whole, "lost", number_of(device, "gpm.error", SUCCESS));
    if (code) return code;
    if (!number_of(&whole, "gpm", 0)) return NOT_SUPPORTED;
    *sample = (Sample){device->gpu, device->instance + 1, calls, {0}};
    memcpy(sample->counts, counted[device->gpu][device->instance + 1], sizeof sample->counts);
    return SUCCESS;
}
int nvmlGpmSampleGet(Device *device, Sample *sample) {
    return device->instance == WHOLE ? take_counts(device, sample) : INVALID_ARGUMENT;
}
int nvmlGpmMigSampleGet(Device *device, unsigned gpu_instance, Sample *sample) {
    if (device->instance != WHOLE || !number_of(device, "mig", 0)) return INVALID_ARGUMENT;
    for (int i = 0; i < number_of(device, "mig", 0); i++) {
        const Device part = {device->gpu, i};
        if (number_of(&part, "gpu_instance", i + 1) == gpu_instance) return take_counts(&part, sample);
    }
    return NOT_FOUND;
}
int nvmlGpmMetricsGet(GpmQuestion *question) {
    const Sample *first = question->first, *second = question->second;
    const unsigned ids[GPM_METRICS] = {2, 3, 5, 10};
    if (question->version != 1 || !first || !second || first->gpu != second->gpu || first->place != second->place)
        return INVALID_ARGUMENT;
    if (second->time <= first->time) return INVALID_ARGUMENT;
    for (unsigned i = 0; i < question->count; i++) {
        GpmMetric *metric = &question->metrics[i];
        metric->result = NOT_SUPPORTED;
        for (int m = 0; m < GPM_METRICS; m++)
            if (ids[m] == metric->id) {
                const Device device = {second->gpu, second->place - 1};
                metric->value = (second->counts[m] - first->counts[m]) / (double)(second->time - first->time);
                metric->result = find_of(&device, gpm_fields[m]) ? SUCCESS : NOT_SUPPORTED;
            }
    }
    return SUCCESS;
}
int nvmlDeviceGetGpuInstanceId(Device *device, unsigned *id) {
    if (device->instance == WHOLE) return INVALID_ARGUMENT;
    *id = (unsigned)number_of(device, "gpu_instance", device->instance + 1);
    return SUCCESS;
}
int nvmlDeviceGetAttributes_v2(Device *device, Attributes *attributes) {
    memset(attributes, 0, sizeof *attributes);
    attributes->gpu_slices = (unsigned)number_of(device, "slices", 0);
    return device->instance == WHOLE ? INVALID_ARGUMENT : result_of(device, "slices");
}
#endif
