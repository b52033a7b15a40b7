"""Typed settings, and their validation before the first request.

`Settings.read` converts a configuration to typed values, or raises an error with all of its problems.
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
from .schema import MAX_DISTINCT_IDS, PROJECT_SECRETS_END, SCHEMA, Configuration, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jsonschema import ValidationError  # type: ignore[import-untyped]

    from ..mixpanel.auth import Auth

UTC = ZoneInfo("UTC")
# A Unix time of at least this is in milliseconds; in seconds it would be in the year 5138.
_IN_MILLISECONDS = 10**11
# A password can contain a slash. The path of a folder can contain a colon and an @.
_URL_WITH_PASSWORD = re.compile(r"(?!file:|local:)\w+://[^@]*:[^@]*@")
# The extra of this package that a bucket requires, by the protocol of its URL.
BUCKET_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
CREDENTIALS = ("project_id", "service_account_username", "service_account_secret", "oauth_token", "api_secret")
# Settings that consist of digits, as text or as a number.
_IDS = ("project_id", "workspace_id")


class Settings(Configuration, frozen=True, kw_only=True):
    """A valid configuration.

    Attributes:
        auth: The credentials.
        hosts: The hosts of the API.
    """

    auth: Auth
    hosts: Hosts

    @classmethod
    def read(
        cls, config: Mapping[str, Any], schema_errors: Mapping[str, str], unread_variables: Sequence[str] = ()
    ) -> Settings:
        """Validate a configuration and convert it to typed settings.

        Args:
            config: The settings by name, as the SDK read them. Defaults can be missing.
            schema_errors: The problems that `find_schema_errors` found, by setting.
            unread_variables: Environment variables with credentials that the tap does not read without `--config=ENV`.

        Raises:
            SettingsError: The configuration is invalid. The message lists all problems with their remedies.
        """
        checks = _Checks(sorted(schema_errors.values()))
        specs = SCHEMA["properties"] | {"batch_config": {}}
        values = _Values(
            {name: config.get(name, spec.get("default")) for name, spec in specs.items() if name not in schema_errors}
        )
        checks.run(_check_text, values)
        checks.run(_check_user_agent, values)
        for name in _IDS:
            checks.run(_check_id, values, name)
        auth = checks.run(_auth, values, unread_variables)
        hosts = checks.run(_hosts, values)
        zone = checks.run(_zone, values)
        start = checks.run(_day, values, "start_date", zone or UTC)
        end = checks.run(_day, values, "end_date", zone or UTC)
        if start and end and end < start:
            checks.problems.append(f"end_date {end} is before start_date {start}: swap them or leave end_date out")
        for profile_check in _PROFILE_CHECKS:
            checks.run(profile_check, values)
        checks.run(read_groups, values)
        checks.run(_check_insights_reports, values)
        checks.run(record_schemas, values)
        bad_lines_path = checks.run(_bad_lines_path, values)
        checks.run(_check_batch_config, values)
        if checks.problems or auth is None or hosts is None:
            raise SettingsError(checks.problems)
        typed = {"start_date": start, "end_date": end, "project_timezone": zone, "bad_lines_path": bad_lines_path}
        given = {name: value for name, value in (values | typed).items() if value is not None}
        try:
            configuration = msgspec.convert(given, Configuration, strict=False)
        except msgspec.ValidationError as error:  # Values that the JSON schema accepts, such as the integer 1e300.
            problem, _, place = str(error).partition(" - at `$.")
            raise SettingsError([f"{place.rstrip('`')}: {problem}"]) from None
        return cls(auth=auth, hosts=hosts, **msgspec.structs.asdict(configuration))

    def __repr__(self) -> str:
        """Return text without any secret."""
        return "<Settings>"

    @property
    def other_regions(self) -> Mapping[str, Hosts]:
        """The other regions in which the project could be; empty if `data_api_url` or `api_url` is set."""
        if self.data_api_url or self.api_url:
            return {}
        return {region: hosts for region, hosts in REGIONS.items() if region != self.region}

    @property
    def zone(self) -> ZoneInfo:
        """The project's time zone."""
        return self.project_timezone or UTC

    def warnings(self) -> list[str]:
        """Return warnings about valid but risky settings."""
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
                "profiles_incremental misses profiles without $last_seen, changes that do not update it, and "
                f"deletions, until the next full refresh, every {self.profiles_full_refresh_days} days "
                "(profiles_full_refresh_days)"
            )
        return found


