-- One row per event, with the person it belongs to and that person's current attributes.
-- `person_id` is NULL if the event has no `distinct_id`.

select
  -- The length keeps the name and the insert id apart.
  {{ dbt.hash(dbt.concat([
    "cast(" ~ dbt.length("event_name") ~ " as " ~ dbt.type_string() ~ ")", "':'", "event_name", "insert_id",
    "cast(event_time as " ~ dbt.type_string() ~ ")",
  ])) }} as event_id,
  coalesce(identities.person_id, events.distinct_id) as person_id,
  events.*,
  people.country_code as person_country_code,
  people.plan as person_plan,
  people.created as person_created
from {{ ref('stg_events') }} as events
left join {{ ref('identities') }} as identities on identities.distinct_id = events.distinct_id
left join {{ ref('people') }} as people
  on people.person_id = coalesce(identities.person_id, events.distinct_id)
