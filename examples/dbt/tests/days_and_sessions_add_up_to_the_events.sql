select events, of_days, of_sessions
from
  (select count(*) as events, count(person_id) as with_person from {{ ref('events') }}),
  (select coalesce(sum(events), 0) as of_days from {{ ref('daily_active_users') }}),
  (select coalesce(sum(events), 0) as of_sessions from {{ ref('sessions') }})
where events != of_days or with_person != of_sessions
