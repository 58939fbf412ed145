{{- define "appfn.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* `config` as entries of `env`. To a template numbers are floats; only JSON writes large ones in full. */}}
{{- define "appfn.config" -}}
{{- range $name, $value := .Values.config }}
- name: {{ $name }}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end }}
