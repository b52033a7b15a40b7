{#
  Read a property as a typed column. NULL if the property has another type: nothing is converted.
  Types, as in the tap's event_columns: string, number, integer (64 bits), boolean, date-time (text by ISO 8601, in UTC).
#}
{% macro property(name, type='string') -%}
  case when {{ adapter.dispatch('has_type')(name, type) }} then {{ cast_text(property_text(name), type) }} end
{%- endmacro %}

{# Read a property that holds milliseconds since 1970 as a timestamp in UTC. #}
{% macro milliseconds_property(name) -%}
  {%- set milliseconds = property(name, 'integer') -%}
  {#- Until the end of the year 9999. -#}
  case when {{ milliseconds }} between 0 and 253402300799999 then {{ adapter.dispatch('timestamp_from_milliseconds')(milliseconds) }} end
{%- endmacro %}

{% macro duckdb__timestamp_from_milliseconds(milliseconds) -%}
  epoch_ms({{ milliseconds }})
{%- endmacro %}

{% macro postgres__timestamp_from_milliseconds(milliseconds) -%}
  to_timestamp({{ milliseconds }} / 1000.0) at time zone 'UTC'
{%- endmacro %}

{% macro bigquery__timestamp_from_milliseconds(milliseconds) -%}
  timestamp_millis({{ milliseconds }})
{%- endmacro %}

{# Read a property as text, whatever its type. #}
{% macro property_text(name) -%}
  {{ adapter.dispatch('property_text')(name) }}
{%- endmacro %}

{% macro duckdb__property_text(name) -%}
  (properties ->> '$."{{ dbt.escape_single_quotes(name) }}"')
{%- endmacro %}

{% macro postgres__property_text(name) -%}
  (properties ->> '{{ dbt.escape_single_quotes(name) }}')
{%- endmacro %}

{% macro bigquery__property_text(name) -%}
  json_value(properties, '$."{{ dbt.escape_single_quotes(name) }}"')
{%- endmacro %}

{# Whether a property has the JSON type that a column of this type needs. #}
{% macro duckdb__has_type(name, type) -%}
  {%- set json_types = {'number': "'BIGINT', 'UBIGINT', 'DOUBLE'", 'integer': "'BIGINT', 'UBIGINT'", 'boolean': "'BOOLEAN'"} -%}
  json_type(properties, '$."{{ dbt.escape_single_quotes(name) }}"') in ({{ json_types.get(type, "'VARCHAR'") }})
{%- endmacro %}

{% macro postgres__has_type(name, type) -%}
  {%- set json_types = {'number': 'number', 'integer': 'number', 'boolean': 'boolean'} -%}
  jsonb_typeof(properties -> '{{ dbt.escape_single_quotes(name) }}') = '{{ json_types.get(type, 'string') }}'
{%- endmacro %}

{# `properties` is JSON text in BigQuery. JSON_QUERY keeps the quotes of a string. #}
{% macro bigquery__has_type(name, type) -%}
  {%- set patterns = {'number': '^[-0-9]', 'integer': '^-?[0-9]+$', 'boolean': '^[tf]'} -%}
  regexp_contains(json_query(properties, '$."{{ dbt.escape_single_quotes(name) }}"'), '{{ patterns.get(type, '^"') }}')
{%- endmacro %}

{# The type of 64-bit floating-point numbers. In DuckDB, dbt.type_float() has 32 bits. #}
{% macro type_double() -%}
  {{ 'float64' if target.type == 'bigquery' else 'double precision' }}
{%- endmacro %}

{# Cast text to a type of `property`. NULL if the text does not fit. #}
{% macro cast_text(text, type) -%}
  {%- if type == 'string' -%}
    {{ text }}
  {%- else -%}
    {%- set types = {
      'number': type_double(),
      'integer': dbt.type_bigint(),
      'boolean': dbt.type_boolean(),
      'date-time': dbt.type_timestamp(),
    } -%}
    {{ adapter.dispatch('cast_text')(text, types[type]) }}
  {%- endif -%}
{%- endmacro %}

{% macro duckdb__cast_text(text, type) -%}
  try_cast({{ text }} as {{ type }})
{%- endmacro %}

{% macro bigquery__cast_text(text, type) -%}
  safe_cast({{ text }} as {{ type }})
{%- endmacro %}

{# pg_input_is_valid needs PostgreSQL 16. #}
{% macro postgres__cast_text(text, type) -%}
  {%- if type == dbt.type_timestamp() -%}
    {#- A cast to timestamp ignores the offset, and a cast to timestamptz takes text without one for local time. -#}
    {%- set instant = text ~ " || case when " ~ text ~ " ~ '(Z|[+-][0-9]{2}:?[0-9]{2})$' then '' else 'Z' end" -%}
    case when {{ text }} like '____-__-__%' and pg_input_is_valid({{ instant }}, 'timestamptz') then cast({{ instant }} as timestamptz) at time zone 'UTC' end
  {%- else -%}
    case when pg_input_is_valid({{ text }}, '{{ type }}') then cast({{ text }} as {{ type }}) end
  {%- endif -%}
{%- endmacro %}
