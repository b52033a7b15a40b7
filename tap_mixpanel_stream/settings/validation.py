"""Typed settings, and what is checked before anybody is asked anything.

`Settings.read` turns a configuration into values that the program can use, or refuses it with all that is wrong.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import fsspec  # type: ignore[import-untyped]
import msgspec
from singer_sdk.typing import DEFAULT_JSONSCHEMA_VALIDATOR, extend_validator_with_defaults

from ..delivery.rejected_lines import RejectedLinesError, check_path
from ..mixpanel.auth import OAuthToken, ProjectSecret, ServiceAccount
from ..mixpanel.errors import Refused
from ..mixpanel.request import REGIONS, Hosts
from ..records import EventSchema, ProfileSchema
from ..records.property_columns import PROPERTY_TYPES, PropertyColumn
from .errors import LIST_SETTINGS, SettingsError, can_show, expected, kind_of, suggestion
from .schema import MOST_DISTINCT_IDS, PROJECT_SECRETS_END, SCHEMA, Configuration, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jsonschema import ValidationError  # type: ignore[import-untyped]

    from ..mixpanel.auth import Auth

UTC = ZoneInfo("UTC")
# From here on a Unix time is one of milliseconds; in seconds it would be the year 5138.
_IN_MILLISECONDS = 10**11
# A password can contain a slash, and the path of a folder can contain a colon and an @.
_URL_WITH_PASSWORD = re.compile(r"(?!file:|local:)\w+://[^@]*:[^@]*@")
# The extra of this package that a bucket requires, by the protocol of its URL.
BUCKET_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
CREDENTIALS = ("project_id", "service_account_username", "service_account_secret", "oauth_token", "api_secret")
# Settings of digits, given as text or as a number.
_IDS = ("project_id", "workspace_id")


class Settings(Configuration, frozen=True, kw_only=True):
    """A configuration that has passed all checks.

    Attributes:
        auth: How to authenticate.
        hosts: Whom to ask.
    """

    auth: Auth
    hosts: Hosts

    @classmethod
    def read(cls, config: Mapping[str, Any], misfits: Mapping[str, str], unread: Sequence[str] = ()) -> Settings:
        """Check a configuration, and make it usable.

        Args:
            config: Settings by name, as the SDK read them. Defaults need not be filled in.
            misfits: What does not fit the schema, by setting.
            unread: Environment variables that hold credentials, but that the user did not have the tap read.

        Raises:
            SettingsError: All that is wrong, each with the setting's name and the remedy.
        """
        check = _Checks(sorted(misfits.values()))
        specs = SCHEMA["properties"] | {"batch_config": {}}
        values = _Values(
            {name: config.get(name, spec.get("default")) for name, spec in specs.items() if name not in misfits}
        )
        check.take(_texts, values)
        check.take(_user_agent, values)
        for name in _IDS:
            check.take(_id, values, name)
        auth = check.take(_auth, values, unread)
        hosts = check.take(_hosts, values)
        zone = check.take(_zone, values)
        start = check.take(_day, values, "start_date", zone or UTC)
        end = check.take(_day, values, "end_date", zone or UTC)
        if start and end and end < start:
            check.problems.append(f"end_date {end} is before start_date {start}: swap them or leave end_date out")
        for profile_check in _PROFILE_CHECKS:
            check.take(profile_check, values)
        check.take(groups_in, values)
        check.take(_insights_reports, values)
        check.take(record_schemas, values)
        bad_lines_path = check.take(_bad_lines_path, values)
        check.take(_batch_config, values)
        if check.problems or auth is None or hosts is None:
            raise SettingsError(check.problems)
        typed = {"start_date": start, "end_date": end, "project_timezone": zone, "bad_lines_path": bad_lines_path}
        given = {name: value for name, value in (values | typed).items() if value is not None}
        try:
            configuration = msgspec.convert(given, Configuration, strict=False)
        except msgspec.ValidationError as error:  # What the JSON schema lets pass, such as the integer 1e300.
            problem, _, place = str(error).partition(" - at `$.")
            raise SettingsError([f"{place.rstrip('`')}: {problem}"]) from None
        return cls(auth=auth, hosts=hosts, **msgspec.structs.asdict(configuration))

    def __repr__(self) -> str:
        """Show no secret."""
        return "<Settings>"

    @property
    def other_regions(self) -> Mapping[str, Hosts]:
        """Who else could have the project; nobody where `data_api_url` or `api_url` says whom to ask."""
        if self.data_api_url or self.api_url:
            return {}
        return {region: hosts for region, hosts in REGIONS.items() if region != self.region}

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


class _Checks:
    """Collects what is wrong, so that one look at the message is enough."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems

    def take(self, make: Callable[..., T], *args: object) -> T | None:
        try:
            return make(*args)
        except (ValueError, Refused) as error:
            self.problems.append(str(error))
        except _MisfitError:
            pass
        return None


