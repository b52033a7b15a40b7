{# Print the Lexicon's descriptions as doc blocks for models/lexicon.md. #}
{% macro lexicon_docs() %}
  {%- set schemas = run_query(
    "select name, description, cast(properties as " ~ dbt.type_string() ~ ") as properties from "
    ~ source('mixpanel', 'lexicon_schemas') ~ " where entity_type = 'event' order by name"
  ) -%}
  {%- set events = [] -%}
  {%- set properties = [] -%}
  {%- for schema in schemas -%}
    {%- do events.append([schema['name'], schema['description']]) -%}
    {%- for name, property in (fromjson(schema['properties'] or '{}') or {}) | dictsort(case_sensitive=true) -%}
      {%- do properties.append([schema['name'], name, property.get('type'), property.get('description')]) -%}
    {%- endfor -%}
  {%- endfor -%}
  {{- lexicon_table('lexicon_events', ['event', 'description'], events) -}}
  {{- lexicon_table('lexicon_properties', ['event', 'property', 'type', 'description'], properties) -}}
{% endmacro %}

{% macro lexicon_table(block, headings, rows) %}
  {%- set lines = ['{' ~ '% docs ' ~ block ~ ' %}', 'From the Lexicon:', '', '| ' ~ headings | join(' | ') ~ ' |', '|' ~ '---|' * headings | length] -%}
  {%- for row in rows -%}
    {%- set cells = [] -%}
    {%- for cell in row -%}
      {#- Escape what would end the cell or the doc block. -#}
      {%- do cells.append((cell or '') | string | replace('|', '\\|') | replace('{', '&#123;') | replace('\r', ' ') | replace('\n', ' ')) -%}
    {%- endfor -%}
    {%- do lines.append('| ' ~ cells | join(' | ') ~ ' |') -%}
  {%- endfor -%}
  {%- do print((lines + ['{' ~ '% enddocs %}', '']) | join('\n')) -%}
{% endmacro %}
