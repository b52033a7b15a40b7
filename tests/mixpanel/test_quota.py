from __future__ import annotations

import contextlib
import logging
import threading
import time
from datetime import timedelta
from typing import Literal

import pytest
from hypothesis import given, strategies as st

from tap_mixpanel_stream.mixpanel.clock import Clock
from tap_mixpanel_stream.mixpanel.errors import QuotaSpent, Stopped
from tap_mixpanel_stream.mixpanel.quota import FULL_RATE, HOUR, Quota, RateCap, time_text
from tap_mixpanel_stream.mixpanel.rate_limit import RateLimit
from tests.mixpanel.fake_clock import START, FakeClock

LONG = 10**9


def test_the_61st_request_waits_for_the_hour(clock: FakeClock) -> None:
    """The 61st request waits until the first is an hour old."""
    quota = Quota(clock)
    begin = clock.monotonic()
    for _ in range(60):
        quota.acquire("events")
    assert clock.monotonic() - begin < 60
    quota.acquire("events")
    assert 3600 <= clock.monotonic() - begin <= 3602
    assert quota.requests == 61
    assert 3500 < quota.waited < 3602


@given(
    pauses=st.lists(st.floats(0, 400), max_size=150),
    hourly=st.integers(1, 10),
    per_second=st.integers(1, 4),
)
def test_hourly_and_per_second_limits_are_never_exceeded(pauses: list[float], hourly: int, per_second: int) -> None:
    """No hour and no second has more requests than allowed, whatever the pauses between them."""
    clock = FakeClock()
    quota = Quota(clock, hourly=hourly, rate_cap=RateCap(per_second, FULL_RATE.seconds), max_wait=LONG)
    times = []
    for pause in pauses:
        clock.advance(pause)
        quota.acquire("events")
        times.append(clock.monotonic())
    for earlier, later in zip(times, times[hourly:], strict=False):
        assert later - earlier >= 3600
    for earlier, later in zip(times, times[per_second:], strict=False):
        assert later - earlier >= 1


def test_three_runs_stay_within_the_rate_limit() -> None:
    """Three runs at once stay below 3 requests per second, even if requests are late."""
    times = []
    for run in range(3):
        clock = FakeClock()
        clock.advance(0.3 * run)
        quota = Quota(clock, hourly=20)
        for number in range(20):
            quota.acquire("events")
            times.append(clock.monotonic() + (0.9 if number % 2 else 0))
    times.sort()
    assert min(later - earlier for earlier, later in zip(times, times[3:], strict=False)) >= 1


def test_later_pages_do_not_wait(clock: FakeClock) -> None:
    """Later pages of a session do not count, and the per-second limit is for exports only."""
    quota = Quota(clock, hourly=1)
    quota.acquire("profiles page 0", "query")
    for number in range(1, 300):
        quota.acquire(f"profiles page {number}", "query", is_counted=False)
    assert clock.sleeps == []
    assert quota.waited == 0
    # Times are stored only for the pace: a run can read a million pages.
    assert not quota._accounts["query"].recent


def test_export_and_query_api_have_separate_quotas(clock: FakeClock) -> None:
    """Each has 60 requests an hour; the app API has no such limit."""
    quota = Quota(clock)
    for _ in range(60):
        quota.acquire("events", "data")
    clock.sleeps.clear()
    for _ in range(60):
        quota.acquire("profiles", "query")
        quota.acquire("annotations", "app")
    assert clock.sleeps == []
    assert [quota.remaining(api) for api in ("data", "query", "app")] == [0, 0, None]
    quota.acquire("funnels", "query")
    assert 3500 < sum(clock.sleeps) < 3602


def test_hourly_quota_may_exceed_60(clock: FakeClock) -> None:
    """`hourly_quota` may be larger than 60."""
    quota = Quota(clock, hourly=400, rate_cap=RateCap(1000, 1))
    for _ in range(400):
        quota.acquire("events")
    assert clock.sleeps == []
    quota.acquire("events")
    assert clock.sleeps == [HOUR]