class _MisfitError(Exception):
    """A check needs a setting whose value does not fit the schema, which the user hears of anyway."""


class _Values(dict[str, Any]):
    """Settings by name, without those whose value does not fit the schema."""

    def __missing__(self, name: str) -> Any:
        raise _MisfitError(name)


def _texts(values: _Values) -> None:
    """Refuse what no request can carry."""
    for name, value in values.items():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(f"{name} contains an unpaired surrogate: re-enter the value") from None


def _user_agent(values: _Values) -> None:
    agent = values["user_agent"] or ""
    if not (agent.isascii() and agent.isprintable()):
        raise ValueError("user_agent contains a character that is invalid in a header: use printable ASCII characters")


def _id(values: _Values, name: str) -> None:
    """Refuse an id that is not a number, since it becomes a part of the address."""
    value = values[name]
    if value is None or re.fullmatch(r"[0-9]+", value):
        return
    if re.fullmatch(r"\s*[0-9]+\s*", value):
        raise ValueError(f"{name} has leading or trailing whitespace: remove it")
    raise ValueError(f"{name} is not a number: copy its digits from Mixpanel, Project Settings")


def _auth(values: _Values, unread: Sequence[str]) -> Auth:
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


def _hosts(values: _Values) -> Hosts:
    region = REGIONS[values["region"]]
    return Hosts(
        data_api_url=_url(values, "data_api_url") or region.data_api_url,
        api_url=_url(values, "api_url") or region.api_url,
    )


def _url(values: _Values, name: str) -> str | None:
    url: str | None = values[name]
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # Its message repeats the address, a password in it included.
        is_address = False
    if not is_address or not url.isprintable() or " " in url:
        raise ValueError(f"{name} is not a URL: write it as https://host/path")
    # Their signs alone are enough to change what the path that follows means.
    if any(sign in url for sign in "@?#"):
        raise ValueError(f"{name} must be a base URL without credentials, query or fragment")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError(
            f"{name} is plain http to another machine, which would send the credentials unencrypted: use https"
        )
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _zone(values: _Values) -> ZoneInfo | None:
    name = values["project_timezone"]
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ValueError(f"project_timezone {name!r} is unknown: use an IANA name such as Europe/Berlin") from None


def _day(values: _Values, name: str, zone: ZoneInfo) -> dt.date | None:
    text: str | None = values[name]
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
        return (moment.astimezone(zone) if moment.tzinfo else moment).date()
    except (ValueError, OverflowError):
        raise ValueError(f"{name} {text!r} is not a date: write it as 2024-01-15 or 2024-01-15T00:00:00Z") from None


def _behaviors(values: _Values) -> None:
    if values["behaviors"] and values["cohort_id"] is not None:
        raise ValueError("behaviors and cohort_id cannot be combined: keep one")
    if values["behaviors"] and "behaviors" not in (values["profiles_where"] or ""):
        raise ValueError(
            'behaviors have no effect by themselves: use them in profiles_where, as in behaviors["name"] > 0'
        )


