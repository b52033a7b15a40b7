"""What the client makes of statuses, headers and redirects. What needs bytes on the wire is in test_client.py."""

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
    """The client's adapter in these tests: it gives scripted responses and keeps the requests."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock
        self.client = self.make_client()

    def make_client(self, **options: Any) -> Client:
        """Make a client whose requests all come here."""
        account = ServiceAccount("tap.abc123.mp-service-account", "hunter2-hunter2", "123")
        self.client = Client(REGIONS["us"], account, Quota(self._clock), self._clock, **options)
        self.client._session.mount("https://", self)
        return self.client

    def script(self, *responses: dict[str, Any]) -> None:
        """Give these responses, one a request; the last one repeats."""
        self.register_uri(ANY, ANY, list(responses))

    def open(self, request: Request = EVENTS) -> None:
        """Open a response and leave its body."""
        with self.client.open(request):
            pass

    def error(self, request: Request = EVENTS) -> MixpanelError:
        """Return the error that a request ends with."""
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


def test_each_api_has_its_root(mixpanel: Mixpanel) -> None:
    """Export, query and app API have a host and path each; only the query API gets `workspace_id`."""
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
def test_a_status_is_the_table_s_error(status: int, text: str, kind: type[MixpanelError], mixpanel: Mixpanel) -> None:
    """One request, and the error of the table with the request's name and the body's text."""
    mixpanel.script(response(status, text))
    error = mixpanel.error()
    assert type(error) is kind
    assert str(error).startswith(f"events 2024-01-01: HTTP {status}, ")
    assert str(error).endswith(text)
    assert mixpanel.call_count == 1


@pytest.mark.parametrize(("status", "left"), [(401, 60), (402, 60), (400, 59), (500, 59), (200, 59)])
def test_401_and_402_do_not_count(status: int, left: int, mixpanel: Mixpanel) -> None:
    """Mixpanel does not count them toward the hour."""
    mixpanel.script(response(status, "no"))
    with contextlib.suppress(MixpanelError):
        mixpanel.open()
    assert mixpanel.client.quota.left("data") == left


def test_history_begins_by_the_project_s_day(mixpanel: Mixpanel, clock: FakeClock) -> None:
    """The first day that the plan allows is counted from today in the project's zone."""
    clock.turn(20 * 3600)  # 2024-01-17 05:30 UTC, still the 16th in Los Angeles
    mixpanel.make_client(zone=ZoneInfo("America/Los_Angeles"))
    mixpanel.script(response(403, "Date range exceeds 90 days into the past"))
    error = mixpanel.error()
    assert isinstance(error, Refused)
    assert error.kind == "history"
    assert "set start_date to 2023-10-18 or later" in str(error)


# --- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused(status: int, mixpanel: Mixpanel) -> None:
    """Nothing is sent to the other host, and the message names the host without the rest of its URL."""
    mixpanel.script(response(status, Location="https://localhost:4000/steal?token=1"))
    error = mixpanel.error()
    assert isinstance(error, Refused)
    assert "redirects to localhost, and the tap sends credentials to no other host" in str(error)
    assert "steal" not in str(error)
    assert mixpanel.call_count == 1


# --- rate limits


def test_a_429_is_waited_out(mixpanel: Mixpanel, clock: FakeClock) -> None:
    """`Retry-After` holds seconds or a date; the request is then sent again."""
    dated = response(429, Retry_After="Tue, 16 Jan 2024 09:40:00 GMT")
    mixpanel.script(response(429, "slow down", Retry_After="33"), dated, response())
    with mixpanel.client.open(EVENTS) as opened:
        assert (opened.requested_at - START).total_seconds() == 600
    assert mixpanel.call_count == 3
    assert clock.sleeps == [33, 567]


def test_a_429_does_not_count(mixpanel: Mixpanel) -> None:
    """A request is counted once, however often it was refused."""
    busy = response(429, Retry_After="1")
    mixpanel.script(busy, busy, response())
    mixpanel.open()
    assert (mixpanel.client.quota.left("data"), mixpanel.client.quota.requests) == (59, 3)


def test_a_429_past_the_longest_wait(mixpanel: Mixpanel) -> None:
    """A wait that `max_quota_wait` does not allow ends with an error at once."""
    mixpanel.script(response(429, Retry_After="7201"))
    assert isinstance(mixpanel.error(), QuotaSpent)
    assert mixpanel.call_count == 1


def test_a_200_ends_a_row_of_429s(mixpanel: Mixpanel, clock: FakeClock) -> None:
    """The wait doubles with each 429 in a row, and begins anew after a 200."""
    busy = response(429, "too many export requests in progress for this project")
    mixpanel.script(busy, response(), busy, busy, response())
    mixpanel.open()
    mixpanel.open()
    assert clock.sleeps == [10, 10, 20]


@pytest.mark.parametrize("status", [200, 429])
def test_the_project_s_own_limit_applies(status: int, mixpanel: Mixpanel) -> None:
    """`RateLimit-Policy` is read from any response, for the API that sent it."""
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
def test_the_clock_s_lead_comes_from_the_date(date: str, lead: timedelta | None, mixpanel: Mixpanel) -> None:
    """The `Date` of any response, an error's too, tells how far this machine's clock is ahead."""
    for status in (200, 500):
        mixpanel.script(response(status, Date=date))
        with contextlib.suppress(MixpanelError):
            mixpanel.open()
        assert mixpanel.client.clock_lead == lead


def test_a_429_is_never_an_error_of_its_own(mixpanel: Mixpanel) -> None:
    """Callers see a wait, a result or `QuotaSpent`."""
    mixpanel.script(response(429))
    assert not isinstance(mixpanel.error(), TooManyRequests)