@pytest.mark.parametrize(
    ("setting", "reported", "hourly"),
    [
        (None, None, 60),
        (None, 400, 400),
        (None, 30, 30),
        (20, None, 20),
        (20, 60, 20),
        (400, 60, 60),
        (400, None, 400),
        (400, 401, 400),
    ],
)
def test_the_lower_of_setting_and_response_applies(
    setting: int | None, reported: int | None, hourly: int, clock: FakeClock
) -> None:
    """A limit in a response applies to its API; a lower setting stays, a higher one is capped."""
    quota = Quota(clock, hourly=setting)
    quota.update_limits("query", RateLimit(hourly=reported))
    quota.update_limits("query", RateLimit())
    assert quota.hourly("query") == hourly
    assert quota.hourly("data") == (setting or 60)


def test_a_full_hour_in_a_response_is_waited_for(clock: FakeClock) -> None:
    """`r=0;t=90` in a 200 delays the next request that counts, but no later page."""
    quota = Quota(clock)
    quota.acquire("profiles page 0", "query")
    quota.update_limits("query", RateLimit(hourly=60, remaining=0, resets_in=90))
    quota.acquire("profiles page 1", "query", is_counted=False)
    quota.acquire("events", "data")
    assert clock.sleeps == []
    assert quota.remaining("query") == 0
    quota.acquire("funnels", "query")
    assert clock.sleeps == [90]


def test_a_later_response_can_end_a_full_hour(clock: FakeClock) -> None:
    """`r=1` after `r=0;t=3000` allows the next request; a response without `r` does not."""
    quota = Quota(clock)
    quota.update_limits("query", RateLimit(hourly=60, remaining=0, resets_in=3000))
    quota.update_limits("query", RateLimit(hourly=60))
    assert quota.remaining("query") == 0
    quota.update_limits("query", RateLimit(hourly=60, remaining=1, resets_in=3000))
    quota.acquire("funnels", "query")
    assert clock.sleeps == []


def test_a_refunded_request_is_not_counted(clock: FakeClock) -> None:
    """A refunded request (401, 402, 429) makes room for another."""
    quota = Quota(clock, hourly=1)
    quota.refund("data", quota.acquire("events"))
    quota.refund("data", None)
    assert (quota.remaining("data"), quota.counted("data")) == (1, 0)
    clock.advance(10)
    quota.acquire("events")
    assert clock.sleeps == []


def get_429(quota: Quota, limit: RateLimit | None = None) -> None:
    """Send a request that gets a 429."""
    quota.refund("data", quota.acquire("events"))
    quota.block_after_429("data", limit or RateLimit())


def test_retry_after_delays_only_its_api(clock: FakeClock) -> None:
    """Every request to the same API waits; other APIs do not."""
    quota = Quota(clock)
    quota.block_after_429("query", RateLimit(retry_after=30))
    quota.acquire("events", "data")
    assert clock.sleeps == []
    quota.acquire("profiles page 1", "query", is_counted=False)
    assert clock.sleeps == [30]


def test_the_reset_time_of_a_full_hour_is_used(clock: FakeClock) -> None:
    """Without `Retry-After`, `t` is the time to wait."""
    quota = Quota(clock)
    get_429(quota, RateLimit(cause="hour", remaining=0, resets_in=1200))
    quota.acquire("events")
    assert clock.sleeps == [1200]


def test_retry_after_0_waits_a_second(clock: FakeClock) -> None:
    """`Retry-After: 0` waits a second."""
    quota = Quota(clock)
    get_429(quota, RateLimit(retry_after=0))
    quota.acquire("events")
    assert sum(clock.sleeps) >= 1


def test_a_full_hour_waits_for_the_oldest_request(clock: FakeClock) -> None:
    """Without a time, the wait lasts until the oldest request of this run is an hour old."""
    quota = Quota(clock)
    quota.acquire("events")
    clock.advance(600)
    get_429(quota, RateLimit(cause="hour"))
    quota.acquire("events")
    assert clock.sleeps == [pytest.approx(3000, abs=2)]


