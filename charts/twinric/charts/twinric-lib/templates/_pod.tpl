{{- define "twinric.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "twinric.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* How the brokers are trusted: TWINRIC_KAFKA__* as ric.bus.kafka_clients.KafkaSettings reads them. */ -}}
{{- define "twinric.kafkaEnvironment" -}}
{{- $kafka := .Values.global.kafka }}
- {name: TWINRIC_KAFKA__SECURITY_PROTOCOL, value: {{ $kafka.securityProtocol | quote }}}
{{- if $kafka.topicPrefix }}
- {name: TWINRIC_KAFKA__TOPIC_PREFIX, value: {{ $kafka.topicPrefix | quote }}}
{{- end }}
{{- if hasPrefix "SASL" $kafka.securityProtocol }}
- {name: TWINRIC_KAFKA__SASL_MECHANISM, value: {{ $kafka.saslMechanism | quote }}}
- {name: TWINRIC_KAFKA__SASL_USERNAME, value: {{ $kafka.saslUsername | quote }}}
- {name: TWINRIC_KAFKA__SASL_PASSWORD_FILE, value: /etc/twinric/kafka/password}
{{- end }}
{{- if and $kafka.secretName (contains "SSL" $kafka.securityProtocol) }}
- {name: TWINRIC_KAFKA__CA_FILE, value: /etc/twinric/kafka/ca.crt}
{{- end }}
{{- if and $kafka.secretName (eq $kafka.securityProtocol "SSL") }}
- {name: TWINRIC_KAFKA__CERTIFICATE_FILE, value: /etc/twinric/kafka/tls.crt}
- {name: TWINRIC_KAFKA__KEY_FILE, value: /etc/twinric/kafka/tls.key}
{{- end }}
{{- end -}}

{{- define "twinric.probes" -}}
{{- if .Values.tcpProbePort }}
livenessProbe:
  tcpSocket: {port: {{ .Values.tcpProbePort }}}
  periodSeconds: 10
  failureThreshold: 6
readinessProbe:
  tcpSocket: {port: {{ .Values.tcpProbePort }}}
  periodSeconds: 5
{{- else }}
startupProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 10
  timeoutSeconds: 3
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
  timeoutSeconds: 3
{{- end }}
{{- end -}}

{{- /* Pod template: (dict "root" . "command" (list ...) "settings" "yaml text, may be empty"). */ -}}
{{- define "twinric.pod" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
metadata:
  labels:
    {{- include "twinric.labels" $root | nindent 4 }}
  annotations:
    checksum/config: {{ .settings | sha256sum }}
    {{- if not $values.tcpProbePort }}
    prometheus.io/scrape: "true"
    prometheus.io/port: "8080"
    {{- end }}
spec:
  serviceAccountName: {{ include "twinric.fullname" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 10
  {{- with $values.global.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    {{- include "twinric.podSecurity" $root | nindent 4 }}
  containers:
    - name: {{ $root.Chart.Name }}
      image: {{ include "twinric.image" $root }}
      imagePullPolicy: {{ $values.global.image.pullPolicy }}
      command: {{ .command | toJson }}
      env:
        {{- include "twinric.kafkaEnvironment" $root | trim | nindent 8 }}
        {{- range $values.extraEnvironment }}
        - {{ toYaml . | nindent 10 | trim }}
        {{- end }}
      ports:
        {{- range $values.ports }}
        - {name: {{ .name }}, containerPort: {{ .port }}}
        {{- end }}
      {{- include "twinric.probes" $root | nindent 6 }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        {{- include "twinric.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if .settings }}
        - {name: config, mountPath: /etc/twinric/config, readOnly: true}
        {{- end }}
        {{- if $values.global.kafka.secretName }}
        - {name: kafka, mountPath: /etc/twinric/kafka, readOnly: true}
        {{- end }}
        {{- if $values.a1TokenSecretName }}
        - {name: token, mountPath: /etc/twinric/token, readOnly: true}
        {{- end }}
        {{- range $values.secretMounts }}
        - {name: {{ printf "secret-%s" .secretName }}, mountPath: {{ .mountPath }}, readOnly: true}
        {{- end }}
        {{- if $values.persistence }}
        - {name: data, mountPath: /var/lib/twinric}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 256Mi}
    {{- if .settings }}
    - name: config
      configMap: {name: {{ include "twinric.fullname" $root }}}
    {{- end }}
    {{- if $values.global.kafka.secretName }}
    - name: kafka
      secret: {secretName: {{ $values.global.kafka.secretName }}, defaultMode: 0440}
    {{- end }}
    {{- if $values.a1TokenSecretName }}
    - name: token
      secret: {secretName: {{ $values.a1TokenSecretName }}, defaultMode: 0440}
    {{- end }}
    {{- range $values.secretMounts }}
    - name: {{ printf "secret-%s" .secretName }}
      secret: {secretName: {{ .secretName }}, defaultMode: 0440}
    {{- end }}
    {{- if $values.persistence }}
    - name: data
      {{- if $values.persistence.enabled }}
      persistentVolumeClaim: {claimName: {{ $values.persistence.existingClaim | default (include "twinric.fullname" $root) }}}
      {{- else }}
      emptyDir: {}
      {{- end }}
    {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
{{- end -}}
