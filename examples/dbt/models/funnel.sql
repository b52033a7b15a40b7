-- How many people got how far: one row for each of `funnel_steps`. Counted is a person's first time at the first step,
-- and from there each step after the one before it, all within `funnel_days`.

{% set steps = var('funnel_steps') %}
with step_1 as (
  select person_id, min(event_time) as began, min(event_time) as reached
  from {{ ref('events') }}
  where person_id is not null and event_name = '{{ steps[0] | replace("'", "''") }}'
  group by person_id
)
{% for step in steps[1:] %}
, step_{{ loop.index + 1 }} as (
  select before.person_id, before.began, min(events.event_time) as reached
  from step_{{ loop.index }} as before
  join {{ ref('events') }} as events using (person_id)
  where events.event_name = '{{ step | replace("'", "''") }}'
    and events.event_time >= before.reached
    and events.event_time <= before.began + interval {{ var('funnel_days') }} days
  group by before.person_id, before.began
)
{% endfor %}
, counted as (
  {% for step in steps %}
  select {{ loop.index }} as step, '{{ step | replace("'", "''") }}' as event_name, count(*) as people
  from step_{{ loop.index }}
  {{ "union all" if not loop.last }}
  {% endfor %}
)

select
  step,
  event_name,
  people,
  round(people / nullif(first_value(people) over (order by step), 0), 3) as of_first,
  round(people / nullif(lag(people) over (order by step), 0), 3) as of_previous
from counted
