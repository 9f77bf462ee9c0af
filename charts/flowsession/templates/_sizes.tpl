{{/*
The VMSizes of this release, as {name: {spec, class}}: what sizes.catalogue selects of files/aks-sizes.yaml, changed by sizes.override,
and sizes.extra. class: whether the chart makes a PriorityClass for it.
*/}}
{{- define "flowsession.sizes" -}}
{{- $root := . -}}
{{- $values := .Values.sizes -}}
{{- $table := .Files.Get "files/aks-sizes.yaml" | fromYaml -}}
{{- $chosen := dict -}}
{{- range $pattern := $values.catalogue -}}
{{- $expression := printf "^%s$" ($pattern | replace "." "\\." | replace "*" ".*" | replace "?" ".") -}}
{{- $found := false -}}
{{- range $azureName, $size := $table -}}
{{- if regexMatch $expression $azureName -}}
{{- $found = true -}}
{{- $_ := set $chosen $azureName (include "flowsession.catalogued" (list $root $azureName $size) | fromYaml) -}}
{{- end -}}
{{- end -}}
{{- if not $found -}}
{{- fail (printf "sizes.catalogue: no size of files/aks-sizes.yaml is called %q; mind capital letters, or describe it in sizes.extra" $pattern) -}}
{{- end -}}
{{- end -}}
{{- range $azureName, $override := $values.override -}}
{{- if not (hasKey $chosen $azureName) -}}
{{- fail (printf "sizes.override: %q is not selected by sizes.catalogue" $azureName) -}}
{{- end -}}
{{- /* Members are replaced, not merged: a nodeSelector of one's own shall not keep the catalogue's labels. */ -}}
{{- range $member, $value := $override -}}
{{- $_ := set (get $chosen $azureName) $member $value -}}
{{- end -}}
{{- end -}}
{{- range $spec := $values.extra -}}
{{- if hasKey $chosen $spec.azureName -}}
{{- fail (printf "sizes.extra: %q is there already; change it by sizes.override" $spec.azureName) -}}
{{- end -}}
{{- $_ := set $chosen $spec.azureName $spec -}}
{{- end -}}
{{- $sizes := dict -}}
{{- range $azureName, $given := $chosen -}}
{{- $spec := deepCopy $given -}}
{{- /* People write cpu: 2; a VMSize has strings. */ -}}
{{- range $member := list "capacity" "requests" -}}
{{- range $resource, $quantity := get $spec $member | default dict -}}{{- $_ := set (get $spec $member) $resource (toString $quantity) -}}{{- end -}}
{{- end -}}
{{- if hasKey $spec "pricePerHour" -}}{{- $_ := set $spec "pricePerHour" (toString $spec.pricePerHour) -}}{{- end -}}
{{- $name := $azureName | lower | replace "_" "-" -}}
{{- $class := not (hasKey $spec "priorityClassName") -}}
{{- $full := merge (dict "azureName" $azureName) $spec -}}
{{- if $class -}}
{{- $full = merge (dict "priorityClassName" (printf "flowsession-%s" $name)) $full -}}
{{- end -}}
{{- $_ := set $sizes $name (dict "spec" $full "class" $class) -}}
{{- end -}}
{{- toYaml $sizes -}}
{{- end }}

{{/* The spec of a size of the catalogue, before sizes.override: (list . azureName row). */}}
{{- define "flowsession.catalogued" -}}
{{- $root := index . 0 }}{{ $azureName := index . 1 }}{{ $size := index . 2 -}}
capacity:
  cpu: {{ $size.cpu | toString | quote }}
  memory: {{ $size.memory }}
  {{- with $size.disk }}
  ephemeral-storage: {{ . }}
  {{- end }}
  {{- with $size.gpus }}
  nvidia.com/gpu: {{ . | toString | quote }}
  {{- end }}
{{- with $size.price }}
pricePerHour: {{ . | quote }}
{{- end }}
nodeSelector:
  node.kubernetes.io/instance-type: {{ $azureName }}
userIsolation: {{ $root.Values.sizes.userIsolation }}
{{- if $size.gpus }}
{{- /* A session for each GPU, and only when it is named: nobody shall get an expensive node unasked. */}}
sessionsPerNode: {{ $size.gpus }}
autoSelect: false
tolerations:
  - {key: sku, operator: Equal, value: gpu, effect: NoSchedule}
  - {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}
{{- else }}
sessionsPerNode: {{ $root.Values.sizes.sessionsPerNode }}
{{- end }}
{{- end }}
