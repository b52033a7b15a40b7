-- One row per profile, with common properties as columns.

with copies as (
  select
    *,
    -- An append-only target has a copy of a profile for each run.
    row_number() over (
      partition by distinct_id
      order by last_seen desc nulls last, cast(properties as {{ dbt.type_string() }})
    ) as copy_number
  from {{ source('mixpanel', 'profiles') }}
)

select
  distinct_id,
  {{ cast_text('last_seen', 'date-time') }} as last_seen,
  {{ property('$created', 'date-time') }} as created,
  {{ property('$name') }} as name,
  {{ property('$email') }} as email,
  {{ property('$city') }} as city,
  {{ property('$region') }} as region,
  {{ property('$country_code') }} as country_code,
  {{ property('$timezone') }} as timezone,
  {{ property('plan') }} as plan,
  properties
from copies
where copy_number = 1
