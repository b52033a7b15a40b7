-- One row per id that Mixpanel has merged into another id, with the person that it belongs to now.
--
-- After a merge Mixpanel exports old events with the new `distinct_id`. Events that were loaded before the merge and not
-- read again still have the old one. Other rows show the merge:
--   * a row read after the merge has the old id in `$distinct_id_before_identity`;
--   * a row with `$device_id` and `$user_id` links the id `$device:` + `$device_id` to the user. If several users share
--     a device, its id belongs to the first.

with recursive merges as (
  select distinct_id_before_identity as id, distinct_id as merged_into, event_time
  from {{ ref('stg_events') }}
  where distinct_id_before_identity is not null
  union all
  select {{ dbt.concat(["'$device:'", "device_id"]) }}, user_id, event_time
  from {{ ref('stg_events') }}
  where device_id is not null and user_id is not null
),

numbered as (
  select id, merged_into, row_number() over (partition by id order by event_time, merged_into) as merge_number
  from merges
  where id != merged_into
),

first_merges as (
  select id, merged_into from numbered where merge_number = 1
),

-- A merged id can be merged again. The limit ends a circle of merges. BigQuery has no recursive `union distinct`.
followed as (
  select id, merged_into, 1 as steps from first_merges
  union all
  select followed.id, first_merges.merged_into, followed.steps + 1
  from followed
  join first_merges on first_merges.id = followed.merged_into
  where followed.steps < 100
)

-- The id that was not merged further. A circle has no such id: all of its ids get the smallest one.
select
  followed.id as distinct_id,
  coalesce(min(case when first_merges.id is null then followed.merged_into end), min(followed.merged_into)) as person_id
from followed
left join first_merges on first_merges.id = followed.merged_into
group by followed.id
