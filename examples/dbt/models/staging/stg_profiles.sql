-- One row a profile. A target that only appends holds one for each run.

select
  distinct_id,
  try_cast(last_seen as timestamp) as last_seen,
  {{ property('$created', 'timestamp') }} as created,
  {{ property('$name') }} as name,
  {{ property('$email') }} as email,
  {{ property('$city') }} as city,
  {{ property('$region') }} as region,
  {{ property('$country_code') }} as country_code,
  {{ property('$timezone') }} as timezone,
  {{ property('plan') }} as plan,
  properties
from {{ source('mixpanel', 'profiles') }}
qualify 1 = row_number() over (partition by distinct_id order by last_seen desc nulls last, properties)
