{{ config(enabled=var('event_counts_loaded')) }}
-- One row per event name and day in the project's time zone: the number of loaded events and Mixpanel's count.

with keys as (
  -- Reads the source, because stg_events does not contain days before the look-back that were read again.
  select distinct event_name, event_time, insert_id
  from {{ source('mixpanel', 'events') }}
),

loaded_events as (
  select {{ project_day('event_time') }} as day, event_name, count(*) as loaded
  from keys
  group by 1, 2
),

counted_events as (
  -- An append-only target has a row for each time that the day was counted. Late events make the count grow.
  select cast(counts.date as date) as day, counts.event_name, max(counts.count) as counted
  from {{ source('mixpanel', 'event_counts') }} as counts
  group by 1, 2
),

days as (
  -- Today is not over, and the export can lack the latest rows that Mixpanel already counts.
  select min(day) as first_day, cast({{ dbt.dateadd('day', -var('last_days_left_out'), 'max(day)') }} as date) as last_day
  from counted_events
)

select
  day,
  event_name,
  coalesce(loaded, 0) as loaded,
  coalesce(counted, 0) as counted,
  coalesce(loaded, 0) - coalesce(counted, 0) as difference
from loaded_events
full outer join counted_events using (day, event_name)
cross join days
where day between first_day and last_day
