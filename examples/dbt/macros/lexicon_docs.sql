{# Print the Lexicon's descriptions as doc blocks, for models/lexicon.md. #}
{% macro lexicon_docs() %}
  {%- set schemas = source('mixpanel', 'lexicon_schemas') -%}
  {%- set events = run_query(
    "select name, coalesce(description, '') from " ~ schemas ~ " where entity_type = 'event' order by name"
  ) -%}
  {%- set properties = run_query(
    "select name, property, coalesce(properties -> property ->> 'type', '') as type, "
    ~ "coalesce(properties -> property ->> 'description', '') as description "
    ~ "from (select name, properties, unnest(json_keys(properties)) as property from " ~ schemas
    ~ " where entity_type = 'event') order by name, property"
  ) -%}
  {{- lexicon_table('lexicon_events', ['event', 'description'], events) -}}
  {{- lexicon_table('lexicon_properties', ['event', 'property', 'type', 'description'], properties) -}}
{% endmacro %}

{% macro lexicon_table(block, headings, rows) %}
  {%- set lines = ['{' ~ '% docs ' ~ block ~ ' %}', 'From the Lexicon:', '', '| ' ~ headings | join(' | ') ~ ' |', '|' ~ '---|' * headings | length] -%}
  {%- for row in rows -%}
    {%- set cells = [] -%}
    {%- for cell in row.values() -%}
      {#- What people wrote must end neither the cell nor the block. -#}
      {%- do cells.append(cell | replace('|', '\\|') | replace('{', '&#123;') | replace('\r', ' ') | replace('\n', ' ')) -%}
    {%- endfor -%}
    {%- do lines.append('| ' ~ cells | join(' | ') ~ ' |') -%}
  {%- endfor -%}
  {%- do print((lines + ['{' ~ '% enddocs %}', '']) | join('\n')) -%}
{% endmacro %}
