"""Who listens where the exporter should: nobody, another program, or an exporter, which then is asked how it is."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

from prometheus_client.parser import text_string_to_metric_families

from mlops_exporter import __version__
from mlops_exporter.doctor.findings import Finding, ok, problem, warning
from mlops_exporter.judging.status import Report
from mlops_exporter.profile.parsing import JsonError, parsed
from mlops_exporter.service.healthcheck import PATH, Access
from mlops_exporter.settings.document import ConfigError
from mlops_exporter.settings.durations import format_duration
from mlops_exporter.web.server import ListenError, listen

AREA = "exporter"

COLLECTORS = ("model", "data", "groups")
"""Those whose samples tell what became of events."""

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Running:
    """An exporter that answers: what it says of itself, and the samples of some metrics by name.

    `switched_off` names collectors that were asked for their samples and do not run: their silence means nothing.
    """

    access: Access
    report: Report
    samples: dict[str, list[tuple[Labels, float]]]
    switched_off: frozenset[str] = frozenset()

    def values(self, metric: str, **labels: str) -> list[tuple[Labels, float]]:
        """Return the samples of a metric that have these labels."""
        return [sample for sample in self.samples.get(metric, ()) if labels.items() <= sample[0].items()]

    def total(self, metric: str, **labels: str) -> float:
        """Return their sum, 0 without any."""
        return sum(value for _, value in self.values(metric, **labels))


def find(access: Access, telemetry_path: str, config_file: str) -> tuple[list[Finding], Running | None]:
    """Return what is at a listen address, and the exporter if it is one."""
    address = access.address
    elsewhere = f"stop it (ss -ltnp 'sport = :{address.rpartition(':')[2]}' names it), or choose another address with "
    elsewhere += "--web.listen-address"
    try:
        status, body = access.get("/api/v1/status")
    except ConnectionRefusedError:
        return [_free(address, config_file)], None
    except TimeoutError:
        what = f"something holds {address} and does not answer within 5 s"
        return [problem(AREA, what, f"if it is the exporter, see its log; else {elsewhere}")], None
    except ConfigError as error:
        return [problem(AREA, str(error), "correct the file named with --web.config.file")], None
    except ListenError:
        return [_free(address, config_file)], None
    except OSError as error:
        remedy = "if it is an exporter with TLS, name its --web.config.file (and --client.cert-file); if not, "
        return [problem(AREA, f"something holds {address}, but: {error}", remedy + elsewhere)], None
    if status == 401:
        remedy = "give a file with USER:PASSWORD to --credentials.file"
        return [problem(AREA, f"what listens at {access.url} asks for a password", remedy)], None
    try:
        report = parsed(body, Report)
    except JsonError:
        what = f"{access.url} is no mlops-exporter of this version: /api/v1/status answers {status}"
        return [problem(AREA, what, elsewhere)], None
    running = Running(access, report, *_samples(access, telemetry_path))
    return list(_health(running, config_file, telemetry_path)), running


def _free(address: str, config_file: str) -> Finding:
    try:
        for listener in listen([address]):
            listener.close()
    except ListenError as error:
        return problem(AREA, f"{address} cannot be listened on", str(error))
    start = f"mlops-exporter run --config.file={config_file} starts it"
    return warning(AREA, f"nothing listens at {address}: no exporter runs there", f"{start}; then run doctor again")


def _samples(access: Access, telemetry_path: str) -> tuple[dict[str, list[tuple[Labels, float]]], frozenset[str]]:
    """Return the samples of the collectors that the doctor reads, and which of those are switched off."""
    samples: dict[str, list[tuple[Labels, float]]] = {}
    off: set[str] = set()
    for collector in COLLECTORS:
        status, body = access.get(f"{telemetry_path}?{urlencode({'collect[]': collector})}")
        if status == 400:  # only then is the path that of the metrics, and the collector unknown to it
            off.add(collector)
        if status == 200:
            for family in text_string_to_metric_families(body.decode()):
                for sample in family.samples:
                    samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples, frozenset(off)


def _health(running: Running, config_file: str, telemetry_path: str) -> Iterator[Finding]:
    report, url = running.report, running.access.url
    age = format_duration(max(0, round(report.time - report.started)))
    yield ok(AREA, f"mlops-exporter {report.version} has run at {url} for {age}")
    if report.version != __version__:
        remedy = "restart it to run what is installed, or run the doctor of its own installation"
        yield warning(AREA, f"it runs {report.version}, this doctor is of {__version__}", remedy)
    status, body = running.access.get(PATH, limit=1000)
    if status != 200:
        said = body.decode(errors="replace").strip().removeprefix("not ready: ")
        remedy = "events are refused until this is over: see state and sources below, and its log"
        yield problem(AREA, f"it is not ready: {said}", remedy)
    for collector in sorted(running.switched_off):
        yield ok(AREA, f"its collector {collector} is switched off: what rests on those metrics is not examined")
    if not running.samples and not running.switched_off:
        remedy = "give its --web.telemetry-path to doctor and as metrics_path to Prometheus"
        yield problem(AREA, f"{url}{telemetry_path} gives no metrics", remedy)
    for notice in report.errors:
        times = "once" if notice.count == 1 else f"{notice.count} times"
        ago = format_duration(max(0, round(report.time - notice.last)))
        yield warning(AREA, f"it logged {times}, last {ago} ago: {notice.message}", "see its log for what preceded it")
