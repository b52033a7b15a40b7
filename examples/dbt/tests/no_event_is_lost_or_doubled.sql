-- Each key that was loaded is one event.
with loaded as (
  select count(*) as keys
  from (select distinct event_name, event_time, insert_id from {{ source('mixpanel', 'events') }})
)
select keys, events
from loaded, (select count(*) as events from {{ ref('events') }})
where keys != events