def _as_of_timestamp(values: _Values) -> None:
    if (values["as_of_timestamp"] or 0) >= _IN_MILLISECONDS:
        raise ValueError("as_of_timestamp is in milliseconds: give it in seconds")
    if values["profiles_incremental"] and values["as_of_timestamp"] is not None:
        raise ValueError("profiles_incremental and as_of_timestamp cannot be combined: past profiles do not change")


def _include_all_users(values: _Values) -> None:
    if values["include_all_users"] and values["cohort_id"] is None:
        raise ValueError("include_all_users requires cohort_id: set it, or remove include_all_users")


def _distinct_ids(values: _Values) -> None:
    if len(values["distinct_ids"] or []) > MOST_DISTINCT_IDS:
        raise ValueError(f"distinct_ids has more than {MOST_DISTINCT_IDS} entries, the most that Mixpanel accepts")


_PROFILE_CHECKS = (_behaviors, _as_of_timestamp, _include_all_users, _distinct_ids)


def groups_in(config: Mapping[str, Any]) -> list[Group]:
    """The groups of a configuration, whose other settings may be missing: discovery needs no more.

    Raises:
        ValueError: Something is wrong with one of them.
    """
    try:
        groups = msgspec.convert(config.get("group_profiles") or [], list[Group])
    except msgspec.ValidationError:
        raise ValueError("group_profiles: each group needs a name and a data_group_id, both strings") from None
    for group in groups:
        # Targets make a table of it, and some take a dot or a hyphen for the end of a schema's name.
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", group.name):
            raise ValueError(f"group_profiles: {group.name!r} cannot be a stream's name: use letters, digits and _")
        if not re.fullmatch(r"-?[0-9]+", group.data_group_id):
            raise ValueError(f"group_profiles: data_group_id {group.data_group_id!r} of {group.name} is not an integer")
    return groups


def _insights_reports(values: _Values) -> None:
    ids = [report["bookmark_id"] for report in values["insights_reports"] or ()]
    for number in ids:
        if ids.count(number) > 1:
            raise ValueError(f"insights_reports: bookmark_id {number} is listed twice: keep one")


def record_schemas(config: Mapping[str, Any]) -> tuple[EventSchema, ProfileSchema]:
    """Return the schemas of a configuration, whose other settings may be missing: discovery needs no more.

    Raises:
        ValueError: `event_columns` or `profile_columns` cannot be columns.
    """
    raw = bool(config.get("raw"))
    event_columns = _property_columns(config, "event_columns", EventSchema().columns)
    return EventSchema(raw, event_columns), ProfileSchema(
        raw, _property_columns(config, "profile_columns", ProfileSchema().columns)
    )


def _property_columns(config: Mapping[str, Any], setting: str, columns: Sequence[str]) -> tuple[PropertyColumn, ...]:
    """Return the columns of `event_columns` or `profile_columns`, which come after `columns`."""
    try:
        chosen = msgspec.convert(config.get(setting) or [], tuple[PropertyColumn, ...])
    except msgspec.ValidationError as error:
        raise ValueError(
            f"{setting}: each needs a name, a property and a type, which is one of {', '.join(PROPERTY_TYPES)}: {error}"
        ) from None
    if chosen and config.get("raw"):
        raise ValueError(f"{setting}: raw records have no such columns: set raw to false, or remove {setting}")
    # Most databases ignore the case of a name.
    taken = {name.casefold() for name in columns}
    for column in chosen:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", column.name):
            raise ValueError(
                f"{setting}: {column.name!r} cannot be a column's name: use a letter, then letters, digits and _"
            )
        if column.name.casefold() in taken:
            raise ValueError(f"{setting}: there is another column called {column.name}: rename one of them")
        taken.add(column.name.casefold())
    return chosen


