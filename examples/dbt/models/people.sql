-- One row per person: people with a profile, and people with events only.

with owned as (
  select coalesce(identities.person_id, profiles.distinct_id) as owner, profiles.*
  from {{ ref('stg_profiles') }} as profiles
  left join {{ ref('identities') }} as identities on identities.distinct_id = profiles.distinct_id
),

-- The table can still contain the profile of a merged id, because Mixpanel does not export deletions.
numbered as (
  select
    *,
    row_number() over (
      partition by owner
      order by case when distinct_id = owner then 0 else 1 end, last_seen desc nulls last, distinct_id
    ) as profile_number
  from owned
),

profiles as (
  select * from numbered where profile_number = 1
),

activity as (
  select
    coalesce(identities.person_id, events.distinct_id) as sender,
    min(events.event_time) as first_event,
    max(events.event_time) as last_event,
    count(*) as event_count
  from {{ ref('stg_events') }} as events
  left join {{ ref('identities') }} as identities on identities.distinct_id = events.distinct_id
  where events.distinct_id is not null
  group by 1
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
  coalesce(event_count, 0) as events
from profiles
full join activity on activity.sender = profiles.owner
