{# A property that holds milliseconds since 1970 in UTC. #}
{% macro instant(name) -%}
  epoch_ms({{ property(name, 'bigint') }})
{%- endmacro %}
