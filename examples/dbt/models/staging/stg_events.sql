{{ config(materialized='incremental', unique_key=['event_name', 'event_time', 'insert_id']) }}
-- One row an event, with the usual properties as columns. Your own come in likewise, as `plan` does.
--
-- A build reads the days that the tap can have read again since the last one: the look-back, and a day more. After a
-- load of older days run `dbt build --full-refresh`.

select
  event_name,
  event_time,
  insert_id,
  nullif(distinct_id, '') as distinct_id,
  {{ property('$distinct_id_before_identity') }} as distinct_id_before_identity,
  {{ property('$device_id') }} as device_id,
  {{ property('$user_id') }} as user_id,
  {{ property('$city') }} as city,
  {{ property('$region') }} as region,
  {{ property('mp_country_code') }} as country_code,
  {{ property('$os') }} as os,
  {{ property('$browser') }} as browser,
  {{ property('$browser_version', 'double') }} as browser_version,
  {{ property('$screen_width', 'integer') }} as screen_width,
  {{ property('$screen_height', 'integer') }} as screen_height,
  {{ property('$current_url') }} as current_url,
  {{ property('$initial_referring_domain') }} as initial_referring_domain,
  {{ property('utm_source') }} as utm_source,
  {{ property('utm_medium') }} as utm_medium,
  {{ property('utm_campaign') }} as utm_campaign,
  {{ property('mp_lib') }} as library,
  {{ property('$lib_version') }} as library_version,
  {{ instant('$mp_api_timestamp_ms') }} as received_at,
  {{ instant('mp_processing_time_ms') }} as processed_at,
  {{ property('plan') }} as plan,
  properties
from {{ source('mixpanel', 'events') }}
{% if is_incremental() %}
-- An event dated after its receipt, by a wrong clock, says nothing about how far the last load came.
where event_time >= (
  select coalesce(max(event_time), timestamp '1970-01-01') - interval {{ var('lookback_days') + 1 }} days
  from {{ this }}
  where event_time <= coalesce(received_at, processed_at)
)
{% endif %}
-- A target that only appends holds an event once for each time that it was read. All that Mixpanel rewrites in one is
-- whose it is, and a row that was read after such a merge says so. Of an event sent twice the later one is kept.
qualify 1 = row_number() over (
  partition by event_name, event_time, insert_id
  order by distinct_id_before_identity is null, processed_at desc nulls last, distinct_id
)
