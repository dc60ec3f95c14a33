{{- define "mlops-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "mlops-exporter.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "mlops-exporter.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "mlops-exporter.selector" -}}
app.kubernetes.io/name: {{ include "mlops-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mlops-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "mlops-exporter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "mlops-exporter.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* What both modes have in common in a container: a read-only root, no rights, no other user than 10042. */}}
{{- define "mlops-exporter.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10042
runAsGroup: 10042
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "mlops-exporter.args" -}}
- run
- --config.file=/etc/mlops-exporter/mlops-exporter.yml
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* The exporter's own command knows about TLS, which the kubelet does not. Not ready is no reason to be restarted. */}}
{{- define "mlops-exporter.probes" -}}
startupProbe:
  exec: {command: [mlops-exporter, healthcheck]}
  periodSeconds: 5
  timeoutSeconds: 6
  failureThreshold: 60
livenessProbe:
  tcpSocket: {port: http}
  periodSeconds: 20
  timeoutSeconds: 6
  failureThreshold: 6
readinessProbe:
  exec: {command: [mlops-exporter, healthcheck]}
  periodSeconds: 15
  timeoutSeconds: 6
{{- end -}}

{{- define "mlops-exporter.env" -}}
{{- if .Values.web.existingSecret }}
- name: MLOPS_EXPORTER_WEB_CONFIG_FILE
  value: /etc/mlops-exporter/web/web.yml
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mlops-exporter.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if eq .Values.mode "models" -}}
{{- if .Values.state.enabled -}}
{{- $config = mergeOverwrite (dict "state" (dict "path" "/var/lib/mlops-exporter")) $config -}}
{{- end -}}
{{- if or .Values.models .Values.existingModelsConfigMap -}}
{{- $_ := set $config "models_dir" "models" -}}
{{- end -}}
{{- else -}}
{{- $compute := dict "root" "/host" "scope" "host" -}}
{{- with .Values.compute.workloads -}}
{{- $_ := set $compute "workloads" . -}}
{{- end -}}
{{- $config = mergeOverwrite (dict "sources" list "compute" $compute) $config -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* "yes" where nodes are watched and a workload is given by labels of pods, which only the API server tells. */}}
{{- define "mlops-exporter.asksForLabels" -}}
{{- if eq .Values.mode "compute" -}}
{{- $config := include "mlops-exporter.config" . | fromYaml -}}
{{- $asks := "" -}}
{{- range $config.compute.workloads -}}
{{- if kindIs "map" .pod -}}
{{- if .pod.labels -}}
{{- $asks = "yes" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $asks -}}
{{- end -}}
{{- end -}}

{{/* Of the whole cluster, so that two releases of one name do not share it. */}}
{{- define "mlops-exporter.role" -}}
{{ .Release.Namespace }}-{{ include "mlops-exporter.fullname" . }}-pods
{{- end -}}
