"""Each setting once: its name, type, default, limits and description.

`--about`, the README's table, `meltano.yml`, `plugin.yml` and docs/settings.md follow from the schema.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from ..mixpanel.quota import HOURLY

# Mixpanel's documentation: project secrets stop working on this day.
PROJECT_SECRETS_END = dt.date(2027, 3, 3)
# Mixpanel's documentation: about this many `distinct_ids` at most in one query.
MOST_DISTINCT_IDS = 2000

SECRET = {"secret": True, "writeOnly": True}

FromZero = Annotated[int, Meta(ge=0)]
FromOne = Annotated[int, Meta(ge=1)]


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group that has profiles of its own.

    Attributes:
        name: What its stream is called.
        data_group_id: Mixpanel's 64-bit number for it, which may be negative; text, so that no digit is lost.
    """

    name: str
    data_group_id: str


class InsightsReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A saved Insights report.

    Attributes:
        name: What its records call it.
        bookmark_id: Mixpanel's number for it.
    """

    name: str
    bookmark_id: FromZero


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """The settings, in the order in which the documentation lists them."""

    project_id: Annotated[
        str | None,
        Meta(
            title="Project ID",
            description=(
                "Number of the Mixpanel project, as text or a number; needed with a service account or an OAuth token."
            ),
        ),
    ] = None
    service_account_username: Annotated[
        str | None,
        Meta(
            title="Service Account Username",
            description="User name of a service account, the recommended way in.",
            extra_json_schema=SECRET,
        ),
    ] = None
    service_account_secret: Annotated[
        str | None,
        Meta(title="Service Account Secret", description="Secret of the service account.", extra_json_schema=SECRET),
    ] = None
    oauth_token: Annotated[
        str | None,
        Meta(title="OAuth Token", description="Bearer token, instead of a service account.", extra_json_schema=SECRET),
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
        Literal["us", "eu", "in"], Meta(title="Region", description="Where Mixpanel keeps the project's data.")
    ] = "us"
    raw: Annotated[
        bool, Meta(title="Raw Records", description="Records in Mixpanel's own shape instead of the normalized one.")
    ] = False
    streams: Annotated[
        list[str] | None,
        Meta(
            title="Streams",
            description=(
                "Names of the streams to read where there is no catalog; events, profiles and groups if absent. A "
                "catalog takes precedence; Meltano always gives one."
            ),
            examples=[["events", "profiles", "cohorts"]],
        ),
    ] = None
    start_date: Annotated[
        dt.date | None,
        Meta(
            title="Start Date",
            description=(
                "First day of events, funnels and event counts, a date or a date-time; needed for them. A date-time"
                " means the day it falls on in the project's time zone."
            ),
            examples=["2024-01-15"],
        ),
    ] = None
    end_date: Annotated[
        dt.date | None,
        Meta(
            title="End Date",
            description=(
                "Last day of events, funnels and event counts, inclusive. Today in the project's time zone if absent,"
                " never later."
            ),
            examples=["2024-01-31"],
        ),
    ] = None
    project_timezone: Annotated[
        ZoneInfo | None,
        Meta(
            title="Project Time Zone",
            description=(
                "IANA name of the zone in which Mixpanel stored the events; needed for projects from before 2023. "
                "If absent, UTC is assumed, and a first load stops before its first record if the events show "
                "another zone."
            ),
            examples=["Europe/Berlin"],
        ),
    ] = None
    lookback_days: Annotated[
        FromZero,
        Meta(
            title="Look-back Days",
            description="Days before the bookmark's day to read again for late events; 0 loses late events.",
        ),
    ] = 5
    incremental_by: Annotated[
        Literal["event_time", "ingestion_time"],
        Meta(
            title="Incremental By",
            description=(
                "What a run reads again in the days of the look-back: all events (`event_time`), or only those that"
                " Mixpanel processed since the last run (`ingestion_time`)."
            ),
        ),
    ] = "event_time"
    backfill: Annotated[
        Literal["oldest_first", "newest_first"],
        Meta(
            title="Back-fill",
            description=(
                "Where a run has more than 30 days to read: in their order (`oldest_first`), or the last days first"
                " and then backwards, over as many runs as the quota takes (`newest_first`)."
            ),
        ),
    ] = "oldest_first"
    window_days: Annotated[
        FromOne | None, Meta(title="Window Days", description="Days that one export request spans. Adaptive if absent.")
    ] = None
    concurrent_exports: Annotated[
        int, Meta(ge=1, le=100, title="Concurrent Exports", description="Windows fetched ahead.")
    ] = 2
    worker_processes: Annotated[
        Annotated[int, Meta(ge=1, le=64)] | None,
        Meta(
            title="Worker Processes",
            description=(
                "Processes that unpack and convert the windows of events, one each at a time; keeps as many cores "
                "busy if concurrent_exports is larger. Done in the tap's own process if absent."
            ),
        ),
    ] = None
    event_names: Annotated[
        list[str],
        Meta(
            title="Event Names",
            description="Only these events, and counts of only these; all if absent.",
            examples=[["Signed up", "Purchase"]],
        ),
    ] = []
    events_where: Annotated[
        str | None,
        Meta(
            title="Events Where",
            description="Only events for which this Mixpanel expression holds; Mixpanel evaluates it.",
            examples=['properties["$city"] == "Berlin"'],
        ),
    ] = None
    time_in_ms: Annotated[
        bool,
        Meta(
            title="Time in Milliseconds", description="Ask Mixpanel for event times in milliseconds instead of seconds."
        ),
    ] = False
    profiles_where: Annotated[
        str | None,
        Meta(
            title="Profiles Where",
            description="Only profiles for which this Mixpanel expression holds; Mixpanel evaluates it.",
            examples=['properties["$last_seen"] >= "2024-01-15T00:00:00"'],
        ),
    ] = None
    profile_properties: Annotated[
        list[str],
        Meta(
            title="Profile Properties",
            description="Only these properties of a profile; all if absent.",
            examples=[["$email", "plan"]],
        ),
    ] = []
    profiles_page_size: Annotated[
        FromOne,
        Meta(
            title="Profiles Page Size",
            description="Profiles asked for in one page. Mixpanel may answer with smaller pages.",
        ),
    ] = 5000
    profiles_incremental: Annotated[
        bool,
        Meta(
            title="Profiles Incremental",
            description=(
                "Only profiles seen since the last run, by `$last_seen`, users' and groups'. Misses profiles "
                "without it, changes that do not move it, and deletions, until the next full refresh."
            ),
        ),
    ] = False
    profiles_full_refresh_days: Annotated[
        FromOne,
        Meta(
            title="Profiles Full Refresh Days",
            description="With `profiles_incremental`: days after which all profiles are read again.",
        ),
    ] = 7
    cohort_id: Annotated[int | None, Meta(title="Cohort ID", description="Only profiles in this cohort.")] = None
    include_all_users: Annotated[
        bool, Meta(title="Include All Users", description="With a cohort: also its members that have no profile.")
    ] = False
    distinct_ids: Annotated[
        list[str], Meta(title="Distinct IDs", description=f"Only these profiles, {MOST_DISTINCT_IDS} at most.")
    ] = []
    behaviors: Annotated[
        list[dict[str, Any]],
        Meta(
            title="Behaviors",
            description="Behaviours as Mixpanel's Engage query takes them, to be used in `profiles_where`.",
        ),
    ] = []
    as_of_timestamp: Annotated[
        int | None,
        Meta(
            title="As of Timestamp",
            description=(
                "Profiles as they were at this Unix time in seconds. With `behaviors`, which Mixpanel counts from "
                "it, the time of asking if absent."
            ),
        ),
    ] = None
    group_profiles: Annotated[
        list[Group],
        Meta(
            title="Group Profiles",
            description=(
                "Groups whose profiles are read, each into a stream of its own: the stream's `name` and the group's"
                " `data_group_id`, as text. What narrows user profiles leaves groups alone."
            ),
            examples=[[{"name": "companies", "data_group_id": "-1234567890123456789"}]],
        ),
    ] = []
    insights_reports: Annotated[
        list[InsightsReport],
        Meta(
            title="Insights Reports",
            description=(
                "Saved Insights reports for the stream `insights`: a `name` of your choice, and the `bookmark_id` in "
                "the report's address, `report-BOOKMARK_ID`."
            ),
            examples=[[{"name": "Weekly sign-ups", "bookmark_id": 12345}]],
        ),
    ] = []
    workspace_id: Annotated[
        str | None,
        Meta(
            title="Workspace ID", description="Number of the data view to query profiles through, as text or a number."
        ),
    ] = None
    bad_lines: Annotated[
        Literal["fail", "skip"],
        Meta(
            title="Bad Lines",
            description="Malformed event or profile: stop, or set it aside in `bad_lines_path` and count it.",
        ),
    ] = "fail"
    bad_lines_path: Annotated[
        Path | None,
        Meta(
            title="Bad Lines Path",
            description="File to which lines set aside are appended, as they came; needed with `bad_lines: skip`.",
        ),
    ] = None
    strip_nul: Annotated[
        bool,
        Meta(
            title="Strip NUL",
            description="Take \\u0000 out of strings, which Postgres cannot store, and report how many.",
        ),
    ] = False
    request_timeout: Annotated[
        int,
        Meta(
            ge=1,
            le=86_400,
            title="Request Timeout",
            description="Read timeout in seconds: the longest pause in a response, and the longest wait for its head.",
        ),
    ] = 600
    max_retries: Annotated[
        FromZero,
        Meta(
            title="Max Retries",
            description="Tries after a failed request or a bad window, after about 1, 2, 4, 8, 8 s.",
        ),
    ] = 5
    hourly_quota: Annotated[
        FromOne | None,
        Meta(
            title="Hourly Quota",
            description=(
                "Requests an hour that this run may make to the export, and as many to the query API. "
                f"{HOURLY} if absent, or the project's own limit if Mixpanel tells it. "
                "Less where several runs share it."
            ),
        ),
    ] = None
    max_quota_wait: Annotated[
        FromZero,
        Meta(
            title="Max Quota Wait",
            description="The longest that a run waits for Mixpanel's query quota in all, in seconds.",
        ),
    ] = 7200
    data_api_url: Annotated[
        str | None,
        Meta(
            title="Data API URL",
            description="Base URL of the raw export, instead of the region's.",
            examples=["https://data.mixpanel.com/api/2.0"],
        ),
    ] = None
    api_url: Annotated[
        str | None,
        Meta(
            title="API URL",
            description="Base URL of the query API, instead of the region's.",
            examples=["https://mixpanel.com/api"],
        ),
    ] = None
    user_agent: Annotated[
        str | None, Meta(title="User Agent", description="User agent to introduce ourselves with.")
    ] = None
    emit_activate_version_messages: Annotated[
        bool,
        Meta(
            title="Emit ACTIVATE_VERSION",
            description=(
                "After all records of a full-table stream an ACTIVATE_VERSION message, by which a target can drop "
                "rows that are gone at Mixpanel."
            ),
        ),
    ] = False


def _property(spec: dict[str, Any], hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a setting's schema in the SDK's spelling, from msgspec's: null counts as absent."""
    kind: dict[str, Any] = spec.pop("anyOf", [{}])[0] | spec
    if kind["default"] in (None, []):
        del kind["default"]
    if "enum" in kind:
        # In the order of the declaration; msgspec sorts them.
        kind |= {"type": "string", "enum": list(get_args(get_args(hint)[0]))}
    if reference := kind.get("items", {}).get("$ref"):
        kind["items"] = definitions[reference.rpartition("/")[2]]
        del kind["items"]["title"], kind["items"]["description"]  # the class's own
    kind.pop("format", None)
    kind["type"] = [kind["type"], "null"]
    return kind


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a configuration, in which every setting may be absent."""
    _, definitions = msgspec.json.schema_components([Configuration], schema_hook=lambda _: {"type": "string"})
    hints = get_type_hints(Configuration, include_extras=True)
    properties = definitions["Configuration"]["properties"]
    return {
        "type": "object",
        "properties": {name: _property(spec, hints[name], definitions) for name, spec in properties.items()},
        "additionalProperties": False,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
    }


SCHEMA = json_schema()
