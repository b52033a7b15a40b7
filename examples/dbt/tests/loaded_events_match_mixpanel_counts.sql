{{ config(enabled=var('event_counts_loaded')) }}
-- Days and names whose loaded events differ from Mixpanel's count by more than `count_tolerance`.
select *
from {{ ref('completeness') }}
where abs(difference) > {{ var('count_tolerance') }} * counted
order by day, event_name
