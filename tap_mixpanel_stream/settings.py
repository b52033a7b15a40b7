"""The settings: their schema, and what is checked before anybody is asked anything.

The schema is the one place where a setting is described; `--about`, the README's table, `meltano.yml`, `plugin.yml` and
`.secrets.example` follow it. `Settings.read` turns a configuration into values the program can use, or refuses it.
"""

from __future__ import annotations

import datetime as dt
import difflib
import ipaddress
import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import fsspec  # type: ignore[import-untyped]
from singer_sdk import typing as th
from singer_sdk.typing import DEFAULT_JSONSCHEMA_VALIDATOR, extend_validator_with_defaults

from .delivery.rejected_lines import RejectedLinesError, check_path
from .mixpanel.auth import OAuthToken, ProjectSecret, ServiceAccount
from .mixpanel.errors import Refused
from .mixpanel.quota import HOURLY
from .mixpanel.request import REGIONS, Hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from jsonschema import ValidationError  # type: ignore[import-untyped]

    from .mixpanel.auth import Auth

# Mixpanel's documentation: project secrets stop working on this day.
PROJECT_SECRETS_END = dt.date(2027, 3, 3)
# Mixpanel's documentation: about this many `distinct_ids` at most in one query.
MOST_DISTINCT_IDS = 2000
UTC = ZoneInfo("UTC")
# From here on a Unix time is one of milliseconds; in seconds it would be the year 5138.
_IN_MILLISECONDS = 10**11
CREDENTIALS = ("project_id", "service_account_username", "service_account_secret", "oauth_token", "api_secret")
# Settings of digits, given as text or as a number.
_IDS = ("project_id", "workspace_id")

