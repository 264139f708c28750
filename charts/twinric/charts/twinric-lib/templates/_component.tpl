{{- /* All objects of one app: (dict "root" . "module" "xapps.hems_load"). */ -}}
{{- define "twinric.app" -}}
{{- $settings := mergeOverwrite (include "twinric.appSettings" .root | fromYaml) (.root.Values.config | default dict) | toYaml -}}
{{- $command := list "python" "-m" .module "--config" "/etc/twinric/config/config.yaml" -}}
{{- include "twinric.component" (dict "root" .root "command" $command "settings" $settings) -}}
{{- end -}}

{{- /* All objects of one component: (dict "root" . "command" (list ...) "settings" "yaml text, may be empty"). */ -}}
{{- define "twinric.component" -}}
{{- $root := .root -}}
{{- $name := include "twinric.fullname" $root -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  labels:
    {{- include "twinric.labels" $root | nindent 4 }}
automountServiceAccountToken: false
{{- if .settings }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}
  labels:
    {{- include "twinric.labels" $root | nindent 4 }}
data:
  config.yaml: |
    {{- .settings | nindent 4 }}
{{- end }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels:
    {{- include "twinric.labels" $root | nindent 4 }}
spec:
  replicas: 1
  # Never two at once: two producers of one twin would fork its hash chain.
  strategy: {type: Recreate}
  selector:
    matchLabels:
      {{- include "twinric.selector" (dict "root" $root "name" $root.Chart.Name) | nindent 6 }}
  template:
    {{- include "twinric.pod" . | nindent 4 }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels:
    {{- include "twinric.labels" $root | nindent 4 }}
spec:
  selector:
    {{- include "twinric.selector" (dict "root" $root "name" $root.Chart.Name) | nindent 4 }}
  ports:
    {{- range $root.Values.ports }}
    - {name: {{ .name }}, port: {{ .port }}, targetPort: {{ .name }}}
    {{- end }}
{{- with $root.Values.persistence }}
{{- if and .enabled (not .existingClaim) }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ $name }}
  labels:
    {{- include "twinric.labels" $root | nindent 4 }}
spec:
  accessModes: [ReadWriteOnce]
  {{- with .storageClassName }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests: {storage: {{ .size }}}
{{- end }}
{{- end }}
{{- if $root.Values.global.networkPolicies }}
---
{{ include "twinric.networkPolicy" $root }}
{{- end }}
{{- end -}}

{{- /* In: the declared ports from the declared components. Out: DNS, the bus, the declared components and ports. */ -}}
{{- define "twinric.networkPolicy" -}}
{{- $root := . -}}
{{- $network := .Values.network -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "twinric.fullname" . }}
  labels:
    {{- include "twinric.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "twinric.selector" (dict "root" . "name" .Chart.Name) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- range .Values.ports }}
    - ports: [{protocol: TCP, port: {{ .port }}}]
      {{- if .from }}
      from:
        {{- range .from }}
        - podSelector:
            matchLabels:
              {{- include "twinric.selector" (dict "root" $root "name" .) | nindent 14 }}
        {{- end }}
        {{- if .alsoFrom }}
        {{- toYaml .alsoFrom | nindent 8 }}
        {{- end }}
      {{- else if eq .name "health" }}
      from: [{namespaceSelector: {}}]
      {{- else if .alsoFrom }}
      from:
        {{- toYaml .alsoFrom | nindent 8 }}
      {{- else }}
      from: [{podSelector: {}}]
      {{- end }}
    {{- end }}
  egress:
    - ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
    {{- if $network.bus }}
    {{- if .Values.global.kafka.servers }}
    - ports:
        {{- range splitList "," .Values.global.kafka.servers }}
        - {protocol: TCP, port: {{ last (splitList ":" .) }}}
        {{- end }}
    {{- else }}
    - ports: [{protocol: TCP, port: 9092}]
      to:
        - podSelector:
            matchLabels:
              {{- include "twinric.selector" (dict "root" . "name" "kafka") | nindent 14 }}
    {{- end }}
    {{- end }}
    {{- range $network.to }}
    - ports:
        {{- range .ports }}
        - {protocol: TCP, port: {{ . }}}
        {{- end }}
      to:
        - podSelector:
            matchLabels:
              {{- include "twinric.selector" (dict "root" $root "name" .component) | nindent 14 }}
    {{- end }}
    {{- with $network.alsoTo }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
