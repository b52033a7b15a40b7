-- Which person an id belongs to, for ids that Mixpanel has merged into another.
--
-- Mixpanel writes the new `distinct_id` into old events too, but an event that was loaded before the merge, and not
-- read again since, still holds the old one. Other rows tell where it belongs:
--   * a row read after the merge holds both, the old id in `$distinct_id_before_identity`;
--   * a row with `$device_id` and `$user_id` says whose the id `$device:` + `$device_id` is: the first user's on it.

with recursive merged as (
  select distinct_id_before_identity as id, distinct_id as merged_into, event_time
  from {{ ref('stg_events') }}
  where distinct_id_before_identity is not null
  union all
  select '$device:' || device_id, user_id, event_time
  from {{ ref('stg_events') }}
  where device_id is not null and user_id is not null
),

steps as (
  select id, first(merged_into order by event_time, merged_into) as merged_into
  from merged
  where id != merged_into
  group by id
),

-- A merged id can be merged again. `union` leaves out what is there already, so a circle comes to an end.
followed as (
  select id, merged_into from steps
  union
  select followed.id, steps.merged_into
  from followed
  join steps on steps.id = followed.merged_into
)

-- The id that was merged no further; in a circle the same one for all in it.
select
  followed.id as distinct_id,
  coalesce(min(followed.merged_into) filter (steps.id is null), min(followed.merged_into)) as person_id
from followed
left join steps on steps.id = followed.merged_into
group by followed.id
