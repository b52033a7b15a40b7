{# A property of an event or a profile, typed. A value of another type is NULL here, and still stands in `properties`. #}
{% macro property(name, type='varchar') -%}
  try_cast(properties ->> '$."{{ name }}"' as {{ type }})
{%- endmacro %}
