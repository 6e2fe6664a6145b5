{{- define "steadfast.name" -}}
{{- if contains "steadfast" .Release.Name -}}{{ .Release.Name }}{{- else -}}{{ .Release.Name }}-steadfast{{- end -}}
{{- end -}}

{{- define "steadfast.selector" -}}
app.kubernetes.io/name: steadfast
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "steadfast.labels" -}}
{{ include "steadfast.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end -}}
