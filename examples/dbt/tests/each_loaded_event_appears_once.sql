-- `events` has one row per key in the source.
with keys as (
  select distinct event_name, event_time, insert_id from {{ source('mixpanel', 'events') }}
)
select loaded.key_count, built.event_count
from (select count(*) as key_count from keys) as loaded
cross join (select count(*) as event_count from {{ ref('events') }}) as built
where loaded.key_count != built.event_count
