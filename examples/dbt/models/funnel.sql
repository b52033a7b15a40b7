-- One row per step of `funnel_steps`: how many people reached it. A person enters with their first event of the first
-- step. Each further step must follow the one before it, within `funnel_days` of the entry.

{% set steps = [] %}
{% for step in var('funnel_steps') %}
  {% do steps.append(dbt.string_literal(dbt.escape_single_quotes(step))) %}
{% endfor %}
with step_1 as (
  select person_id, min(event_time) as entered, min(event_time) as reached
  from {{ ref('events') }}
  where person_id is not null and event_name = {{ steps[0] }}
  group by person_id
)
{% for step in steps[1:] %}
, step_{{ loop.index + 1 }} as (
  select previous.person_id, previous.entered, min(events.event_time) as reached
  from step_{{ loop.index }} as previous
  join {{ ref('events') }} as events on events.person_id = previous.person_id
  where events.event_name = {{ step }}
    and events.event_time >= previous.reached
    and events.event_time <= {{ add_time('previous.entered', var('funnel_days'), 'day') }}
  group by previous.person_id, previous.entered
)
{% endfor %}
, counted as (
  {% for step in steps %}
  select {{ loop.index }} as step, {{ step }} as event_name, count(*) as people
  from step_{{ loop.index }}
  {{ "union all" if not loop.last }}
  {% endfor %}
)

select
  step,
  event_name,
  people,
  -- 1.0, because PostgreSQL divides integers without a fraction.
  cast(round(1.0 * people / nullif(first_value(people) over (order by step), 0), 3) as {{ type_double() }}) as of_first,
  cast(round(1.0 * people / nullif(lag(people) over (order by step), 0), 3) as {{ type_double() }}) as of_previous
from counted
