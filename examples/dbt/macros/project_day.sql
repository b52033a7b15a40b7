{# The day of an instant in the project's time zone, as Mixpanel counts it. `event_time` is UTC. #}
{% macro project_day(instant) -%}
  {%- if var('project_timezone') == 'UTC' -%}
    {{ instant }}::date
  {%- else -%}
    ({{ instant }} at time zone 'UTC' at time zone '{{ var('project_timezone') }}')::date
  {%- endif -%}
{%- endmacro %}