@pytest.mark.parametrize(
    ("limit", "waits"),
    [
        (RateLimit(), [60, 120, 240, 480, 960, 1920, 3601, 3601]),
        (RateLimit(cause="hour"), [60, 120, 240, 480, 960, 1920, 3601, 3601]),
        (RateLimit(cause="concurrency"), [10, 20, 40, 80, 160, 320, 640, 1280]),
    ],
)
def test_429_waits_double_without_a_time(limit: RateLimit, waits: list[int], clock: FakeClock) -> None:
    """60 s, or 10 s for concurrency, doubled after each further 429, up to an hour."""
    quota = Quota(clock, max_wait=LONG)
    for _ in range(8):
        get_429(quota, limit)
    quota.acquire("events")
    assert [round(sleep) for sleep in clock.sleeps] == waits


@pytest.mark.parametrize(("cause", "wait"), [(None, 60), ("concurrency", 10)])
def test_a_429_about_load_waits_briefly(cause: Literal["concurrency"] | None, wait: int, clock: FakeClock) -> None:
    """A 429 without the hour as its cause waits 60 s, or 10 s for concurrency, whatever was counted."""
    quota = Quota(clock)
    quota.acquire("events")
    clock.advance(5)
    get_429(quota, RateLimit(cause=cause))
    quota.acquire("events")
    assert clock.sleeps == [wait]


def test_a_response_resets_the_429_wait(clock: FakeClock) -> None:
    """After a response the next 429 waits 60 s again."""
    quota = Quota(clock, max_wait=LONG)
    for _ in range(3):
        get_429(quota)
        quota.acquire("events")
        quota.reset_backoff("data")
        clock.advance(2)
    assert clock.sleeps == [60, 60, 60]


def test_simultaneous_429s_count_once(clock: FakeClock) -> None:
    """Threads that get a 429 at the same moment do not double the wait."""
    quota = Quota(clock)
    for _ in range(3):
        quota.block_after_429("data", RateLimit())
    quota.acquire("events")
    assert clock.sleeps == [60]


def test_a_one_second_wait_is_recorded(clock: FakeClock) -> None:
    """A 429 with `Retry-After: 1` adds a second to the time waited."""
    quota = Quota(clock)
    get_429(quota, RateLimit(retry_after=1))
    quota.acquire("events")
    assert quota.waited == 1


@pytest.mark.parametrize(
    ("spent", "requests", "wait"),
    [(0, 0, 0), (0, 60, 0), (0, 61, 3601), (0, 121, 7202), (59, 1, 0), (59, 2, 3001), (60, 1, 3001), (60, 60, 3001)],
)
def test_wait_ahead_forecasts_the_wait(spent: int, requests: int, wait: int, clock: FakeClock) -> None:
    """`wait_ahead` returns the seconds until that many further requests are allowed."""
    quota = Quota(clock, rate_cap=RateCap(1000, 1))
    for _ in range(spent):
        quota.acquire("events")
    clock.advance(600)
    assert quota.estimate_wait("data", requests) == pytest.approx(wait)


def test_wait_ahead_includes_a_429(clock: FakeClock) -> None:
    """`wait_ahead` includes a wait that Mixpanel asked for, for its API only."""
    quota = Quota(clock)
    quota.block_after_429("data", RateLimit(retry_after=90))
    assert quota.estimate_wait("data", 1) == 90
    assert quota.estimate_wait("query", 1) == 0


def test_the_time_to_run_again_is_rounded_up() -> None:
    """A fraction of a second is rounded up in the time shown."""
    assert time_text(START + timedelta(microseconds=1)) == "2024-01-16 09:30:01 UTC"
    assert time_text(START) == "2024-01-16 09:30:00 UTC"


