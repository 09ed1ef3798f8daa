{{/* The base of every name: the release's, and "berth" once. */}}
{{- define "berth.fullname" -}}
{{- if contains "berth" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-berth" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels of every object. Call with (dict "root" $ "component" "operator"). */}}
{{- define "berth.labels" -}}
{{ include "berth.selectorLabels" . }}
app.kubernetes.io/part-of: berth
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* Labels that select: they never change. */}}
{{- define "berth.selectorLabels" -}}
app.kubernetes.io/name: berth
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* An image reference. Call with (dict "root" $ "image" .Values.operator.image). */}}
{{- define "berth.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "berth.operatorImage" -}}
{{ include "berth.image" (dict "root" . "image" .Values.operator.image) }}
{{- end -}}

{{- define "berth.registryImage" -}}
{{ include "berth.image" (dict "root" . "image" .Values.registry.image) }}
{{- end -}}

{{/* The agent's image: its own, or else the operator's, of which it is a subcommand. */}}
{{- define "berth.nodeAgentImage" -}}
{{- if .Values.nodeAgent.image.repository -}}
{{ include "berth.image" (dict "root" . "image" .Values.nodeAgent.image) }}
{{- else -}}
{{ include "berth.operatorImage" . }}
{{- end -}}
{{- end -}}
