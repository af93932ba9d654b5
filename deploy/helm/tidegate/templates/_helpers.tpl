{{- define "tidegate.name" -}}
{{- if contains "tidegate" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-tidegate" (.Release.Name | trunc 41) }}{{ end -}}
{{- end }}

{{- define "tidegate.selector" -}}
app.kubernetes.io/name: tidegate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tidegate.labels" -}}
{{ include "tidegate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- /* Whether more than one pod serves at a time: they share their state in Redis, and updates replace one by one. */ -}}
{{- define "tidegate.fleet" -}}
{{- if eq .Values.state.kind "redis" }}yes{{ end -}}
{{- end }}

{{- define "tidegate.checked" -}}
{{- if and (not (include "tidegate.fleet" .)) (or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled) -}}
{{- fail "several replicas need a state that they share: set state.kind to redis (docs/fleet.md)" -}}
{{- end -}}
{{- end }}

{{- /* The tolerance of an autoscaler, as the routes have it for the pool: the gateway reckons with the same one. */ -}}
{{- define "tidegate.tolerance" -}}
{{- $routes := .root.Values.routes -}}
{{- if kindIs "string" $routes -}}{{- $routes = fromYaml $routes -}}{{- end -}}
{{- $found := $routes -}}
{{- range list "pools" .pool "capacity" "hpa_tolerance" -}}
{{- if kindIs "map" $found -}}{{- $found = get $found . -}}{{- else -}}{{- $found = "" -}}{{- end -}}
{{- end -}}
{{- if and (ne (toString $found) "") (ne (toString $found) "0.1") -}}
tolerance: {{ $found }}
{{- end -}}
{{- end }}

{{- /* The want follows the load within seconds and has its own damping (docs/capacity.md), so the scaler adds none. */ -}}
{{- define "tidegate.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies: [{type: Pods, value: 1000, periodSeconds: 15}] # all at once; the routes say how many at a time
  {{- with include "tidegate.tolerance" . }}
  {{ . }}
  {{- end }}
scaleDown:
  stabilizationWindowSeconds: 0
  {{- with include "tidegate.tolerance" . }}
  {{ . }}
  {{- end }}
{{- end }}

{{- /* The namespaces that may reach the admin listener, as a list in YAML. */ -}}
{{- define "tidegate.admins" -}}
{{- $found := .Values.networkPolicy.admin -}}
{{- range .Values.engines -}}
{{- if and .scale (eq (dig "scale" "kind" "" .) "keda") -}}
{{- $found = append $found $.Values.networkPolicy.keda -}}
{{- end -}}
{{- end -}}
{{- $found | uniq | toYaml -}}
{{- end }}
