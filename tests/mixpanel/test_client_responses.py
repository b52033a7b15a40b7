"""How the client handles statuses, headers and redirects. Tests that need real sockets are in test_client.py."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from requests_mock import ANY, Adapter

from tap_mixpanel_stream.mixpanel.auth import ServiceAccount
from tap_mixpanel_stream.mixpanel.client import Client
from tap_mixpanel_stream.mixpanel.errors import (
    MixpanelError,
    QuotaSpent,
    Refused,
    SessionExpired,
    TooManyRequests,
    Transient,
)
from tap_mixpanel_stream.mixpanel.quota import Quota
from tap_mixpanel_stream.mixpanel.request import REGIONS, Request
from tests.mixpanel.fake_clock import START, FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = Request("events 2024-01-01", "data", "export", params={"from_date": "2024-01-01"})


class Mixpanel(Adapter):
    """An adapter that returns scripted responses and records the requests."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock
        self.client = self.make_client()

    def make_client(self, **options: Any) -> Client:
        """Make a client that sends all requests to this adapter."""
        account = ServiceAccount("tap.abc123.mp-service-account", "hunter2-hunter2", "123")
        self.client = Client(REGIONS["us"], account, Quota(self._clock), self._clock, **options)
        self.client._session.mount("https://", self)
        return self.client

    def script(self, *responses: dict[str, Any]) -> None:
        """Set the responses, one for each request; the last one repeats."""
        self.register_uri(ANY, ANY, list(responses))

    def open(self, request: Request = EVENTS) -> None:
        """Open a response without reading its body."""
        with self.client.open(request):
            pass

    def error(self, request: Request = EVENTS) -> MixpanelError:
        """Return the error that a request raises."""
        with pytest.raises(MixpanelError) as raised:
            self.open(request)
        return raised.value


def response(status: int = 200, text: str = "", **headers: str) -> dict[str, Any]:
    """Describe a response; `_` in a header's name stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"status_code": status, "text": text, "headers": {"Content-Length": str(len(text)), **named}}


@pytest.fixture
def mixpanel(clock: FakeClock) -> Iterator[Mixpanel]:
    adapter = Mixpanel(clock)
    yield adapter
    adapter.client.close()


# --- requests


def test_each_api_has_its_base_url(mixpanel: Mixpanel) -> None:
    """Export, query and app API each have a host and path; only the query API gets `workspace_id`."""
    mixpanel.make_client(workspace_id="77")
    mixpanel.script(response())
    mixpanel.open(Request("profiles page 0", "query", "engage", "POST", form={"where": "ü = 1"}))
    mixpanel.open(Request("annotations", "app", "annotations", params={"fromDate": "2024-01-01"}))
    mixpanel.open()
    profiles, annotations, events = mixpanel.request_history
    assert profiles.url == "https://mixpanel.com/api/query/engage?project_id=123&workspace_id=77"
    assert (profiles.method, profiles.text) == ("POST", "where=%C3%BC+%3D+1")
    assert profiles.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert annotations.url == "https://mixpanel.com/api/app/projects/123/annotations?fromDate=2024-01-01"
    assert events.url == "https://data.mixpanel.com/api/2.0/export?project_id=123&from_date=2024-01-01"


# --- statuses


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (204, "", Transient),
        (206, "the reason", Transient),
        (400, "the reason", Refused),
        (400, "request for page in uncached query for params", SessionExpired),
        (400, "Timeout Error.", Transient),
        (401, "the reason", Refused),
        (402, "the reason", Refused),
        (403, "the reason", Refused),
        (404, "the reason", Refused),
        (408, "the reason", Transient),
        (414, "the reason", Refused),
        (418, "the reason", Refused),
        (500, "the reason", Transient),
        (503, "the reason", Transient),
    ],
)
def test_each_status_has_its_error(status: int, text: str, kind: type[MixpanelError], mixpanel: Mixpanel) -> None:
    """One request raises the error for its status, with the request's name and the body's text."""
    mixpanel.script(response(status, text))
    error = mixpanel.error()
    assert type(error) is kind
    assert str(error).startswith(f"events 2024-01-01: HTTP {status}, ")
    assert str(error).endswith(text)
    assert mixpanel.call_count == 1


@pytest.mark.parametrize(("status", "left"), [(401, 60), (402, 60), (400, 59), (500, 59), (200, 59)])
def test_401_and_402_use_no_quota(status: int, left: int, mixpanel: Mixpanel) -> None:
    """A 401 or 402 does not count toward the hourly quota, as in Mixpanel."""
    mixpanel.script(response(status, "no"))
    with contextlib.suppress(MixpanelError):
        mixpanel.open()
    assert mixpanel.client.quota.remaining("data") == left


def test_history_limit_uses_the_project_time_zone(mixpanel: Mixpanel, clock: FakeClock) -> None:
    """The earliest start_date that a plan allows is counted from today in the project's time zone."""
    clock.advance(20 * 3600)  # 2024-01-17 05:30 UTC, still the 16th in Los Angeles
    mixpanel.make_client(zone=ZoneInfo("America/Los_Angeles"))
    mixpanel.script(response(403, "Date range exceeds 90 days into the past"))
    error = mixpanel.error()
    assert isinstance(error, Refused)
    assert error.kind == "history"
    assert "set start_date to 2023-10-18 or later" in str(error)


