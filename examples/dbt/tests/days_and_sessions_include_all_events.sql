-- The event counts of days add up to all events, those of sessions to all events with a person.
select *
from (select count(*) as events, count(person_id) as with_person from {{ ref('events') }}) as all_events
cross join (select coalesce(sum(events), 0) as in_days from {{ ref('daily_active_users') }}) as days
cross join (select coalesce(sum(events), 0) as in_sessions from {{ ref('sessions') }}) as sessions
where events != in_days or with_person != in_sessions