def _bad_lines_path(values: _Values) -> Path | None:
    if values["bad_lines"] != "skip":
        return None
    if values["bad_lines_path"] is None:
        raise ValueError("bad_lines: skip requires bad_lines_path, the file for the skipped lines")
    path = Path(values["bad_lines_path"])
    try:
        check_path(path)
    except RejectedLinesError as error:
        raise ValueError(f"bad_lines_path {error}") from None
    except ValueError:
        raise ValueError("bad_lines_path contains a character that is invalid in a path") from None
    return path


def _batch_config(values: _Values) -> None:
    """Refuse what the SDK would fail by at the first batch. Values are not shown: the storage can hold a secret."""
    batch = values["batch_config"]
    if not batch:
        return
    encoding, storage = batch.get("encoding") or {}, batch.get("storage") or {}
    known = {"": (batch, {"encoding", "storage", "batch_size"})}
    known |= {"encoding.": (encoding, {"format", "compression"}), "storage.": (storage, {"root", "prefix", "params"})}
    for path, (part, names) in known.items():
        for name in part.keys() - names:
            remedy = suggestion(name, names, f"it takes {', '.join(sorted(names))}", prefix=path)
            raise ValueError(f"batch_config: unknown {path}{name}: {remedy}")
    if encoding.get("format") != "jsonl":
        raise ValueError("batch_config: encoding.format must be jsonl, the only supported format")
    if type(size := batch.get("batch_size") or 1) is not int or size < 1:
        raise ValueError("batch_config: batch_size must be an integer from 1")
    if not storage.get("root"):
        raise ValueError("batch_config: storage.root is missing: set it to a folder or a bucket, such as file:///data")
    protocol = fsspec.utils.get_protocol(storage["root"])
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        extra = BUCKET_EXTRAS.get(protocol)
        remedy = f"pip install 'tap-mixpanel-stream[{extra}]'" if extra else str(error)
        raise ValueError(f"batch_config: storage.root with {protocol}:// requires another package: {remedy}") from None
    except ValueError:
        raise ValueError(
            "batch_config: storage.root begins with an unknown protocol: use file://, s3:// or gs://"
        ) from None
    if _URL_WITH_PASSWORD.match(storage["root"]):
        remedy = "set them in storage.params or in the environment"
        raise ValueError(f"batch_config: storage.root contains credentials, which would reach the target: {remedy}")


def prepare(config: dict[str, Any]) -> None:
    """Take out settings that are null or empty, and write ids given as numbers as text."""
    for name, value in list(config.items()):
        # Meltano and shells hand on a setting that was left empty as an empty string.
        if value is None or (value == "" and name in SCHEMA["properties"]):
            del config[name]  # The SDK fills in its default then.
        elif name in _IDS and type(value) is int:
            config[name] = str(value)


def find_misfits(
    config: Mapping[str, Any], schema: Mapping[str, Any], labels: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """Return what does not fit the schema, by setting, without ever showing a value that can be a secret.

    Args:
        config: The configuration. Defaults are filled in.
        schema: The whole schema, the SDK's own settings included.
        labels: What to call a setting that is not given by its own name: a variable.
    """
    known = schema["properties"]
    misfits = {}
    for name in config.keys() - known.keys():
        remedy = suggestion(name, known, LIST_SETTINGS)
        misfits[name] = f"unknown setting {name}: {remedy}"
    errors: list[ValidationError] = []
    try:
        errors.extend(extend_validator_with_defaults(DEFAULT_JSONSCHEMA_VALIDATOR)(schema).iter_errors(config))
    except AttributeError:
        # The SDK's schema of __else__ holds a string for a schema. A wrong value makes the validator reach it.
        misfits["stream_maps"] = "stream_maps: __else__ must be null"
    for error in errors:
        if error.path:
            name, *inside = map(str, error.path)
            label = ".".join([labels.get(name, f"setting {name}"), *inside])
            problem = f"{label}: {_misfit(error, known[name])}"
            misfits[name] = f"{misfits[name]}; {problem}" if name in misfits else problem
    return misfits


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
