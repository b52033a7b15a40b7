-- One row for each day (UTC) from the first event to the last, days without events among them.

with days as (
  select unnest(generate_series(min(event_time)::date, max(event_time)::date, interval 1 day))::date as day
  from {{ ref('events') }}
)

select
  days.day,
  count(distinct events.person_id) as active_users,
  count(distinct events.person_id) filter (people.first_event::date = days.day) as new_users,
  count(events.event_id) as events
from days
left join {{ ref('events') }} as events on events.event_time::date = days.day
left join {{ ref('people') }} as people on people.person_id = events.person_id
group by days.day
order by days.day
