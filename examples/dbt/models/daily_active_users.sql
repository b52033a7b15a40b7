-- One row per day (UTC) from the first event to the last, including days without events.

with bounds as (
  select cast(min(event_time) as date) as first_day, cast(max(event_time) as date) as last_day
  from {{ ref('events') }}
),

days as (
  select cast(day as date) as day
  from bounds
  cross join {{ days_between('first_day', 'last_day') }}
)

select
  days.day,
  count(distinct events.person_id) as active_users,
  count(distinct case when cast(people.first_event as date) = days.day then events.person_id end) as new_users,
  count(events.event_id) as events
from days
left join {{ ref('events') }} as events on cast(events.event_time as date) = days.day
left join {{ ref('people') }} as people on people.person_id = events.person_id
group by days.day
order by days.day