SCHEMA: dict[str, Any] = th.PropertiesList(
    th.Property(
        "project_id",
        th.StringType,
        title="Project ID",
        description=(
            "Number of the Mixpanel project, as text or a number; needed with a service account or an OAuth token."
        ),
    ),
    th.Property(
        "service_account_username",
        th.StringType,
        title="Service Account Username",
        description="User name of a service account, the recommended way in.",
        secret=True,
    ),
    th.Property(
        "service_account_secret",
        th.StringType,
        title="Service Account Secret",
        description="Secret of the service account.",
        secret=True,
    ),
    th.Property(
        "oauth_token",
        th.StringType,
        title="OAuth Token",
        description="Bearer token, instead of a service account.",
        secret=True,
    ),
    th.Property(
        "api_secret",
        th.StringType,
        title="Project Secret",
        description=f"Project secret, instead of a service account. Mixpanel retires it on {PROJECT_SECRETS_END}.",
        secret=True,
    ),
    th.Property(
        "region",
        th.StringType,
        title="Region",
        description="Where Mixpanel keeps the project's data.",
        allowed_values=["us", "eu", "in"],
        default="us",
    ),
    th.Property(
        "raw",
        th.BooleanType,
        title="Raw Records",
        description="Records in Mixpanel's own shape instead of the normalized one.",
        default=False,
    ),
    th.Property(
        "streams",
        th.ArrayType(th.StringType),
        title="Streams",
        description=(
            "Names of the streams to read where there is no catalog; events, profiles and groups if absent. "
            "A catalog takes precedence; Meltano always gives one."
        ),
        examples=[["events", "profiles", "cohorts"]],
    ),
    th.Property(
        "start_date",
        th.StringType,
        title="Start Date",
        description=(
            "First day of events and funnels, a date or a date-time; needed for them. "
            "A date-time means the day it falls on in the project's time zone."
        ),
        examples=["2024-01-15"],
    ),
    th.Property(
        "end_date",
        th.StringType,
        title="End Date",
        description=(
            "Last day of events and funnels, inclusive. Today in the project's time zone if absent, never later."
        ),
        examples=["2024-01-31"],
    ),
    th.Property(
        "project_timezone",
        th.StringType,
        title="Project Time Zone",
        description=(
            "IANA name of the zone in which Mixpanel stored the events; needed for projects from before 2023. "
            "If absent, UTC is assumed, and a first load stops before its first record if the events show another zone."
        ),
        examples=["Europe/Berlin"],
    ),
    th.Property(
        "lookback_days",
        th.IntegerType(minimum=0),
        title="Look-back Days",
        description="Days before the bookmark's day to read again for late events; 0 loses late events.",
        default=5,
    ),
    th.Property(
        "incremental_by",
        th.StringType,
        title="Incremental By",
        description=(
            "What a run reads again in the days of the look-back: all events (`event_time`), "
            "or only those that Mixpanel processed since the last run (`ingestion_time`)."
        ),
        allowed_values=["event_time", "ingestion_time"],
        default="event_time",
    ),
    th.Property(
        "backfill",
        th.StringType,
        title="Back-fill",
        description=(
            "Where a run has more than 30 days to read: in their order (`oldest_first`), "
            "or the last days first and then backwards, over as many runs as the quota takes (`newest_first`)."
        ),
        allowed_values=["oldest_first", "newest_first"],
        default="oldest_first",
    ),
    th.Property(
        "window_days",
        th.IntegerType(minimum=1),
        title="Window Days",
        description="Days that one export request spans. Adaptive if absent.",
    ),
    th.Property(
        "concurrent_exports",
        th.IntegerType(minimum=1, maximum=100),
        title="Concurrent Exports",
        description="Windows fetched ahead.",
        default=2,
    ),
    th.Property(
        "worker_processes",
        th.IntegerType(minimum=1, maximum=64),
        title="Worker Processes",
        description=(
            "Processes that unpack and convert the windows of events, one each at a time; "
            "keeps as many cores busy if concurrent_exports is larger. Done in the tap's own process if absent."
        ),
    ),
    th.Property(
        "event_names",
        th.ArrayType(th.StringType),
        title="Event Names",
        description="Only these events; all if absent.",
        examples=[["Signed up", "Purchase"]],
    ),
    th.Property(
        "events_where",
        th.StringType,
        title="Events Where",
        description="Only events for which this Mixpanel expression holds; Mixpanel evaluates it.",
        examples=['properties["$city"] == "Berlin"'],
    ),
    th.Property(
        "time_in_ms",
        th.BooleanType,
        title="Time in Milliseconds",
        description="Ask Mixpanel for event times in milliseconds instead of seconds.",
        default=False,
    ),
    th.Property(
        "profiles_where",
        th.StringType,
        title="Profiles Where",
        description="Only profiles for which this Mixpanel expression holds; Mixpanel evaluates it.",
        examples=['properties["$last_seen"] >= "2024-01-15T00:00:00"'],
    ),
    th.Property(
        "profile_properties",
        th.ArrayType(th.StringType),
        title="Profile Properties",
        description="Only these properties of a profile; all if absent.",
        examples=[["$email", "plan"]],
    ),
    th.Property(
        "profiles_page_size",
        th.IntegerType(minimum=1),
        title="Profiles Page Size",
        description="Profiles asked for in one page. Mixpanel may answer with smaller pages.",
        default=5000,
    ),
    th.Property(
        "profiles_incremental",
        th.BooleanType,
        title="Profiles Incremental",
        description=(
            "Only profiles seen since the last run, by `$last_seen`, users' and groups'. Misses profiles without it, "
            "changes that do not move it, and deletions, until the next full refresh."
        ),
        default=False,
    ),
    th.Property(
        "profiles_full_refresh_days",
        th.IntegerType(minimum=1),
        title="Profiles Full Refresh Days",
        description="With `profiles_incremental`: days after which all profiles are read again.",
        default=7,
    ),
    th.Property(
        "cohort_id",
        th.IntegerType,
        title="Cohort ID",
        description="Only profiles in this cohort.",
    ),
    th.Property(
        "include_all_users",
        th.BooleanType,
        title="Include All Users",
        description="With a cohort: also its members that have no profile.",
        default=False,
    ),
    th.Property(
        "distinct_ids",
        th.ArrayType(th.StringType),
        title="Distinct IDs",
        description=f"Only these profiles, {MOST_DISTINCT_IDS} at most.",
    ),
    th.Property(
        "behaviors",
        th.ArrayType(th.ObjectType(additional_properties=True)),
        title="Behaviors",
        description="Behaviours as Mixpanel's Engage query takes them, to be used in `profiles_where`.",
    ),
    th.Property(
        "as_of_timestamp",
        th.IntegerType,
        title="As of Timestamp",
        description=(
            "Profiles as they were at this Unix time in seconds. With `behaviors`, which Mixpanel counts from it, the "
            "time of asking if absent."
        ),
    ),
    th.Property(
        "group_profiles",
        th.ArrayType(
            th.ObjectType(
                th.Property("name", th.StringType, required=True),
                th.Property("data_group_id", th.StringType, required=True),
                additional_properties=False,
            )
        ),
        title="Group Profiles",
        description=(
            "Groups whose profiles are read, each into a stream of its own: the stream's `name` and the group's "
            "`data_group_id`, as text. What narrows user profiles leaves groups alone."
        ),
        examples=[[{"name": "companies", "data_group_id": "-1234567890123456789"}]],
    ),
    th.Property(
        "workspace_id",
        th.StringType,
        title="Workspace ID",
        description="Number of the data view to query profiles through, as text or a number.",
    ),
    th.Property(
        "bad_lines",
        th.StringType,
        title="Bad Lines",
        description="Malformed event or profile: stop, or set it aside in `bad_lines_path` and count it.",
        allowed_values=["fail", "skip"],
        default="fail",
    ),
    th.Property(
        "bad_lines_path",
        th.StringType,
        title="Bad Lines Path",
        description="File to which lines set aside are appended, as they came; needed with `bad_lines: skip`.",
    ),
    th.Property(
        "strip_nul",
        th.BooleanType,
        title="Strip NUL",
        description="Take \\u0000 out of strings, which Postgres cannot store, and report how many.",
        default=False,
    ),
    th.Property(
        "request_timeout",
        th.IntegerType(minimum=1, maximum=86_400),
        title="Request Timeout",
        description="Read timeout in seconds: the longest pause in a response, and the longest wait for its head.",
        default=600,
    ),
    th.Property(
        "max_retries",
        th.IntegerType(minimum=0),
        title="Max Retries",
        description="Tries after a failed request or a bad window, after about 1, 2, 4, 8, 8 s.",
        default=5,
    ),
    th.Property(
        "hourly_quota",
        th.IntegerType(minimum=1),
        title="Hourly Quota",
        description=(
            "Requests an hour that this run may make to the export, and as many to the query API. "
            f"{HOURLY} if absent, or the project's own limit if Mixpanel tells it. Less where several runs share it."
        ),
    ),
    th.Property(
        "max_quota_wait",
        th.IntegerType(minimum=0),
        title="Max Quota Wait",
        description="The longest that a run waits for Mixpanel's query quota in all, in seconds.",
        default=7200,
    ),
    th.Property(
        "data_api_url",
        th.StringType,
        title="Data API URL",
        description="Base URL of the raw export, instead of the region's.",
        examples=["https://data.mixpanel.com/api/2.0"],
    ),
    th.Property(
        "api_url",
        th.StringType,
        title="API URL",
        description="Base URL of the query API, instead of the region's.",
        examples=["https://mixpanel.com/api"],
    ),
    th.Property(
        "user_agent",
        th.StringType,
        title="User Agent",
        description="User agent to introduce ourselves with.",
    ),
    th.Property(
        "emit_activate_version_messages",
        th.BooleanType,
        title="Emit ACTIVATE_VERSION",
        description=(
            "After all records of a full-table stream an ACTIVATE_VERSION message, by which a target can drop rows "
            "that are gone at Mixpanel."
        ),
        default=False,
    ),
    additional_properties=False,
).to_dict()


