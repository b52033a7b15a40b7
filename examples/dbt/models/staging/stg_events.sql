{{ config(materialized='incremental', unique_key=['event_name', 'event_time', 'insert_id']) }}
-- One row per event, with common properties as columns. Add your own properties like `plan`.
--
-- An incremental build reads the days that the tap can have read again since the last build: `lookback_days` and one
-- more. After a load of older days run `dbt build --full-refresh`.

with copies as (
  select
    event_name,
    event_time,
    insert_id,
    distinct_id,
    properties,
    -- An append-only target has a copy of an event for each run that read it. Keep the copy that was read after a merge
    -- of identities, which has `$distinct_id_before_identity`. Of an event that was sent twice, keep the later copy.
    row_number() over (
      partition by event_name, event_time, insert_id
      order by
        {{ property_text('$distinct_id_before_identity') }} is null,
        {{ property('mp_processing_time_ms', 'integer') }} desc nulls last,
        distinct_id
    ) as copy_number
  from {{ source('mixpanel', 'events') }}
  {% if is_incremental() %}
  -- Ignore events with a time after their receipt: a wrong clock does not show how far the last load got.
  where event_time >= (
    select {{ add_time("coalesce(max(event_time), timestamp '1970-01-01')", -(var('lookback_days') + 1), 'day') }}
    from {{ this }}
    where event_time <= coalesce(received_at, processed_at)
  )
  {% endif %}
)

select
  event_name,
  event_time,
  insert_id,
  nullif(distinct_id, '') as distinct_id,
  -- Ids can be numbers. `distinct_id` contains them as text, too.
  {{ property_text('$distinct_id_before_identity') }} as distinct_id_before_identity,
  {{ property_text('$device_id') }} as device_id,
  {{ property_text('$user_id') }} as user_id,
  {{ property('$city') }} as city,
  {{ property('$region') }} as region,
  {{ property('mp_country_code') }} as country_code,
  {{ property('$os') }} as os,
  {{ property('$browser') }} as browser,
  {{ property('$browser_version', 'number') }} as browser_version,
  {{ property('$screen_width', 'integer') }} as screen_width,
  {{ property('$screen_height', 'integer') }} as screen_height,
  {{ property('$current_url') }} as current_url,
  {{ property('$initial_referring_domain') }} as initial_referring_domain,
  {{ property('utm_source') }} as utm_source,
  {{ property('utm_medium') }} as utm_medium,
  {{ property('utm_campaign') }} as utm_campaign,
  {{ property('mp_lib') }} as library,
  {{ property('$lib_version') }} as library_version,
  {{ milliseconds_property('$mp_api_timestamp_ms') }} as received_at,
  {{ milliseconds_property('mp_processing_time_ms') }} as processed_at,
  {{ property('plan') }} as plan,
  properties
from copies
where copy_number = 1
