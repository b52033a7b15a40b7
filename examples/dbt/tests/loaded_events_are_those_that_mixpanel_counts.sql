{{ config(enabled=var('event_counts_loaded')) }}
-- The days and names where more is missing, or too much, than `count_tolerance` allows.
select *
from {{ ref('completeness') }}
where abs(difference) > {{ var('count_tolerance') }} * counted
order by day, event_name
