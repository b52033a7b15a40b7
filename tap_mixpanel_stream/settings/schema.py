"""The single definition of each setting: name, type, default, limits and description.

`--about`, the README's table, `meltano.yml`, `plugin.yml` and docs/settings.md are generated from the schema.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from ..records.property_columns import PropertyColumn

# Mixpanel's documentation: project secrets stop working on this day.
PROJECT_SECRETS_END = dt.date(2027, 3, 3)
# Mixpanel's documentation: the approximate maximum of `distinct_ids` in one query.
MAX_DISTINCT_IDS = 2000

SECRET = {"secret": True, "writeOnly": True}

NonNegativeInt = Annotated[int, Meta(ge=0)]
PositiveInt = Annotated[int, Meta(ge=1)]


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group with its own profiles.

    Attributes:
        name: The name of the group's stream.
        data_group_id: Mixpanel's id of the group: a 64-bit integer, as text to preserve all digits. It can be negative.
    """

    name: str
    data_group_id: str


class InsightsReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A saved Insights report.

    Attributes:
        name: The report's name in the records.
        bookmark_id: Mixpanel's id of the report.
    """

    name: str
    bookmark_id: NonNegativeInt


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """The settings, in the order of the documentation."""

    project_id: Annotated[
        str | None,
        Meta(
            title="Project ID",
            description=(
                "Mixpanel project ID, as a string or a number. Required with a service account or an OAuth token."
            ),
        ),
    ] = None
    service_account_username: Annotated[
        str | None,
        Meta(
            title="Service Account Username",
            description="Username of a service account, the recommended way to authenticate.",
            extra_json_schema=SECRET,
        ),
    ] = None
    service_account_secret: Annotated[
        str | None,
        Meta(title="Service Account Secret", description="Secret of the service account.", extra_json_schema=SECRET),
    ] = None
    oauth_token: Annotated[
        str | None,
        Meta(
            title="OAuth Token",
            description="OAuth bearer token, instead of a service account.",
            extra_json_schema=SECRET,
        ),
    ] = None
    api_secret: Annotated[
        str | None,
        Meta(
            title="Project Secret",
            description=f"Project secret, instead of a service account. Mixpanel retires it on {PROJECT_SECRETS_END}.",
            extra_json_schema=SECRET,
        ),
    ] = None
    region: Annotated[
        Literal["us", "eu", "in"],
        Meta(title="Region", description="Region where the project's data is stored: `us`, `eu` or `in` (India)."),
    ] = "us"
    raw: Annotated[
        bool,
        Meta(
            title="Raw Records", description="Deliver records in Mixpanel's own format instead of normalized records."
        ),
    ] = False
    streams: Annotated[
        list[str] | None,
        Meta(
            title="Streams",
            description=(
                "Streams to read if there is no catalog. Default: events, profiles and groups. A catalog takes "
                "precedence; Meltano always passes one."
            ),
            examples=[["events", "profiles", "cohorts"]],
        ),
    ] = None
    start_date: Annotated[
        dt.date | None,
        Meta(
            title="Start Date",
            description=(
                "First day of events, funnels and event counts to read, as a date or date-time. Required for "
                "these streams. A date-time is converted to its day in the project's time zone."
            ),
            examples=["2024-01-15"],
        ),
    ] = None
    end_date: Annotated[
        dt.date | None,
        Meta(
            title="End Date",
            description=(
                "Last day of events, funnels and event counts to read, inclusive. Default: today in the "
                "project's time zone."
            ),
            examples=["2024-01-31"],
        ),
    ] = None
    project_timezone: Annotated[
        ZoneInfo | None,
        Meta(
            title="Project Time Zone",
            description=(
                "IANA name of the time zone in which Mixpanel stored the events. Required for projects created "
                "before 2023. Default: UTC. If it is not set and the events are in another zone, the first load "
                "stops before its first record."
            ),
            examples=["Europe/Berlin"],
        ),
    ] = None
    lookback_days: Annotated[
        NonNegativeInt,
        Meta(
            title="Look-back Days",
            description=(
                "Days before the bookmark to read again for late events. 0 disables the look-back and loses late "
                "events."
            ),
        ),
    ] = 5
    incremental_by: Annotated[
        Literal["event_time", "ingestion_time"],
        Meta(
            title="Incremental By",
            description=(
                "What a run reads again in the look-back days: all events (`event_time`), or only those that "
                "Mixpanel processed since the last run (`ingestion_time`)."
            ),
        ),
    ] = "event_time"
    backfill: Annotated[
        Literal["oldest_first", "newest_first"],
        Meta(
            title="Back-fill",
            description=(
                "Order of a back-fill longer than 30 days: oldest first, or the latest 30 days first and then "
                "backwards across runs."
            ),
        ),
    ] = "oldest_first"
    window_days: Annotated[
        PositiveInt | None,
        Meta(title="Window Days", description="Days per window. Each window is one export request. Default: adaptive."),
    ] = None
    concurrent_exports: Annotated[
        int,
        Meta(ge=1, le=100, title="Concurrent Exports", description="Maximum number of windows to fetch concurrently."),
    ] = 2
    worker_processes: Annotated[
        Annotated[int, Meta(ge=1, le=64)] | None,
        Meta(
            title="Worker Processes",
            description=(
                "Number of extra processes that decompress and convert events, each on its own core. Set "
                "`concurrent_exports` higher than this. Default: none; the main process does the work."
            ),
        ),
    ] = None
    event_names: Annotated[
        list[str],
        Meta(
            title="Event Names",
            description="Names of the events to export. Default: all.",
            examples=[["Signed up", "Purchase"]],
        ),
    ] = []
    events_where: Annotated[
        str | None,
        Meta(
            title="Events Where",
            description="Filter expression for events, evaluated by Mixpanel.",
            examples=['properties["$city"] == "Berlin"'],
        ),
    ] = None
    time_in_ms: Annotated[
        bool,
        Meta(title="Time in Milliseconds", description="Event times in milliseconds instead of seconds."),
    ] = False
    profiles_where: Annotated[
        str | None,
        Meta(
            title="Profiles Where",
            description="Filter expression for profiles, evaluated by Mixpanel.",
            examples=['properties["$last_seen"] >= "2024-01-15T00:00:00"'],
        ),
    ] = None
    profile_properties: Annotated[
        list[str],
        Meta(
            title="Profile Properties",
            description="Profile properties to read. Default: all.",
            examples=[["$email", "plan"]],
        ),
    ] = []
    profiles_page_size: Annotated[
        PositiveInt,
        Meta(
            title="Profiles Page Size",
            description="Profiles per page. Mixpanel may return fewer.",
        ),
    ] = 5000
    profiles_incremental: Annotated[
        bool,
        Meta(
            title="Profiles Incremental",
            description=(
                "Read only user and group profiles updated since the last run, according to `$last_seen`. Until "
                "the next full refresh, this misses profiles without `$last_seen`, changes that do not update "
                "it, and deletions."
            ),
        ),
    ] = False
    profiles_full_refresh_days: Annotated[
        PositiveInt,
        Meta(
            title="Profiles Full Refresh Days",
            description="Days between full refreshes with `profiles_incremental`.",
        ),
    ] = 7
    cohort_id: Annotated[
        int | None, Meta(title="Cohort ID", description="Read only the profiles in the cohort with this ID.")
    ] = None
    include_all_users: Annotated[
        bool, Meta(title="Include All Users", description="With `cohort_id`: include members without a profile.")
    ] = False
    distinct_ids: Annotated[
        list[str], Meta(title="Distinct IDs", description="Read only the profiles with these IDs, at most 2000.")
    ] = []
    behaviors: Annotated[
        list[dict[str, Any]],
        Meta(
            title="Behaviors",
            description="Counts of users' actions, to use in `profiles_where`, in the format of Mixpanel's Engage API.",
        ),
    ] = []
    as_of_timestamp: Annotated[
        int | None,
        Meta(
            title="As of Timestamp",
            description=(
                "Read profiles as of this Unix time in seconds, and count `behaviors` up to it. Default with "
                "`behaviors`: the time of the request."
            ),
        ),
    ] = None
    group_profiles: Annotated[
        list[Group],
        Meta(
            title="Group Profiles",
            description=(
                "Group keys whose profiles to read. Each entry is a stream with a `name` and the group key's "
                "`data_group_id`, as a string. Filters for user profiles do not apply."
            ),
            examples=[[{"name": "companies", "data_group_id": "-1234567890123456789"}]],
        ),
    ] = []
    insights_reports: Annotated[
        list[InsightsReport],
        Meta(
            title="Insights Reports",
            description=(
                "Saved Insights reports for the `insights` stream. Each entry has a `name` of your choice and "
                "the `bookmark_id` from the report's URL (`report-BOOKMARK_ID`)."
            ),
            examples=[[{"name": "Weekly sign-ups", "bookmark_id": 12345}]],
        ),
    ] = []
    event_columns: Annotated[
        list[PropertyColumn],
        Meta(
            title="Event Columns",
            description=(
                "Properties of normalized events to copy into their own columns. Each entry has the column's "
                "`name`, the `property` and a `type`: string, number, integer, boolean, date-time or json (an "
                "object or array). A value that does not match the type becomes null and is counted. The "
                "property also stays in `properties`, unless it is a column already."
            ),
            examples=[[{"name": "city", "property": "$city", "type": "string"}]],
        ),
    ] = []
    profile_columns: Annotated[
        list[PropertyColumn],
        Meta(
            title="Profile Columns",
            description="Like `event_columns`, for normalized user and group profiles.",
            examples=[[{"name": "email", "property": "$email", "type": "string"}]],
        ),
    ] = []
    workspace_id: Annotated[
        str | None,
        Meta(
            title="Workspace ID",
            description="ID of the data view through which to query profiles, as a string or a number.",
        ),
    ] = None
    bad_lines: Annotated[
        Literal["fail", "skip"],
        Meta(
            title="Bad Lines",
            description=(
                "What to do with malformed events and profiles. `fail` fails the stream; `skip` counts them and "
                "appends them to `bad_lines_path`."
            ),
        ),
    ] = "fail"
    bad_lines_path: Annotated[
        Path | None,
        Meta(
            title="Bad Lines Path",
            description="File to which skipped lines are appended unchanged. Required with `bad_lines: skip`.",
        ),
    ] = None
    strip_nul: Annotated[
        bool,
        Meta(
            title="Strip NUL",
            description="Remove `\\u0000`, which PostgreSQL cannot store, from strings, and report how many.",
        ),
    ] = False
    request_timeout: Annotated[
        int,
        Meta(
            ge=1,
            le=86_400,
            title="Request Timeout",
            description=(
                "Read timeout in seconds: the maximum wait for a response to start, and the maximum pause within it."
            ),
        ),
    ] = 600
    max_retries: Annotated[
        NonNegativeInt,
        Meta(
            title="Max Retries",
            description=(
                "Number of retries for a failed request or a truncated window, with pauses of about 1, 2, 4, 8 and 8 s."
            ),
        ),
    ] = 5
    hourly_quota: Annotated[
        PositiveInt | None,
        Meta(
            title="Hourly Quota",
            description=(
                "Maximum requests per hour from this run to the export API, and separately to the query API. "
                "Default: 60, or the limit that Mixpanel reports. Set it lower if several runs share a project."
            ),
        ),
    ] = None
    max_quota_wait: Annotated[
        NonNegativeInt,
        Meta(
            title="Max Quota Wait",
            description="Maximum total time in seconds that a run waits for Mixpanel's quota.",
        ),
    ] = 7200
    data_api_url: Annotated[
        str | None,
        Meta(
            title="Data API URL",
            description="Base URL of the export API. Default: the region's URL.",
            examples=["https://data.mixpanel.com/api/2.0"],
        ),
    ] = None
    api_url: Annotated[
        str | None,
        Meta(
            title="API URL",
            description="Base URL of the query and app APIs. Default: the region's URL.",
            examples=["https://mixpanel.com/api"],
        ),
    ] = None
    user_agent: Annotated[str | None, Meta(title="User Agent", description="User-Agent header of each request.")] = None
    emit_activate_version_messages: Annotated[
        bool,
        Meta(
            title="Emit ACTIVATE_VERSION",
            description=(
                "Send an ACTIVATE_VERSION message after all records of a full-table stream, so that the target "
                "can delete rows that no longer exist in Mixpanel."
            ),
        ),
    ] = False


def _sdk_property(spec: dict[str, Any], hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Convert a setting's schema from msgspec's form to the SDK's. Null counts as not set."""
    kind: dict[str, Any] = spec.pop("anyOf", [{}])[0] | spec
    if kind["default"] in (None, []):
        del kind["default"]
    if "enum" in kind:
        # msgspec sorts the values: restore the order of the declaration.
        kind |= {"type": "string", "enum": list(get_args(get_args(hint)[0]))}
    if reference := kind.get("items", {}).get("$ref"):
        class_texts = {"title", "description"}
        definition = definitions[reference.rpartition("/")[2]]
        kind["items"] = {name: value for name, value in definition.items() if name not in class_texts}
    kind.pop("format", None)
    kind["type"] = [kind["type"], "null"]
    return kind


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a configuration. No setting is required."""
    _, definitions = msgspec.json.schema_components([Configuration], schema_hook=lambda _: {"type": "string"})
    hints = get_type_hints(Configuration, include_extras=True)
    properties = definitions["Configuration"]["properties"]
    return {
        "type": "object",
        "properties": {name: _sdk_property(spec, hints[name], definitions) for name, spec in properties.items()},
        "additionalProperties": False,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
    }


SCHEMA = json_schema()
