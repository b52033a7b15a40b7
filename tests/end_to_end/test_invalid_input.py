"""Invalid input: one line on stderr that names the setting and the remedy, and exit code 1."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import run_tap

if TYPE_CHECKING:
    from pathlib import Path

JSONL = {"format": "jsonl"}
GOOD = {
    "project_id": "1",
    "service_account_username": "user",
    "service_account_secret": "s3cr3t",
    "start_date": "2024-01-01",
    # No server listens there, so a request would fail.
    "data_api_url": "http://127.0.0.1:9/api/2.0",
    "api_url": "http://127.0.0.1:9/api",
}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"service_account_username": None, "service_account_secret": None},
            ["no credentials", "service_account_secret"],
        ),
        ({"service_account_username": None}, ["service_account_secret is set without service_account_username"]),
        ({"service_account_secret": None}, ["service_account_username is set without service_account_secret"]),
        ({"project_id": None}, ["project_id is missing"]),
        ({"oauth_token": "t0ken"}, ["more than one way to authenticate", "oauth_token"]),
        ({"service_account_secret": "line\nbreak"}, ["service_account_secret contains"]),
        ({"end_date": "2023-12-31"}, ["end_date 2023-12-31 is before start_date 2024-01-01"]),
        ({"start_date": "yesterday"}, ["start_date 'yesterday' is not a date", "2024-01-15"]),
        ({"start_date": None}, ["start_date is missing"]),
        ({"project_timezone": "Mars/Olympus"}, ["project_timezone 'Mars/Olympus' is unknown", "IANA"]),
        ({"behaviors": [{}], "cohort_id": 1}, ["behaviors and cohort_id cannot be combined"]),
        ({"behaviors": [{}]}, ["behaviors have no effect by themselves", "profiles_where"]),
        ({"behaviors": [{}], "profiles_where": 'properties["a"] == 1'}, ["behaviors have no effect by themselves"]),
        ({"as_of_timestamp": 1704067200000}, ["as_of_timestamp is in milliseconds"]),
        ({"profiles_full_refresh_days": 0}, ["setting profiles_full_refresh_days"]),
        ({"include_all_users": True}, ["include_all_users", "cohort_id"]),
        ({"distinct_ids": ["x"] * 2001}, ["distinct_ids"]),
        ({"data_api_url": "http://example.com/api/2.0"}, ["data_api_url is plain http to another machine", "https"]),
        ({"api_url": "https://user:pw@example.com/api"}, ["api_url", "without credentials"]),
        ({"api_url": "mixpanel.com"}, ["api_url is not a URL"]),
        ({"region": "mars"}, ["setting region", "mars"]),
        ({"lookback_days": -1}, ["setting lookback_days"]),
        ({"concurrent_exports": 0}, ["setting concurrent_exports"]),
        ({"window_days": 0}, ["setting window_days"]),
        ({"lookback_day": 3}, ["unknown setting lookback_day", "did you mean lookback_days?"]),
        ({"bad_lines": "skip"}, ["bad_lines_path"]),
        (
            {"bad_lines": "skip", "bad_lines_path": "/nowhere/at/all"},
            ["bad_lines_path /nowhere/at/all cannot be written: its folder is missing"],
        ),
        ({"bad_lines": "skip", "bad_lines_path": "/tmp"}, ["bad_lines_path /tmp cannot be written: Is a directory"]),  # noqa: S108
        ({"bad_lines": "skip", "bad_lines_path": "/dev/stdout"}, ["bad_lines_path /dev/stdout is not a regular file"]),
        ({"bad_lines": "skip", "bad_lines_path": "/dev/null"}, ["bad_lines_path /dev/null is not a regular file"]),
        ({"service_account_secret": 12345}, ["setting service_account_secret", "write it in quotes"]),
        ({"project_id": "2526451 "}, ["project_id has leading or trailing whitespace"]),
        ({"workspace_id": "\t77"}, ["workspace_id has leading or trailing whitespace"]),
        ({"project_id": "1/../2?x="}, ["project_id is not a number"]),
        ({"workspace_id": "1/../2?x="}, ["workspace_id is not a number"]),
        ({"project_id": "\u0661"}, ["project_id is not a number"]),
        ({"project_id": True}, ["setting project_id"]),
        ({"lookback_days": "3"}, ["setting lookback_days: '3' is not of type 'integer'", "without quotes"]),
        ({"raw": "true"}, ["setting raw: 'true' is not of type 'boolean'", "without quotes"]),
        ({"start_date": 20240101}, ["setting start_date: 20240101", "write it in quotes"]),
        # Values that may contain a secret: they have another type than the setting, so they are not shown.
        ({"api_url": ["https://user:12345@example.com"]}, ["setting api_url", "a string"]),
        ({"event_names": "https://user:12345@example.com"}, ["setting event_names", "a JSON array of strings"]),
        ({"event_names": [{"url": "https://user:12345@example.com"}]}, ["setting event_names.0", "not a string"]),
        ({"window_days": {"url": "https://user:12345@example.com"}}, ["setting window_days", "an integer from 1"]),
        ({"region": ["https://user:12345@example.com"]}, ["setting region", "one of us, eu, in"]),
        ({"batch_config": "s3://key:12345@bucket"}, ["setting batch_config", "a JSON object"]),
        ({"group_profiles": [{"https://12345@x": "1"}]}, ["setting group_profiles.0", "the names are name"]),
        ({"api_url": "https://host?"}, ["api_url must be a base URL"]),
        ({"data_api_url": "https://:@host"}, ["data_api_url must be a base URL"]),
        ({"api_url": "https://host#"}, ["api_url must be a base URL"]),
        ({"api_url": "https://ho st/api"}, ["api_url is not a URL"]),
        ({"api_url": "https://host/\tapi"}, ["api_url is not a URL"]),
        ({"api_url": "https://host:99999"}, ["api_url is not a URL"]),
        ({"api_url": "https://user:a[12345]b@example.com/api"}, ["api_url is not a URL"]),
        ({"data_api_url": "https://user:12345\u2100@example.com/api"}, ["data_api_url is not a URL"]),
        ({"api_url": "https://[::1"}, ["api_url is not a URL"]),
        ({"user_agent": "tap\u2192x"}, ["user_agent contains a character"]),
        ({"user_agent": "tap\nx"}, ["user_agent contains a character"]),
        ({"events_where": 'properties["a"] == "\ud83d"'}, ["events_where contains an unpaired surrogate"]),
        ({"event_names": ["\ud83d"]}, ["event_names contains an unpaired surrogate"]),
        ({"request_timeout": 10**10}, ["setting request_timeout"]),
        ({"batch_config": {"encoding": JSONL}}, ["batch_config: storage.root is missing"]),
        ({"batch_config": {"storage": {"root": "data"}}}, ["batch_config: encoding.format must be jsonl"]),
        (
            {"batch_config": {"encoding": JSONL, "storage": {"root": "s3://key:12345@bucket"}}},
            ["batch_config: storage.root contains credentials", "storage.params"],
        ),
        (
            {"batch_config": {"encoding": JSONL, "storage": {"root": "s3://user:1/2@3@host/folder"}}},
            ["batch_config: storage.root contains credentials"],
        ),
        (
            {"batch_config": {"encoding": JSONL, "storage": {"root": "foo://key:12345@bucket"}}},
            ["batch_config: storage.root begins with an unsupported protocol"],
        ),
        # Written to, but nothing that a target can read.
        *(
            ({"batch_config": {"encoding": JSONL, "storage": {"root": root}}}, ["unsupported protocol", "file://"])
            for root in ("memory://x", "http://127.0.0.1:1/x", "ftp://host/folder", "data://x")
        ),
        (
            {"batch_config": {"encoding": JSONL, "storage": {"root": "data", "params": ["12345"]}}},
            ["batch_config: storage.params must be a JSON object"],
        ),
        (
            {"batch_config": {"encoding": {"format": "parquet"}, "storage": {"root": "data"}}},
            ["batch_config: encoding.format must be jsonl"],
        ),
        (
            {"batch_config": {"encoding": JSONL, "storage": {"rot": "data"}}},
            ["batch_config: unknown storage.rot: did you mean storage.root?"],
        ),
        (
            {"batch_config": {"encoding": JSONL, "storage": {"root": "data"}, "batch_size": "12345"}},
            ["batch_config: batch_size must be an integer of at least 1"],
        ),
        (
            {"batch_config": {"encoding": JSONL | {"compression": "12345"}, "storage": {"root": "data"}}},
            ["setting batch_config.encoding.compression: its value is not one of gzip, none"],
        ),
        ({"bad_lines": "skip", "bad_lines_path": "a\0b"}, ["bad_lines_path contains a character"]),
    ],
)
def test_an_invalid_setting_is_rejected(wrong: dict[str, Any], says: list[str]) -> None:
    """One error line names the setting and the remedy, and shows no secret."""
    config = {name: value for name, value in {**GOOD, **wrong}.items() if value is not None}
    run = run_tap(config)
    assert run.exit_code == 1
    assert run.stdout == b""
    assert len(run.problems) == len(run.errors) == 1
    for words in says:
        assert words in run.errors[0]
    assert not any("Traceback" in line for line in run.stderr)
    assert not any("12345" in line or "t0ken" in line or "s3cr3t" in line for line in run.stderr)


def test_several_invalid_settings_are_one_error() -> None:
    """All invalid settings are in one error line."""
    wrong = {
        "project_timezone": "X",
        "end_date": "2020-01-01",
        "bad_lines": "skip",
        "window_days": 0,
        "lookback_day": 1,
    }
    run = run_tap(GOOD | wrong)
    assert len(run.errors) == 1
    expected = ("project_timezone", "end_date", "bad_lines_path", "setting window_days", "unknown setting lookback_day")
    assert all(words in run.errors[0] for words in expected)


@pytest.mark.parametrize(
    ("option", "content", "says"),
    [
        ("--config", "{", "file.json is not JSON"),
        ("--config", None, "--config"),
        ("--config", "[1]", "file.json is not a JSON object"),
        ("--config", "[]", "file.json is not a JSON object"),
        ("--config", "null", "file.json is not a JSON object"),
        ("--config", '["abc"]', "file.json is not a JSON object"),
        ("--state", "[]", "file.json is not a JSON object"),
        ("--state", "{", "file.json is not JSON"),
        ("--state", '{"bookmarks": {"ev', "use the last complete line of the target's output"),
        (
            "--state",
            '{"bookmarks":{"events":{"replication_key":"event_time","replication_key_value":"soon"}}}',
            "bookmark of events",
        ),
        (
            "--state",
            '{"bookmarks":{"events":{"replication_key":"event_time","replication_key_value":"0001-01-01"}}}',
            "leave it out to read everything",
        ),
        ("--state", '{"type":"STATE","value":{"bookmarks":{}}}', "save the `value` of the last STATE message"),
        ("--state", '{"singer_state":{"bookmarks":{}}}', "file.json has no bookmarks"),
        ("--state", '{"bookmarks":null}', "file.json: its bookmarks"),
        ("--state", '{"bookmarks":{"events":null}}', "file.json: its bookmarks"),
        ("--state", '{"bookmarks":{"funnels":"2020-01-01T00:00:00Z"}}', "file.json: its bookmarks"),
        ("--state", "", "file.json is empty: the last run emitted no state"),
        ("--state", "\n", "file.json is empty: the last run emitted no state"),
        ("--catalog", "", "file.json is empty"),
        ("--catalog", "{", "file.json is not JSON"),
        ("--catalog", '{"foo": 1}', "has a list `streams`"),
    ],
)
def test_an_invalid_input_file_is_rejected(option: str, content: str | None, says: str, tmp_path: Path) -> None:
    """An invalid config, state or catalog file is rejected with the file and the cause."""
    file = tmp_path / "file.json"
    if content is not None:
        file.write_text(content)
    run = run_tap(GOOD, option, str(file))
    assert run.exit_code == 1
    assert len(run.errors) == 1
    assert says in run.errors[0]
    assert not any("Traceback" in line for line in run.stderr)


def test_a_catalog_of_the_other_shape_is_rejected() -> None:
    """A catalog discovered without `raw` is rejected with it."""
    catalog = json.loads(run_tap({}, "--discover").stdout)
    run = run_tap(GOOD | {"raw": True}, catalog=catalog)
    assert run.exit_code == 1
    assert len(run.errors) == 1
    assert "run discovery again" in run.errors[0]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("LOOKBAK_DAYS", "3", "did you mean TAP_MIXPANEL_STREAM_LOOKBACK_DAYS?"),
        ("EU_PROJECT_ID", "3", "did you mean TAP_MIXPANEL_STREAM_PROJECT_ID?"),
        ("CONCURRENT_EXPORT", "3", "did you mean TAP_MIXPANEL_STREAM_CONCURRENT_EXPORTS?"),
        ("LOOKBACK_DAYS", "three", "('three'): set it to an integer from 0"),
        ("LOOKBACK_DAYS", "-1", "-1 is less than the minimum of 0"),
        ("RAW", "maybe", "('maybe'): set it to true or false"),
        ("REGION", "mars", "'mars' is not one of"),
        ("EVENT_NAMES", "[Purchase]", "a JSON array of strings"),
        ("EVENT_NAMES", "https://user:12345@example.com", "a JSON array of strings"),
        ("EVENT_NAMES", '{"url": "https://user:12345@example.com"}', "a JSON array of strings"),
        ("GROUP_PROFILES", "12345", "a JSON array of objects"),
        ("BATCH_CONFIG", "s3://key:12345@bucket", "a JSON object"),
        ("STREAM_MAPS", '["12345"]', "a JSON object"),
    ],
)
def test_an_invalid_variable_is_rejected(name: str, value: str, says: str) -> None:
    """Unknown variables and invalid values are rejected; values that may be secrets are not shown."""
    run = run_tap(GOOD, "--config=ENV", environment={f"TAP_MIXPANEL_STREAM_{name}": value})
    assert run.exit_code == 1
    assert len(run.problems) == len(run.errors) == 1
    assert f"TAP_MIXPANEL_STREAM_{name}" in run.errors[0]
    assert says in run.errors[0]
    assert "12345" not in "".join(run.stderr)


def test_variables_of_other_tools_are_ignored() -> None:
    """Meltano sets extras and object values, the SDK its log level, Kubernetes service names."""
    names = ["_SELECT", "_SELECT_FILTER", "LOGLEVEL", "BATCH_CONFIG_STORAGE_ROOT", "STREAM_MAPS_EVENTS___FILTER__"]
    names += ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_8080_TCP_ADDR", "UI_SERVICE_HOST"]
    environment = {f"TAP_MIXPANEL_STREAM_{name}": "warning" for name in names} | {"TAP_MIXPANEL_STREAM_REGION": ""}
    run = run_tap(GOOD | {"max_retries": 0}, "--config=ENV", environment=environment)
    assert [line for line in run.errors if "Connection refused" not in line] == []


@pytest.mark.parametrize(
    ("config", "variable", "says"),
    [
        ({}, "API_SECRET", "no credentials"),
        ({"service_account_username": "user"}, "SERVICE_ACCOUNT_SECRET", "without service_account_secret"),
        ({"oauth_token": "t0ken"}, "PROJECT_ID", "project_id is missing"),
    ],
)
def test_credentials_in_unread_variables_are_mentioned(config: dict[str, Any], variable: str, says: str) -> None:
    """Without --config=ENV the error about missing credentials names the variables that contain them."""
    run = run_tap(config, environment={f"TAP_MIXPANEL_STREAM_{variable}": "12345"})
    assert run.exit_code == 1
    [error] = run.errors
    assert says in error
    assert f"--config=ENV reads TAP_MIXPANEL_STREAM_{variable}" in error
    assert "12345" not in error


def test_discovery_and_about_need_no_settings() -> None:
    """--discover, --about, --version and --help work without settings."""
    for options in (["--discover"], ["--about"], ["--about", "--format=json"], ["--version"], ["--help"]):
        run = run_tap({}, *options)
        assert run.exit_code == 0
        assert run.stdout
        assert run.problems == []


def test_a_project_secret_and_no_lookback_are_warned() -> None:
    """A project secret, and a look-back of 0, each cause a warning."""
    config = {name: value for name, value in GOOD.items() if not name.startswith("service")}
    run = run_tap(config | {"api_secret": "s3cr3t", "lookback_days": 0, "max_retries": 0})
    assert run.exit_code == 1
    warnings = [line for line in run.problems if "WARNING" in line]
    assert any("2027-03-03" in line for line in warnings)
    assert any("lookback_days is 0" in line for line in warnings)


def test_bad_lines_path_may_not_be_the_config_file(tmp_path: Path) -> None:
    """Lines appended to the configuration file would make the next run fail."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(GOOD | {"bad_lines": "skip", "bad_lines_path": str(tmp_path / "." / "config.json")}))
    before = file.read_text()
    run = run_tap({}, "--config", str(file))
    assert run.exit_code == 1
    assert run.errors == [f"bad_lines_path {tmp_path}/config.json is a configuration file: set another path"]
    assert file.read_text() == before


@pytest.mark.parametrize("option", [[], ["--doctor"], ["--test"]])
def test_bad_lines_path_may_not_be_a_pipe(option: list[str], tmp_path: Path) -> None:
    """A pipe without a reader would block the run forever."""
    os.mkfifo(tmp_path / "pipe")
    run = run_tap(GOOD | {"bad_lines": "skip", "bad_lines_path": str(tmp_path / "pipe")}, *option, timeout=30)
    assert run.exit_code == 1
    assert run.errors == [f"bad_lines_path {tmp_path}/pipe is not a regular file"]


def test_checking_bad_lines_path_creates_no_file(tmp_path: Path) -> None:
    """The doctor, and a run without malformed lines, create no file."""
    given = GOOD | {"bad_lines": "skip", "bad_lines_path": str(tmp_path / "rejected"), "max_retries": 0}
    run_tap(given, "--doctor")
    run_tap(given)
    assert not (tmp_path / "rejected").exists()
