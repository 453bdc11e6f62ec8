{{/* Labels that select the pods of a role: (dict "role" "control" "root" $). */}}
{{- define "cocoon.selector" -}}
app.kubernetes.io/name: cocoon
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "cocoon.labels" -}}
{{ include "cocoon.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* The name of a role's objects. */}}
{{- define "cocoon.name" -}}
{{ .root.Release.Name }}-{{ .role }}
{{- end }}

{{/* What is the same in the pods of all roles. Nothing is root, nothing is writable but what is mounted. */}}
{{- define "cocoon.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* What is the same in the containers of all roles. */}}
{{- define "cocoon.container" -}}
image: {{ printf "%s:%s" .root.Values.image.repository (default .root.Chart.AppVersion .root.Values.image.tag) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* How a role reaches the network. */}}
{{- define "cocoon.env" -}}
- name: NATS_URL
  value: {{ required "nats.url is required" .root.Values.nats.url | quote }}
{{- if .values.credsSecret }}
- name: NATS_CREDS
  value: /etc/cocoon/nats/nats.creds
{{- end }}
{{- end }}

{{/* Mounts of trust, log-in and simulated hardware. */}}
{{- define "cocoon.mounts" -}}
- {name: trust, mountPath: /etc/cocoon/trust, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if .values.credsSecret }}
- {name: creds, mountPath: /etc/cocoon/nats, readOnly: true}
{{- end }}
{{- if .root.Values.simulated.enabled }}
- {name: hardware, mountPath: /var/lib/cocoon/hardware}
{{- end }}
{{- end }}

{{/* Volumes of the same. */}}
{{- define "cocoon.volumes" -}}
- name: trust
  configMap: {name: {{ required "trust.configMap is required" .root.Values.trust.configMap | quote }}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
{{- if .values.credsSecret }}
- name: creds
  secret: {secretName: {{ .values.credsSecret | quote }}, defaultMode: 0400}
{{- end }}
{{- if .root.Values.simulated.enabled }}
- name: hardware
  persistentVolumeClaim: {claimName: {{ required "simulated.claim is required with simulated.enabled" .root.Values.simulated.claim | quote }}}
{{- end }}
{{- end }}

{{/* Probes on the port of the metrics. */}}
{{- define "cocoon.probes" -}}
livenessProbe: {httpGet: {path: /healthz, port: metrics}, periodSeconds: 10, failureThreshold: 6}
readinessProbe: {httpGet: {path: /readyz, port: metrics}, periodSeconds: 5}
{{- end }}
