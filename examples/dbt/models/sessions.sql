-- One row per session: events of one person without a pause longer than `session_gap_minutes`.

with previous as (
  select *, lag(event_time) over (partition by person_id order by event_time) as previous_time
  from {{ ref('events') }}
  where person_id is not null
),

numbered as (
  select
    *,
    sum(case when event_time <= {{ add_time('previous_time', var('session_gap_minutes'), 'minute') }} then 0 else 1 end)
      over (partition by person_id order by event_time) as session_number
  from previous
),

positioned as (
  select
    *,
    row_number() over (partition by person_id, session_number order by event_time, event_id) as position_from_start,
    row_number() over (partition by person_id, session_number order by event_time desc, event_id desc) as position_from_end
  from numbered
)

select
  {{ dbt.concat(["person_id", "'/'", "cast(min(event_time) as " ~ dbt.type_string() ~ ")"]) }} as session_id,
  person_id,
  min(event_time) as started_at,
  max(event_time) as ended_at,
  count(*) as events,
  max(case when position_from_start = 1 then event_name end) as first_event,
  max(case when position_from_end = 1 then event_name end) as last_event,
  max(case when position_from_start = 1 then utm_source end) as utm_source,
  max(case when position_from_start = 1 then os end) as os
from positioned
group by person_id, session_number