def test_a_wait_past_the_limit_explains_itself(clock: FakeClock) -> None:
    """The error names request, quota, wait, limit, end of the wait and what to do."""
    quota = Quota(clock, hourly=1, max_wait=5000)
    quota.acquire("events 2024-01-01")
    quota.acquire("events 2024-01-02")
    with pytest.raises(QuotaSpent) as spent:
        quota.acquire("events 2024-01-03")
    message = str(spent.value)
    assert spent.value.until == START + timedelta(seconds=2 * 3601)
    for part in (
        "events 2024-01-03",
        "quota",
        "hourly_quota, 1 requests an hour, is used up",
        "3601 s",
        "2024-01-16 11:30:02 UTC",
        "max_quota_wait",
        "5000 s",
        "Run again after that time",
    ):
        assert part in message
    assert "\n" not in message
    assert len(clock.sleeps) == 1


def test_max_wait_0_allows_rate_limit_pauses(clock: FakeClock) -> None:
    """With `max_wait=0` only a wait for the hourly quota fails, not the pauses within a second."""
    quota = Quota(clock, max_wait=0)
    for _ in range(60):
        quota.acquire("events")
    with pytest.raises(QuotaSpent):
        quota.acquire("events")


def test_reserved_wait_is_left_for_later(clock: FakeClock) -> None:
    """A request fails if its wait would leave less than `reserve_seconds` of `max_wait`."""
    quota = Quota(clock, hourly=1, max_wait=9000)
    quota.acquire("events")
    quota.acquire("events", reserve_seconds=HOUR)
    with pytest.raises(QuotaSpent, match=r"3601 s already waited, 3601 s reserved for later requests\)"):
        quota.acquire("events", reserve_seconds=HOUR)
    quota.acquire("profiles")
    assert quota.waited == 2 * HOUR


def test_simultaneous_waits_count_once() -> None:
    """Five threads that wait at once add their wait only once."""
    clock = Clock()
    quota = Quota(clock, hourly=1, max_wait=4000)
    quota.acquire("events")
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            quota.acquire("events")
        except (QuotaSpent, Stopped) as error:
            failures.append(error)

    threads = [threading.Thread(target=wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    while quota.waited == 0:
        time.sleep(0.001)
    clock.stop()
    for thread in threads:
        thread.join(5)
    assert [type(failure) for failure in failures] == [Stopped] * 5
    assert quota.waited < 3602


def test_overlapping_waits_count_once() -> None:
    """A short wait within a longer one does not add to the time waited."""
    clock = Clock()
    quota = Quota(clock, hourly=1, max_wait=4000)
    quota.acquire("events")

    def wait(*, counts: bool) -> None:
        with contextlib.suppress(Stopped):
            quota.acquire("events", is_counted=counts)

    long = threading.Thread(target=wait, kwargs={"counts": True})
    long.start()
    while quota.waited == 0:
        time.sleep(0.001)
    quota.block_after_429("data", RateLimit(retry_after=30))
    short = threading.Thread(target=wait, kwargs={"counts": False})
    short.start()
    time.sleep(0.05)
    clock.stop()
    long.join(5)
    short.join(5)
    assert 3599 < quota.waited < 3602


def test_a_short_wait_is_not_logged(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """A wait of 4 s is not logged."""
    quota = Quota(clock)
    quota.acquire("events")
    quota.block_after_429("data", RateLimit(retry_after=4))
    with caplog.at_level(logging.INFO):
        quota.acquire("events")
    assert caplog.records == []


def test_a_long_wait_is_logged_once(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """A long wait logs one line with its length, end and reason."""
    quota = Quota(clock)
    quota.acquire("events")
    quota.block_after_429("data", RateLimit(retry_after=90))
    with caplog.at_level(logging.INFO):
        for _ in range(6):
            quota.acquire("events 2024-01-01")
    assert [record.getMessage() for record in caplog.records] == [
        "events 2024-01-01: waiting 90 s, until 2024-01-16 09:31:30 UTC: requested by Mixpanel"
    ]


def test_a_stop_blocks_every_request(clock: FakeClock) -> None:
    """After a stop `acquire` raises `Stopped`."""
    clock.stop()
    with pytest.raises(Stopped):
        Quota(clock).acquire("events")
