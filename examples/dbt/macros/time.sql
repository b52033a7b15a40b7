{# Add a number of units to a timestamp. Without the cast, BigQuery would return a DATETIME. #}
{% macro add_time(instant, number, unit) -%}
  cast({{ dbt.dateadd(unit, number, instant) }} as {{ dbt.type_timestamp() }})
{%- endmacro %}

{# The day of a timestamp in the project's time zone, by which Mixpanel counts. The timestamp is in UTC. #}
{% macro project_day(instant) -%}
  {{ adapter.dispatch('project_day')(instant, var('project_timezone')) }}
{%- endmacro %}

{% macro default__project_day(instant, zone) -%}
  cast({{ instant }} at time zone 'UTC' at time zone '{{ zone }}' as date)
{%- endmacro %}

{% macro bigquery__project_day(instant, zone) -%}
  date({{ instant }}, '{{ zone }}')
{%- endmacro %}

{# A table with the column `day`: all days from the first to the last. Use it after `cross join`. #}
{% macro days_between(first, last) -%}
  {{ adapter.dispatch('days_between')(first, last) }}
{%- endmacro %}

{% macro duckdb__days_between(first, last) -%}
  unnest(generate_series({{ first }}, {{ last }}, interval 1 day)) as series(day)
{%- endmacro %}

{% macro postgres__days_between(first, last) -%}
  generate_series({{ first }}, {{ last }}, interval '1 day') as series(day)
{%- endmacro %}

{% macro bigquery__days_between(first, last) -%}
  unnest(generate_date_array({{ first }}, {{ last }})) as day
{%- endmacro %}
