from __future__ import annotations

import json
import pickle
import time
from datetime import UTC, datetime

import pytest

from tap_mixpanel_stream.mixpanel.errors import (
    BrokenBody,
    MixpanelError,
    QuotaSpent,
    Refused,
    SessionExpired,
    Stopped,
    TooManyRequests,
    Transient,
    failure,
    mask_in_messages,
    printable,
)
from tap_mixpanel_stream.mixpanel.rate_limit import RateLimit

NOW = datetime(2024, 1, 16, 9, 30, tzinfo=UTC)


def error_for(status: int, body: str = "", **more: object) -> MixpanelError:
    return failure(status, body, what="events 2024-01-01", settings_hint="THE SETTINGS", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "body", "kind", "names"),
    [
        (302, "", "other", ["region", "elsewhere.example"]),
        (400, "Unable to authenticate request", "credentials", ["THE SETTINGS", "region"]),
        (400, '{"error": "unable to AUTHENTICATE request"}', "credentials", ["THE SETTINGS"]),
        (400, "to_date cannot be later than today", "time_zone", ["project_timezone", "clock"]),
        (400, "Invalid parameter: where, oops", "parameter", ["SETTING or ANOTHER", "Invalid parameter: where, oops"]),
        (400, "", "parameter", ["400"]),
        (401, '{"error":"bad","status":"error"}', "credentials", ["THE SETTINGS", "Response: bad"]),
        (402, '{"error":"Your plan does not support raw data export. See"}', "plan", ["plan", "raw data export"]),
        (403, "", "access", ["project_id", "region"]),
        (403, "Date range exceeds 90 days into the past", "history", ["start_date", "2023-10-18", "Response: Date"]),
        (403, '{"error":"date range exceeds 365 DAYS INTO THE PAST"}', "history", ["start_date", "2023-01-16"]),
        (404, '{"error":"Missing Datagroup"}', "missing_group", ["group_profiles", "cohort"]),
        (404, "<html><title>x</title><h1>Not <b>found</b></h1>", "not_found", ["region", "Response: Not found"]),
        (407, "", "other", ["HTTPS_PROXY"]),
        (413, "", "parameter", ["too long", "SETTING or ANOTHER"]),
        (414, "<html><h1>414 Request-URI Too Large</h1></html>", "parameter", ["SETTING or ANOTHER", "414 Request"]),
        (418, "teapot", "other", ["teapot"]),
    ],
)
def test_a_lasting_error_names_the_setting(status: int, body: str, kind: str, names: list[str]) -> None:
    """Each 3xx and 4xx has a kind, and its message names the settings to check."""
    error = error_for(
        status,
        body,
        location="https://elsewhere.example/path?token=1",
        source_settings=("SETTING", "ANOTHER"),
        today=NOW.date(),
    )
    assert isinstance(error, Refused)
    assert (error.kind, error.status) == (kind, status)
    for name in ["events 2024-01-01", *names]:
        assert name in str(error)


@pytest.mark.parametrize("status", [204, 206, 408, 500, 502, 503, 504, 520])
def test_server_errors_are_transient(status: int) -> None:
    """204, 206, 408 and 5xx are transient errors."""
    error = error_for(status, "<html>Bad gateway</html>")
    assert type(error) is Transient
    assert error.status == status


def test_an_uncached_query_is_an_expired_session() -> None:
    """A 400 about an uncached query means that the session has expired."""
    assert isinstance(error_for(400, "request for page in uncached query for params"), SessionExpired)


def test_a_400_timeout_error_is_transient() -> None:
    """A 400 `Timeout Error.` is transient."""
    assert type(error_for(400, "Timeout Error.")) is Transient


def test_an_error_names_only_related_settings() -> None:
    """An invalid parameter that no setting affects is not attributed to `events_where`."""
    message = str(error_for(400, "Invalid parameter: unit"))
    assert "no setting affects this request" in message
    assert "events_where" not in message


def test_a_429_carries_its_rate_limit() -> None:
    """The error for a 429 has the rate limit of the response."""
    error = error_for(429, "slow down", limit=RateLimit(retry_after=7.0, cause="hour"))
    assert isinstance(error, TooManyRequests)
    assert (error.limit.retry_after, error.limit.cause) == (7.0, "hour")


def test_a_message_is_one_short_safe_line() -> None:
    """A message is one short line without control characters and secrets."""
    body = json.dumps({"error": "a\nb\x1b[31m\u202e \ud800 hunter2 " + "x" * 1000})
    mask_in_messages(["hunter2"])
    message = str(error_for(400, body))
    assert message.isprintable()
    assert "hunter2" not in message
    assert "a b [31m *** xxx" in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("http://[evil/", "another address"),
        ("/relative", "another address"),
        (None, "another address"),
        ("", "another address"),
        ("http://ev\x1b[31mil.example/", "another address"),
        ("http://ev\x1bcil\x9b\u202e.example/", "ev cil .example"),
        ("http://[fe80::1]:x/", "fe80::1"),
        ("http://" + "a" * 60_000 + "/", "a" * 199 + "…"),
    ],
)
def test_a_redirect_error_shows_only_the_host(location: str | None, host: str) -> None:
    """The host is printable and shortened; an unreadable `Location` is shown as "another address"."""
    message = str(error_for(302, location=location))
    assert f"the response redirects to {host}, and the tap sends credentials" in message
    assert message.isprintable()


def test_tags_are_removed_in_linear_time() -> None:
    """Removing HTML tags takes no quadratic time."""
    begin = time.monotonic()
    for text in ("<" * 65_536, "<style" * 10_000, "<a" * 30_000):
        assert printable(text) == ""
    assert time.monotonic() - begin < 3


def test_quoted_text_has_at_most_200_characters() -> None:
    """Quoted text is shortened to 200 characters, with an ellipsis."""
    assert len(printable("ä" * 201)) == 200
    assert printable("ä" * 200) == "ä" * 200
    assert printable("") == ""
    assert printable("<a><b></b>") == ""
    assert printable("[" * 100_000) == "[" * 199 + "…"


@pytest.mark.parametrize(
    "error",
    [
        Refused("no", kind="plan", status=402),
        Transient("oops", status=503),
        BrokenBody("cut"),
        TooManyRequests("wait", limit=RateLimit(retry_after=3.0, cause="concurrency")),
        SessionExpired("gone"),
        QuotaSpent("spent", until=NOW),
        Stopped(),
    ],
)
def test_errors_can_be_pickled(error: MixpanelError) -> None:
    """An error keeps its type, message and attributes when it is pickled."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is type(error)
    assert (str(copy), vars(copy)) == (str(error), vars(error))
