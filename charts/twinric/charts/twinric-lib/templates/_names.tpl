{{- define "twinric.fullname" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* Selector labels of component `name` of this release: (dict "root" . "name" "ric"). */ -}}
{{- define "twinric.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "twinric.labels" -}}
{{ include "twinric.selector" (dict "root" . "name" .Chart.Name) }}
app.kubernetes.io/part-of: twinric
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "twinric.image" -}}
{{- $global := .Values.global.image -}}
{{- printf "%s%s:%s" $global.registry .Values.image.repository (.Values.image.tag | default $global.tag | default .Chart.AppVersion) | quote -}}
{{- end -}}

{{- define "twinric.kafkaServers" -}}
{{- .Values.global.kafka.servers | default (printf "%s-kafka:9092" .Release.Name) -}}
{{- end -}}

{{- /* Settings that follow from the release; a component's own `config` is laid over them. */ -}}
{{- define "twinric.appSettings" -}}
{{- $ric := printf "%s-ric" .Release.Name -}}
bus_url: kafka://{{ include "twinric.kafkaServers" . }}
e2_address: {{ $ric }}:5151
a1_address: {{ $ric }}:9001
a1_url: http://{{ $ric }}:9000
health_host: 0.0.0.0
health_port: 8080
clock: {{ .Values.global.clock }}
{{- if .Values.e3 }}
e3_setup_endpoint: {{ tpl .Values.e3.setup . }}
e3_inbound_endpoint: {{ tpl .Values.e3.inbound . }}
e3_outbound_endpoint: {{ tpl .Values.e3.outbound . }}
{{- end }}
{{- if .Values.a1TokenSecretName }}
a1_token_file: /etc/twinric/token/token
{{- end }}
{{- end -}}
