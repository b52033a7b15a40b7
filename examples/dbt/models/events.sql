-- One row an event, with the person it belongs to and what is known of that person now.
-- `person_id` is NULL where Mixpanel knows no sender.

select
  md5(to_json([event_name, event_time::varchar, insert_id])::varchar) as event_id,
  coalesce(identities.person_id, events.distinct_id) as person_id,
  events.*,
  people.country_code as person_country_code,
  people.plan as person_plan,
  people.created as person_created
from {{ ref('stg_events') }} as events
left join {{ ref('identities') }} as identities using (distinct_id)
left join {{ ref('people') }} as people
  on people.person_id = coalesce(identities.person_id, events.distinct_id)