class SettingsError(Exception):
    """The configuration is refused. The message names the settings and the remedies, in one line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))


@dataclass(frozen=True)
class Group:
    """A group that has profiles of its own.

    Attributes:
        name: What its stream is called.
        data_group_id: Mixpanel's 64-bit number for it, which may be negative; text, so that no digit is lost.
    """

    name: str
    data_group_id: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A configuration that has passed all checks. Names are those of the settings.

    Attributes:
        hosts: Whom to ask.
        other_regions: Who else could have the project; nobody where `data_api_url` or `api_url` says whom to ask.
    """

    auth: Auth
    region: str
    raw: bool
    hosts: Hosts
    other_regions: Mapping[str, Hosts]
    project_timezone: ZoneInfo | None
    start_date: dt.date | None
    end_date: dt.date | None
    lookback_days: int
    incremental_by: str
    backfill: str
    window_days: int | None
    concurrent_exports: int
    worker_processes: int | None
    event_names: list[str]
    events_where: str | None
    time_in_ms: bool
    profiles_where: str | None
    profile_properties: list[str]
    profiles_page_size: int
    profiles_incremental: bool
    profiles_full_refresh_days: int
    cohort_id: int | None
    include_all_users: bool
    distinct_ids: list[str]
    behaviors: list[dict[str, Any]]
    as_of_timestamp: int | None
    group_profiles: list[Group]
    workspace_id: str | None
    bad_lines: str
    bad_lines_path: Path | None
    strip_nul: bool
    request_timeout: int
    max_retries: int
    hourly_quota: int | None
    max_quota_wait: int
    user_agent: str | None

    @classmethod
    def read(cls, config: Mapping[str, Any], unread: Sequence[str] = ()) -> Settings:
        """Check a configuration that fits the schema, and make it usable.

        Args:
            config: Settings by name, as the SDK read them. Defaults need not be filled in.
            unread: Environment variables that hold credentials, but that the user did not have the tap read.

        Raises:
            SettingsError: All that is wrong, each with the setting's name and the remedy.
        """
        check = _Checks()
        values = {name: _present(config.get(name, spec.get("default"))) for name, spec in SCHEMA["properties"].items()}
        check.take(_texts, values)
        for name in _IDS:
            check.take(_id, name, values[name])
        auth = check.take(_auth, values, unread)
        hosts = check.take(_hosts, values)
        zone = check.take(_zone, values)
        start = check.take(_day, values, "start_date", zone or UTC)
        end = check.take(_day, values, "end_date", zone or UTC)
        if start and end and end < start:
            check.problems.append(f"end_date {end} is before start_date {start}: swap them or leave end_date out")
        check.take(_profile_filters, values)
        groups = check.take(groups_in, values)
        bad_lines_path = check.take(_bad_lines_path, values)
        check.take(_batch_config, config.get("batch_config") or {})
        if check.problems or auth is None or hosts is None:
            raise SettingsError(check.problems)
        as_they_are = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        lists = {name: values[name] or [] for name in _LISTS}
        made = {
            "other_regions": _other_regions(values),
            "project_timezone": zone,
            "start_date": start,
            "end_date": end,
            "bad_lines_path": bad_lines_path,
            "group_profiles": groups,
        }
        return cls(auth=auth, hosts=hosts, **(as_they_are | lists | made))

    @property
    def zone(self) -> ZoneInfo:
        """The zone of the project's days."""
        return self.project_timezone or UTC

    def warnings(self) -> list[str]:
        """What the user should know before the run, a sentence each."""
        found = []
        if isinstance(self.auth, ProjectSecret):
            found.append(
                f"api_secret: Mixpanel retires project secrets on {PROJECT_SECRETS_END}; "
                "create a service account (Organization Settings > Service Accounts) and set service_account_username, "
                "service_account_secret and project_id"
            )
        if self.lookback_days == 0:
            found.append("lookback_days is 0: events that reach Mixpanel after their day was read are lost")
        if self.profiles_incremental:
            found.append(
                "profiles_incremental misses profiles without $last_seen, changes that do not move it, and deletions, "
                f"until all profiles are read again every {self.profiles_full_refresh_days} days "
                "(profiles_full_refresh_days)"
            )
        return found


