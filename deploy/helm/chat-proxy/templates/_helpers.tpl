{{- define "chat-proxy.name" -}}
{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "chat-proxy.selector" -}}
app.kubernetes.io/name: chat-proxy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "chat-proxy.metadata" -}}
name: {{ include "chat-proxy.name" . }}
labels:
  {{- include "chat-proxy.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "chat-proxy.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{- /* The text as it is, since YAML that is read and written anew is not the same (`off` becomes `false`). */ -}}
{{- define "chat-proxy.config" -}}
{{- $config := fromYaml .Values.config -}}
{{- with $config.Error }}{{ fail (printf "config is not YAML: %s" .) }}{{ end -}}
{{- $seconds := .Values.drainSeconds | int | toString -}}
{{- if not (hasKey $config "server") -}}
server: {drain_s: {{ $seconds }}}
{{ else if ne (get ($config.server | default dict) "drain_s" | toString) "${DRAIN_SECONDS}" -}}
{{- fail "config: say `server: {drain_s: \"${DRAIN_SECONDS}\"}`, which becomes the value of drainSeconds" }}
{{- end -}}
{{- .Values.config | replace "\"${DRAIN_SECONDS}\"" $seconds | replace "${DRAIN_SECONDS}" $seconds | trim -}}
{{- end }}
