{{/* The chart's name, for labels. */}}
{{- define "flowsession.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* What every object's name begins with: the release's name, or release-flowsession where that doesn't hold the chart's name. */}}
{{- define "flowsession.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "flowsession.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "flowsession.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The Service where sessions say that edits wait. */}}
{{- define "flowsession.editsService" -}}
{{- printf "%s-edits" (include "flowsession.fullname" .) }}
{{- end }}

{{- define "flowsession.selectorLabels" -}}
app.kubernetes.io/name: {{ include "flowsession.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "flowsession.labels" -}}
{{ include "flowsession.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "flowsession.packageCacheSelectorLabels" -}}
app.kubernetes.io/name: {{ include "flowsession.name" . }}-packages
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Mi, Gi or Ti in bytes. */}}
{{- define "flowsession.bytes" -}}
{{- $unit := dict "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- mul (trimSuffix (substr 0 2 (regexFind "[MGT]i$" .)) . | int64) (get $unit (regexFind "[MGT]i$" .)) }}
{{- end }}

{{/* repository:tag of an image value, with the chart's appVersion as default tag: (list . .Values.runtime.image). */}}
{{- define "flowsession.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* The file that the operator reads: operator/flowsession/settings.py has its fields. */}}
{{- define "flowsession.settings" -}}
{{- $environment := deepCopy .Values.installer.environment }}
{{- with .Values.installer.proxy }}
{{- range $name, $value := dict "HTTP_PROXY" .http "HTTPS_PROXY" .https "NO_PROXY" .noProxy }}
{{- if $value }}{{ $_ := set $environment $name $value }}{{ end }}
{{- end }}
{{- end }}
{{- $installer := omit .Values.installer "proxy" "environment" "readFeedSecrets" }}
{{- $_ := set $installer "environment" $environment }}
{{- $session := deepCopy .Values.session }}
{{- /* People write cpu: 1; the operator's file has strings. */}}
{{- $resolver := deepCopy .Values.resolver }}
{{- range $pod := list $session $resolver }}
{{- range $kind := list "requests" "limits" }}
{{- range $resource, $quantity := get $pod $kind }}{{ $_ := set (get $pod $kind) $resource (toString $quantity) }}{{ end }}
{{- end }}
{{- end -}}
{{- $sizes := pick .Values.sizes "autoscaler" "maxPodsPerNode" }}
{{- $daemonsets := dict }}
{{- range $resource, $quantity := .Values.sizes.daemonsetRequests }}{{ $_ := set $daemonsets $resource (toString $quantity) }}{{ end }}
{{- $_ := set $sizes "daemonsetRequests" $daemonsets -}}
{{- $images := omit .Values.images "credentialsSecretName" }}
{{- if .Values.images.credentialsSecretName }}{{ $_ := set $images "credentialsFile" "/etc/flowsession-registries/.dockerconfigjson" }}{{ end }}
runtimeImage: {{ include "flowsession.image" (list . .Values.runtime.image) | quote }}
imagePullPolicy: {{ .Values.runtime.image.pullPolicy }}
agentVia: Direct
installer:
  {{- toYaml $installer | nindent 2 }}
{{- if .Values.packageCache.enabled }}
packageCache:
  url: {{ .Values.packageCache.url | default (printf "http://%s-packages.%s.svc:8080" (include "flowsession.fullname" .) .Release.Namespace) }}
  indexes:
    {{- toYaml .Values.packageCache.indexURLs | nindent 4 }}
{{- end }}
{{- if .Values.tracing.otlpEndpoint }}
tracing:
  {{- toYaml .Values.tracing | nindent 2 }}
{{- end }}
session:
  {{- toYaml $session | nindent 2 }}
sizes:
  {{- toYaml $sizes | nindent 2 }}
images:
  {{- toYaml $images | nindent 2 }}
resolver:
  {{- toYaml $resolver | nindent 2 }}
{{- end }}

{{/* The version of MutatingAdmissionPolicy that the cluster serves; empty: none. v1 is served from Kubernetes 1.36 on; before, only where it was switched on. */}}
{{- define "flowsession.mutatingPolicies" -}}
{{- $group := "admissionregistration.k8s.io" }}
{{- if or (.Capabilities.APIVersions.Has (printf "%s/v1/MutatingAdmissionPolicy" $group)) (semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version) -}}
{{ $group }}/v1
{{- else if .Capabilities.APIVersions.Has (printf "%s/v1beta1/MutatingAdmissionPolicy" $group) -}}
{{ $group }}/v1beta1
{{- end }}
{{- end }}
