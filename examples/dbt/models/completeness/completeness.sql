{{ config(enabled=var('event_counts_loaded')) }}
-- One row a day and name of events: how many were loaded, and how many Mixpanel counts.
-- Days are those of the project's time zone.

with loaded as (
  select {{ project_day('event_time') }} as day, event_name, count(*) as loaded
  -- Not of stg_events, which does not look again at days that are read again before the look-back.
  from (select distinct event_name, event_time, insert_id from {{ source('mixpanel', 'events') }})
  group by all
),

counted as (
  -- A target that only appends holds a number for each time that a day was counted: late events make it grow.
  select "date"::date as day, event_name, max("count") as counted
  from {{ source('mixpanel', 'event_counts') }}
  group by all
),

-- Today is not over, and an export can lack the latest rows that Mixpanel counts already.
days as (
  select min(day) as first_day, max(day) - {{ var('last_days_left_out') }} as last_day
  from counted
)

select
  day,
  event_name,
  coalesce(loaded, 0) as loaded,
  coalesce(counted, 0) as counted,
  coalesce(loaded, 0) - coalesce(counted, 0) as difference
from loaded
full outer join counted using (day, event_name)
cross join days
where day between first_day and last_day
