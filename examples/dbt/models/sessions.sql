-- One row a session: events of one person with no pause longer than `session_gap_minutes` between them.

with begun as (
  select
    *,
    coalesce(
      event_time - lag(event_time) over (partition by person_id order by event_time)
        > interval {{ var('session_gap_minutes') }} minutes,
      true
    ) as begins
  from {{ ref('events') }}
  where person_id is not null
),

numbered as (
  select *, count(*) filter (begins) over (partition by person_id order by event_time) as number
  from begun
)

select
  person_id || '/' || min(event_time) as session_id,
  person_id,
  min(event_time) as started_at,
  max(event_time) as ended_at,
  count(*) as events,
  first(event_name order by event_time, event_id) as first_event,
  last(event_name order by event_time, event_id) as last_event,
  first(utm_source order by event_time, event_id) as utm_source,
  first(os order by event_time, event_id) as os
from numbered
group by person_id, number
