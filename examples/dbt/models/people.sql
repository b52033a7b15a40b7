-- One row a person: everybody with a profile, and everybody with an event whose sender is known.

with owned as (
  select coalesce(identities.person_id, profiles.distinct_id) as owner, profiles.*
  from {{ ref('stg_profiles') }} as profiles
  left join {{ ref('identities') }} as identities using (distinct_id)
),

-- A profile from before a merge can still be in the table: Mixpanel does not tell of deletions.
profiles as (
  select * from owned
  qualify 1 = row_number() over (
    partition by owner
    order by distinct_id = owner desc, last_seen desc nulls last, distinct_id
  )
),

activity as (
  select
    coalesce(identities.person_id, events.distinct_id) as sender,
    min(event_time) as first_event,
    max(event_time) as last_event,
    count(*) as events
  from {{ ref('stg_events') }} as events
  left join {{ ref('identities') }} as identities using (distinct_id)
  where events.distinct_id is not null
  group by sender
)

select
  coalesce(owner, sender) as person_id,
  owner is not null as has_profile,
  name,
  email,
  city,
  region,
  country_code,
  timezone,
  plan,
  created,
  last_seen,
  first_event,
  last_event,
  coalesce(events, 0) as events
from profiles
full join activity on activity.sender = profiles.owner