T = TypeVar("T")


class _Checks:
    """Runs checks and collects their problems, so that one message reports all of them."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems

    def run(self, check: Callable[..., T], *args: object) -> T | None:
        """Return the result of a check; None if it failed."""
        try:
            return check(*args)
        except (ValueError, Refused) as error:
            self.problems.append(str(error))
        except _InvalidSettingError:
            pass
        return None


class _InvalidSettingError(Exception):
    """A check needs a setting that does not match the schema. That problem is already reported."""


class _Values(dict[str, Any]):
    """Settings by name, without those that do not match the schema."""

    def __missing__(self, name: str) -> Any:
        raise _InvalidSettingError(name)


def _check_text(values: _Values) -> None:
    """Reject text that cannot be encoded."""
    for name, value in values.items():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(f"{name} contains an unpaired surrogate: re-enter the value") from None


def _check_user_agent(values: _Values) -> None:
    agent = values["user_agent"] or ""
    if not (agent.isascii() and agent.isprintable()):
        raise ValueError("user_agent contains a character that is invalid in a header: use printable ASCII characters")


def _check_id(values: _Values, name: str) -> None:
    """Reject an id that is not a number, since it becomes part of URLs."""
    value = values[name]
    if value is None or re.fullmatch(r"[0-9]+", value):
        return
    if re.fullmatch(r"\s*[0-9]+\s*", value):
        raise ValueError(f"{name} has leading or trailing whitespace: remove it")
    raise ValueError(f"{name} is not a number: copy its digits from Mixpanel, Project Settings")


def _auth(values: _Values, unread_variables: Sequence[str]) -> Auth:
    hint = f" (--config=ENV reads {', '.join(unread_variables)} from the environment)" if unread_variables else ""
    username, secret = values["service_account_username"], values["service_account_secret"]
    token, project_secret, project = values["oauth_token"], values["api_secret"], values["project_id"]
    methods = [
        name
        for name, given in (
            ("service_account_username and service_account_secret", username or secret),
            ("oauth_token", token),
            ("api_secret", project_secret),
        )
        if given
    ]
    if not methods:
        raise ValueError(
            "no credentials: set service_account_username and service_account_secret with project_id, "
            f"or oauth_token with project_id, or api_secret{hint}"
        )
    if len(methods) > 1:
        raise ValueError(f"more than one way to authenticate is set ({', '.join(methods)}): keep one")
    if username and not secret:
        raise ValueError(f"service_account_username is set without service_account_secret: set both{hint}")
    if secret and not username:
        raise ValueError(f"service_account_secret is set without service_account_username: set both{hint}")
    if project_secret:
        return ProjectSecret(project_secret)
    if not project:
        raise ValueError(f"project_id is missing: Mixpanel requires it with {methods[0]}{hint}")
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
    except ValueError:  # Not quoted, because its message contains the URL, which can have a password.
        is_address = False
    if not is_address or not url.isprintable() or " " in url:
        raise ValueError(f"{name} is not a URL: write it as https://host/path")
    # Even an empty query or fragment would change the meaning of the path that is appended.
    if any(character in url for character in "@?#"):
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


def _check_behaviors(values: _Values) -> None:
    if values["behaviors"] and values["cohort_id"] is not None:
        raise ValueError("behaviors and cohort_id cannot be combined: keep one")
    if values["behaviors"] and "behaviors" not in (values["profiles_where"] or ""):
        raise ValueError(
            'behaviors have no effect by themselves: use them in profiles_where, as in behaviors["name"] > 0'
        )


def _check_as_of_timestamp(values: _Values) -> None:
    if (values["as_of_timestamp"] or 0) >= _IN_MILLISECONDS:
        raise ValueError("as_of_timestamp is in milliseconds: give it in seconds")
    if values["profiles_incremental"] and values["as_of_timestamp"] is not None:
        raise ValueError("profiles_incremental and as_of_timestamp cannot be combined: past profiles do not change")


def _check_include_all_users(values: _Values) -> None:
    if values["include_all_users"] and values["cohort_id"] is None:
        raise ValueError("include_all_users requires cohort_id: set it, or remove include_all_users")


def _check_distinct_ids(values: _Values) -> None:
    if len(values["distinct_ids"] or []) > MAX_DISTINCT_IDS:
        raise ValueError(f"distinct_ids has more than {MAX_DISTINCT_IDS} entries, the most that Mixpanel accepts")


_PROFILE_CHECKS = (_check_behaviors, _check_as_of_timestamp, _check_include_all_users, _check_distinct_ids)


def read_groups(config: Mapping[str, Any]) -> list[Group]:
    """Return the groups in a configuration. Needs no other settings, since discovery runs without them.

    Raises:
        ValueError: A group is invalid.
    """
    try:
        groups = msgspec.convert(config.get("group_profiles") or [], list[Group])
    except msgspec.ValidationError:
        raise ValueError("group_profiles: each group needs a name and a data_group_id, both strings") from None
    for group in groups:
        # The name becomes a table. Some targets treat a dot or a hyphen as the separator after a schema's name.
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", group.name):
            raise ValueError(f"group_profiles: {group.name!r} cannot be a stream's name: use letters, digits and _")
        if not re.fullmatch(r"-?[0-9]+", group.data_group_id):
            raise ValueError(f"group_profiles: data_group_id {group.data_group_id!r} of {group.name} is not an integer")
    return groups


def _check_insights_reports(values: _Values) -> None:
    ids = [report["bookmark_id"] for report in values["insights_reports"] or ()]
    for bookmark_id in ids:
        if ids.count(bookmark_id) > 1:
            raise ValueError(f"insights_reports: bookmark_id {bookmark_id} is listed twice: keep one")


def record_schemas(config: Mapping[str, Any]) -> tuple[EventSchema, ProfileSchema]:
    """Return the record schemas for a configuration. Needs no other settings, since discovery runs without them.

    Raises:
        ValueError: `event_columns` or `profile_columns` is invalid.
    """
    raw = bool(config.get("raw"))
    event_columns = _property_columns(config, "event_columns", EventSchema().columns)
    return EventSchema(raw, event_columns), ProfileSchema(
        raw, _property_columns(config, "profile_columns", ProfileSchema().columns)
    )


def _property_columns(config: Mapping[str, Any], setting: str, columns: Sequence[str]) -> tuple[PropertyColumn, ...]:
    """Return the columns in `event_columns` or `profile_columns`. Their names must differ from those in `columns`."""
    try:
        chosen = msgspec.convert(config.get(setting) or [], tuple[PropertyColumn, ...])
    except msgspec.ValidationError as error:
        raise ValueError(
            f"{setting}: each entry needs a name, a property and a type, which is one of {', '.join(PROPERTY_TYPES)}: "
            f"{error}"
        ) from None
    if chosen and config.get("raw"):
        raise ValueError(f"{setting}: raw records have no such columns: set raw to false, or remove {setting}")
    # Most databases ignore the case of names.
    taken = {name.casefold() for name in columns}
    for column in chosen:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", column.name):
            raise ValueError(
                f"{setting}: {column.name!r} cannot be a column's name: use a letter, then letters, digits and _"
            )
        if column.name.casefold() in taken:
            raise ValueError(f"{setting}: another column is named {column.name}: rename one of them")
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


def _check_batch_config(values: _Values) -> None:
    """Reject a `batch_config` with which the SDK would fail at the first batch.

    The messages contain no values, because the storage can contain secrets.
    """
    batch = values["batch_config"]
    if not batch:
        return
    encoding, storage = batch.get("encoding") or {}, batch.get("storage") or {}
    sections = {"": (batch, {"encoding", "storage", "batch_size"})}
    sections |= {
        "encoding.": (encoding, {"format", "compression"}),
        "storage.": (storage, {"root", "prefix", "params"}),
    }
    for path, (part, names) in sections.items():
        for name in part.keys() - names:
            remedy = suggestion(name, names, f"it takes {', '.join(sorted(names))}", prefix=path)
            raise ValueError(f"batch_config: unknown {path}{name}: {remedy}")
    if encoding.get("format") != "jsonl":
        raise ValueError("batch_config: encoding.format must be jsonl, the only supported format")
    if type(size := batch.get("batch_size") or 1) is not int or size < 1:
        raise ValueError("batch_config: batch_size must be an integer of at least 1")
    _storage(storage)


def _storage(storage: Mapping[str, Any]) -> None:
    if not storage.get("root"):
        raise ValueError("batch_config: storage.root is missing: set it to a folder or a bucket, such as file:///data")
    if type(storage.get("params") or {}) is not dict:
        raise ValueError("batch_config: storage.params must be a JSON object")
    protocol = fsspec.utils.get_protocol(storage["root"])
    if protocol not in {"file", "local", *BUCKET_EXTRAS}:
        raise ValueError("batch_config: storage.root begins with an unsupported protocol: use file://, s3:// or gs://")
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError:
        remedy = f"pip install 'tap-mixpanel-stream[{BUCKET_EXTRAS[protocol]}]'"
        raise ValueError(f"batch_config: storage.root with {protocol}:// requires another package: {remedy}") from None
    if _URL_WITH_PASSWORD.match(storage["root"]):
        remedy = "set them in storage.params or in the environment"
        raise ValueError(f"batch_config: storage.root contains credentials, which would reach the target: {remedy}")


def normalize(config: dict[str, Any]) -> None:
    """Remove settings that are null or empty, and convert ids from numbers to text. Changes `config` in place."""
    for name, value in list(config.items()):
        # Meltano and shells pass an empty string for a setting that was left empty.
        if value is None or (value == "" and name in SCHEMA["properties"]):
            del config[name]  # The SDK then adds the default.
        elif name in _IDS and type(value) is int:
            config[name] = str(value)


def find_schema_errors(
    config: Mapping[str, Any], schema: Mapping[str, Any], labels: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """Return the violations of the schema, by setting. The texts never contain a value that can be a secret.

    Args:
        config: The configuration. Defaults are added to it.
        schema: The schema of all settings, including the SDK's.
        labels: By setting, its name in messages if that differs, such as the environment variable it came from.
    """
    known = schema["properties"]
    problems = {}
    for name in config.keys() - known.keys():
        remedy = suggestion(name, known, LIST_SETTINGS)
        problems[name] = f"unknown setting {name}: {remedy}"
    errors: list[ValidationError] = []
    try:
        errors.extend(extend_validator_with_defaults(DEFAULT_JSONSCHEMA_VALIDATOR)(schema).iter_errors(config))
    except AttributeError:
        # The SDK's schema of __else__ is a string, which the validator cannot handle but reads only for wrong values.
        problems["stream_maps"] = "stream_maps: __else__ must be null"
    for error in errors:
        if error.path:
            name, *inside = map(str, error.path)
            label = ".".join([labels.get(name, f"setting {name}"), *inside])
            problem = f"{label}: {_schema_error_text(error, known[name])}"
            problems[name] = f"{problems[name]}; {problem}" if name in problems else problem
    return problems


def _schema_error_text(error: ValidationError, spec: Mapping[str, Any]) -> str:
    if len(error.path) > 1:
        return _nested_error_text(error)
    value, kind = error.instance, kind_of(spec)
    is_shown = can_show(value, spec)
    text = error.message if is_shown else "its value has the wrong type"
    if kind == "string" and isinstance(value, int | float):
        return f"{text}: write it in quotes"
    if kind in {"integer", "boolean"} and isinstance(value, str):
        return f"{text}: write {expected(spec)} without quotes"
    return text if is_shown else f"{text}: it takes {expected(spec)}"


def _nested_error_text(error: ValidationError) -> str:
    if error.validator == "required":
        return str(error.message)
    if error.validator == "additionalProperties":
        return f"unknown name; the names are {', '.join(error.schema['properties'])}"
    if error.validator == "enum":
        return f"its value is not one of {', '.join(error.validator_value)}"
    return f"its value is not a {kind_of(error.schema)}" if error.validator == "type" else "its value is invalid"