T = TypeVar("T")
_LISTS = ("event_names", "profile_properties", "distinct_ids", "behaviors")


class _Checks:
    """Collects what is wrong, so that one look at the message is enough."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def take(self, make: Callable[..., T], *args: object) -> T | None:
        try:
            return make(*args)
        except (ValueError, Refused) as error:
            self.problems.append(str(error))
            return None


def _present(value: object) -> Any:
    # Meltano and shells hand on a setting that was left empty as an empty string.
    return None if value == "" else value


def _texts(values: dict[str, Any]) -> None:
    """Refuse what no request can carry."""
    for name, value in values.items():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(f"{name} holds half a character (an unpaired surrogate): write it anew") from None
    agent = values["user_agent"] or ""
    if not (agent.isascii() and agent.isprintable()):
        raise ValueError(
            "user_agent holds a character that a header cannot carry: use letters, digits and signs of ASCII"
        )


def _id(name: str, value: str | None) -> None:
    """Refuse an id that is not a number, since it becomes a part of the address."""
    if value is None or re.fullmatch(r"[0-9]+", value):
        return
    if re.fullmatch(r"\s*[0-9]+\s*", value):
        raise ValueError(f"{name} has a blank before or after it: take it out")
    raise ValueError(f"{name} is not a number: copy its digits from Mixpanel, Project Settings")


def _auth(values: dict[str, Any], unread: Sequence[str]) -> Auth:
    hint = f" (--config=ENV reads {', '.join(unread)} from the environment)" if unread else ""
    username, secret = values["service_account_username"], values["service_account_secret"]
    token, project_secret, project = values["oauth_token"], values["api_secret"], values["project_id"]
    ways = [
        name
        for name, given in (
            ("service_account_username and service_account_secret", username or secret),
            ("oauth_token", token),
            ("api_secret", project_secret),
        )
        if given
    ]
    if not ways:
        raise ValueError(
            "no credentials: set service_account_username and service_account_secret with project_id, "
            f"or oauth_token with project_id, or api_secret{hint}"
        )
    if len(ways) > 1:
        raise ValueError(f"more than one way to authenticate is set ({', '.join(ways)}): keep one")
    if username and not secret:
        raise ValueError(f"service_account_username is set without service_account_secret: set both{hint}")
    if secret and not username:
        raise ValueError(f"service_account_secret is set without service_account_username: set both{hint}")
    if project_secret:
        return ProjectSecret(project_secret)
    if not project:
        raise ValueError(f"project_id is missing: Mixpanel needs it with {ways[0]}{hint}")
    return OAuthToken(token, project) if token else ServiceAccount(username, secret, project)


def _hosts(values: dict[str, Any]) -> Hosts:
    region = REGIONS[values["region"]]
    return Hosts(
        data_api_url=_url(values, "data_api_url") or region.data_api_url,
        api_url=_url(values, "api_url") or region.api_url,
    )


def _other_regions(values: dict[str, Any]) -> Mapping[str, Hosts]:
    if values["data_api_url"] or values["api_url"]:
        return {}
    return {region: hosts for region, hosts in REGIONS.items() if region != values["region"]}


def _url(values: dict[str, Any], name: str) -> str | None:
    url: str | None = values[name]
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # Its message repeats the address, a password in it included.
        is_address = False
    if not is_address or not url.isprintable() or " " in url:
        raise ValueError(f"{name} is not a web address: write it as https://host/path")
    # Their signs alone are enough to change what the path that follows means.
    if any(sign in url for sign in "@?#"):
        raise ValueError(f"{name} must be a plain base address: no credentials, query or fragment in it")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError(
            f"{name} is plain http to another machine, which would send the credentials unprotected: use https"
        )
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _zone(values: dict[str, Any]) -> ZoneInfo | None:
    name = values["project_timezone"]
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ValueError(f"project_timezone {name!r} is unknown: use an IANA name such as Europe/Berlin") from None


def _day(values: dict[str, Any], name: str, zone: ZoneInfo) -> dt.date | None:
    text: str | None = values[name]
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
        return (moment.astimezone(zone) if moment.tzinfo else moment).date()
    except (ValueError, OverflowError):
        raise ValueError(f"{name} {text!r} is not a date: write it as 2024-01-15 or 2024-01-15T00:00:00Z") from None


def _profile_filters(values: dict[str, Any]) -> None:
    if values["behaviors"] and values["cohort_id"] is not None:
        raise ValueError("behaviors and cohort_id exclude each other at Mixpanel: keep one")
    if values["behaviors"] and "behaviors" not in (values["profiles_where"] or ""):
        raise ValueError(
            'behaviors narrow nothing by themselves: use them in profiles_where, as in behaviors["name"] > 0'
        )
    if (values["as_of_timestamp"] or 0) >= _IN_MILLISECONDS:
        raise ValueError("as_of_timestamp is in milliseconds: give it in seconds")
    if values["include_all_users"] and values["cohort_id"] is None:
        raise ValueError(
            "include_all_users means something only with cohort_id: set it, or leave include_all_users out"
        )
    if values["profiles_incremental"] and values["as_of_timestamp"] is not None:
        raise ValueError("profiles_incremental and as_of_timestamp exclude each other: what was then does not change")
    if len(values["distinct_ids"] or []) > MOST_DISTINCT_IDS:
        raise ValueError(f"distinct_ids has more than {MOST_DISTINCT_IDS} entries, which Mixpanel does not take")


def groups_in(config: Mapping[str, Any]) -> list[Group]:
    """The groups of a configuration, whose other settings may be missing: discovery needs no more.

    Raises:
        ValueError: Something is wrong with one of them.
    """
    try:
        groups = [Group(each["name"] + "", each["data_group_id"] + "") for each in config.get("group_profiles") or ()]
    except (KeyError, TypeError):
        raise ValueError("group_profiles: each of them needs a name and a data_group_id, both of them text") from None
    for group in groups:
        # Targets make a table of it, and some take a dot or a hyphen for the end of a schema's name.
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", group.name):
            raise ValueError(f"group_profiles: {group.name!r} cannot be a stream's name: use letters, digits and _")
        if not re.fullmatch(r"-?[0-9]+", group.data_group_id):
            raise ValueError(
                f"group_profiles: data_group_id {group.data_group_id!r} of {group.name} is no whole number"
            )
    return groups


def _bad_lines_path(values: dict[str, Any]) -> Path | None:
    if values["bad_lines"] != "skip":
        return None
    if values["bad_lines_path"] is None:
        raise ValueError("bad_lines is skip without bad_lines_path: set it, or the skipped lines would be lost")
    path = Path(values["bad_lines_path"])
    try:
        check_path(path)
    except RejectedLinesError as error:
        raise ValueError(f"bad_lines_path {error}") from None
    except ValueError:
        raise ValueError("bad_lines_path holds a character that no path can have") from None
    return path


def _batch_config(batch: Mapping[str, Any]) -> None:
    """Refuse what the SDK would fail by at the first batch. Values are not shown: the storage can hold a secret."""
    if not batch:
        return
    encoding, storage = batch.get("encoding") or {}, batch.get("storage") or {}
    known = {"": (batch, {"encoding", "storage", "batch_size"})}
    known |= {"encoding.": (encoding, {"format", "compression"}), "storage.": (storage, {"root", "prefix", "params"})}
    for path, (part, names) in known.items():
        for name in part.keys() - names:
            raise ValueError(f"batch_config: unknown {path}{name}: did you mean {path}{closest(name, names)}?")
    if encoding.get("format") != "jsonl":
        raise ValueError("batch_config: encoding.format must be jsonl, the one format that is written")
    if type(size := batch.get("batch_size") or 1) is not int or size < 1:
        raise ValueError("batch_config: batch_size must be an integer from 1")
    if not storage.get("root"):
        raise ValueError("batch_config: storage.root is missing: set it to a folder or a bucket, such as file:///data")
    protocol = fsspec.utils.get_protocol(storage["root"])
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        raise ValueError(f"batch_config: storage.root with {protocol}:// needs another package: {error}") from None
    except ValueError:
        raise ValueError("batch_config: storage.root begins with an unknown protocol: use file:// or s3://") from None


def prepare(config: dict[str, Any]) -> None:
    """Take out settings that are null, and write ids given as numbers as text."""
    for name, value in list(config.items()):
        if value is None:
            del config[name]  # The SDK fills in its default then.
        elif name in _IDS and type(value) is int:
            config[name] = str(value)


def closest(name: str, known: Iterable[str]) -> str:
    """Return the name that is most like an unknown one."""
    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


def closest_stream(name: str, streams: Iterable[str]) -> str:
    """Return the stream that an unknown name most likely means, by its name in tap-mixpanel too."""
    other_names = {"export": "events", "engage": "profiles"}
    meant = closest(name, [*streams, *other_names])
    return other_names.get(meant, meant)


def kind_of(spec: Mapping[str, Any]) -> str:
    """Return the JSON type of a setting."""
    kinds: list[str] = [spec["type"]] if isinstance(spec["type"], str) else spec["type"]
    return next(kind for kind in kinds if kind != "null")


def can_show(value: object, spec: Mapping[str, Any]) -> bool:
    """Return whether a wrong value may be shown: where the setting cannot hold a secret, and the value is plain."""
    if isinstance(value, str):
        return "enum" in spec or kind_of(spec) in {"integer", "boolean"}
    return not spec.get("secret") and isinstance(value, int | float | None)


def expected(spec: Mapping[str, Any]) -> str:
    """Return what a setting takes, in words."""
    kind = kind_of(spec)
    if "enum" in spec:
        return "one of " + ", ".join(spec["enum"])
    if kind == "integer":
        bounds = [f"from {spec['minimum']}"] if "minimum" in spec else []
        bounds += [f"to {spec['maximum']}"] if "maximum" in spec else []
        return " ".join(["an integer", *bounds])
    if kind == "array":
        items = kind_of(spec["items"])
        return 'a JSON array of strings, such as ["a", "b"]' if items == "string" else "a JSON array of objects"
    return {"boolean": "true or false", "object": "a JSON object", "string": "a string"}[kind]


def check_fits(
    config: Mapping[str, Any], schema: Mapping[str, Any], labels: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Refuse what does not fit the schema, without ever showing a value that can be a secret.

    Args:
        config: The configuration. Defaults are filled in.
        schema: The whole schema, the SDK's own settings included.
        labels: What to call a setting that is not given by its own name: a variable.

    Raises:
        SettingsError: A line for all of it.
    """
    known = schema["properties"]
    problems = []
    for name in config.keys() - known.keys():
        near = difflib.get_close_matches(name, known, n=1)
        remedy = f"did you mean {near[0]}?" if near else "`tap-mixpanel-stream --about` lists the settings"
        problems.append(f"unknown setting {name}: {remedy}")
    try:
        errors = list(extend_validator_with_defaults(DEFAULT_JSONSCHEMA_VALIDATOR)(schema).iter_errors(config))
    except AttributeError:
        # The SDK's schema of __else__ holds a string for a schema. A wrong value makes the validator reach it.
        raise SettingsError(["stream_maps: __else__ takes null only"]) from None
    for error in errors:
        if error.path:
            name = str(error.path[0])
            label = ".".join([labels.get(name, f"setting {name}"), *map(str, list(error.path)[1:])])
            problems.append(f"{label}: {_misfit(error, known[name])}")
    if problems:
        raise SettingsError(sorted(problems))


def _misfit(error: ValidationError, spec: Mapping[str, Any]) -> str:
    if len(error.path) > 1:
        return _inner_misfit(error)
    value, kind = error.instance, kind_of(spec)
    is_shown = can_show(value, spec)
    said = error.message if is_shown else "its value has the wrong type"
    if kind == "string" and isinstance(value, int | float):
        return f"{said}: write it in quotes"
    if kind in {"integer", "boolean"} and isinstance(value, str):
        return f"{said}: write {expected(spec)} without quotes"
    return said if is_shown else f"{said}: it takes {expected(spec)}"


def _inner_misfit(error: ValidationError) -> str:
    if error.validator == "required":
        return str(error.message)
    if error.validator == "additionalProperties":
        return f"its names are {', '.join(error.schema['properties'])}"
    if error.validator == "enum":
        return f"its value is not one of {', '.join(error.validator_value)}"
    return f"its value is not a {kind_of(error.schema)}" if error.validator == "type" else "its value does not fit"