# --- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_each_redirect_status_is_rejected(status: int, mixpanel: Mixpanel) -> None:
    """Nothing is sent to the other host, and the message names the host without the rest of the URL."""
    mixpanel.script(response(status, Location="https://localhost:4000/steal?token=1"))
    error = mixpanel.error()
    assert isinstance(error, Refused)
    assert "redirects to localhost, and the tap sends credentials to no other host" in str(error)
    assert "steal" not in str(error)
    assert mixpanel.call_count == 1


# --- rate limits


def test_a_429_waits_and_is_sent_again(mixpanel: Mixpanel, clock: FakeClock) -> None:
    """`Retry-After` is seconds or a date; the request is sent again after that time."""
    dated = response(429, Retry_After="Tue, 16 Jan 2024 09:40:00 GMT")
    mixpanel.script(response(429, "slow down", Retry_After="33"), dated, response())
    with mixpanel.client.open(EVENTS) as opened:
        assert (opened.requested_at - START).total_seconds() == 600
    assert mixpanel.call_count == 3
    assert clock.sleeps == [33, 567]


def test_a_429_uses_no_quota(mixpanel: Mixpanel) -> None:
    """A request is counted once, however often it got a 429."""
    busy = response(429, Retry_After="1")
    mixpanel.script(busy, busy, response())
    mixpanel.open()
    assert (mixpanel.client.quota.remaining("data"), mixpanel.client.quota.requests) == (59, 3)


def test_a_429_past_max_quota_wait_fails(mixpanel: Mixpanel) -> None:
    """A wait longer than `max_quota_wait` raises an error at once."""
    mixpanel.script(response(429, Retry_After="7201"))
    assert isinstance(mixpanel.error(), QuotaSpent)
    assert mixpanel.call_count == 1


def test_a_200_resets_the_429_backoff(mixpanel: Mixpanel, clock: FakeClock) -> None:
    """The wait doubles with each consecutive 429 and starts again at 10 s after a 200."""
    busy = response(429, "too many export requests in progress for this project")
    mixpanel.script(busy, response(), busy, busy, response())
    mixpanel.open()
    mixpanel.open()
    assert clock.sleeps == [10, 10, 20]


@pytest.mark.parametrize("status", [200, 429])
def test_ratelimit_policy_sets_the_quota(status: int, mixpanel: Mixpanel) -> None:
    """`RateLimit-Policy` is read from any response and applies to the API that sent it."""
    headers = {"RateLimit_Policy": '"project";q=400;w=3600', "Retry_After": "1"}
    mixpanel.script(response(status, **headers), response())
    mixpanel.open()
    assert (mixpanel.client.quota.hourly("data"), mixpanel.client.quota.hourly("query")) == (400, 60)


# --- the clock


@pytest.mark.parametrize(
    ("date", "lead"),
    [
        ("Tue, 16 Jan 2024 09:00:00 GMT", timedelta(minutes=30) - timedelta(seconds=1)),
        ("Tue, 16 Jan 2024 10:00:00 GMT", timedelta(minutes=-30)),
        ("yesterday", None),
    ],
)
def test_the_date_header_sets_the_clock_lead(date: str, lead: timedelta | None, mixpanel: Mixpanel) -> None:
    """The `Date` of any response, including errors, shows how far the local clock is ahead."""
    for status in (200, 500):
        mixpanel.script(response(status, Date=date))
        with contextlib.suppress(MixpanelError):
            mixpanel.open()
        assert mixpanel.client.clock_lead == lead


def test_too_many_requests_is_never_raised(mixpanel: Mixpanel) -> None:
    """Callers get a wait, a result or `QuotaSpent`, but never `TooManyRequests`."""
    mixpanel.script(response(429))
    assert not isinstance(mixpanel.error(), TooManyRequests)
