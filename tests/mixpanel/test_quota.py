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
from tap_mixpanel_stream.mixpanel.quota import ALONE, HOUR, Pace, Quota, time_text
from tap_mixpanel_stream.mixpanel.rate_limit import RateLimit
from tests.mixpanel.fake_clock import START, FakeClock

LONG = 10**9


def test_the_61st_request_waits_until_the_first_leaves_the_hour(clock: FakeClock) -> None:
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
def test_no_hour_and_no_second_ever_holds_more_than_allowed(pauses: list[float], hourly: int, per_second: int) -> None:
    clock = FakeClock()
    quota = Quota(clock, hourly=hourly, pace=Pace(per_second, ALONE.seconds), max_wait=LONG)
    times = []
    for pause in pauses:
        clock.turn(pause)
        quota.acquire("events")
        times.append(clock.monotonic())
    for earlier, later in zip(times, times[hourly:], strict=False):
        assert later - earlier >= 3600
    for earlier, later in zip(times, times[per_second:], strict=False):
        assert later - earlier >= 1


def test_three_runs_that_share_the_hour_stay_within_the_second_even_where_a_request_is_late() -> None:
    times = []
    for run in range(3):
        clock = FakeClock()
        clock.turn(0.3 * run)
        quota = Quota(clock, hourly=20)
        for number in range(20):
            quota.acquire("events")
            times.append(clock.monotonic() + (0.9 if number % 2 else 0))
    times.sort()
    assert min(later - earlier for earlier, later in zip(times, times[3:], strict=False)) >= 1


def test_later_pages_wait_for_nothing(clock: FakeClock) -> None:
    """Later pages of a session do not count, and the limit of a second is the export's."""
    quota = Quota(clock, hourly=1)
    quota.acquire("profiles page 0", "query")
    for number in range(1, 300):
        quota.acquire(f"profiles page {number}", "query", counts=False)
    assert clock.sleeps == []
    assert quota.waited == 0
    # What no pace needs is not kept: a run can read a million pages.
    assert not quota._accounts["query"].in_pace


def test_export_and_query_api_are_two_accounts(clock: FakeClock) -> None:
    """60 an hour for each; the app API has no such limit."""
    quota = Quota(clock)
    for _ in range(60):
        quota.acquire("events", "data")
    clock.sleeps.clear()
    for _ in range(60):
        quota.acquire("profiles", "query")
        quota.acquire("annotations", "app")
    assert clock.sleeps == []
    assert [quota.left(api) for api in ("data", "query", "app")] == [0, 0, None]
    quota.acquire("funnels", "query")
    assert 3500 < sum(clock.sleeps) < 3602


def test_more_than_sixty_an_hour_can_be_set(clock: FakeClock) -> None:
    """`hourly_quota` may be larger than 60."""
    quota = Quota(clock, hourly=400, pace=Pace(1000, 1))
    for _ in range(400):
        quota.acquire("events")
    assert clock.sleeps == []
    quota.acquire("events")
    assert clock.sleeps == [HOUR]


@pytest.mark.parametrize(
    ("setting", "told", "hourly"),
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
def test_mixpanels_word_on_the_limit_wins_unless_less_is_set(
    setting: int | None, told: int | None, hourly: int, clock: FakeClock
) -> None:
    """What an answer says of the project's own limit applies to that account; a lower setting stays."""
    quota = Quota(clock, hourly=setting)
    quota.learn("query", RateLimit(hourly=told))
    quota.learn("query", RateLimit())
    assert quota.hourly("query") == hourly
    assert quota.hourly("data") == (setting or 60)


def test_an_hour_told_to_be_full_is_waited_for(clock: FakeClock) -> None:
    """`r=0;t=90` on a good answer holds the next request that counts, and no later page."""
    quota = Quota(clock)
    quota.acquire("profiles page 0", "query")
    quota.learn("query", RateLimit(hourly=60, left=0, resets_in=90))
    quota.acquire("profiles page 1", "query", counts=False)
    quota.acquire("events", "data")
    assert clock.sleeps == []
    assert quota.left("query") == 0
    quota.acquire("funnels", "query")
    assert clock.sleeps == [90]


def test_a_later_answer_with_room_ends_a_full_hour(clock: FakeClock) -> None:
    """`r=1` after `r=0;t=3000` lets the next request go; an answer without `r` does not."""
    quota = Quota(clock)
    quota.learn("query", RateLimit(hourly=60, left=0, resets_in=3000))
    quota.learn("query", RateLimit(hourly=60))
    assert quota.left("query") == 0
    quota.learn("query", RateLimit(hourly=60, left=1, resets_in=3000))
    quota.acquire("funnels", "query")
    assert clock.sleeps == []


def test_a_refunded_request_leaves_its_place(clock: FakeClock) -> None:
    """Answers 401, 402 and 429 are not counted."""
    quota = Quota(clock, hourly=1)
    quota.refund("data", quota.acquire("events"))
    quota.refund("data", None)
    assert (quota.left("data"), quota.counted("data")) == (1, 0)
    clock.turn(10)
    quota.acquire("events")
    assert clock.sleeps == []


def refused(quota: Quota, limit: RateLimit | None = None) -> None:
    """Send a request that gets a 429."""
    quota.refund("data", quota.acquire("events"))
    quota.told_to_wait("data", limit or RateLimit())


def test_a_retry_after_holds_its_api(clock: FakeClock) -> None:
    """Whatever asks the same API waits, other APIs do not."""
    quota = Quota(clock)
    quota.told_to_wait("query", RateLimit(retry_after=30))
    quota.acquire("events", "data")
    assert clock.sleeps == []
    quota.acquire("profiles page 1", "query", counts=False)
    assert clock.sleeps == [30]


def test_the_time_of_a_full_hour_is_obeyed(clock: FakeClock) -> None:
    """Without `Retry-After`, `t` says how long."""
    quota = Quota(clock)
    refused(quota, RateLimit(cause="hour", left=0, resets_in=1200))
    quota.acquire("events")
    assert clock.sleeps == [1200]


def test_a_retry_after_of_zero_still_pauses(clock: FakeClock) -> None:
    """`Retry-After: 0` waits a second."""
    quota = Quota(clock)
    refused(quota, RateLimit(retry_after=0))
    quota.acquire("events")
    assert sum(clock.sleeps) >= 1


def test_a_full_hour_without_a_time_waits_for_our_oldest(clock: FakeClock) -> None:
    """The oldest of our requests is the next to leave the hour, by all that we know."""
    quota = Quota(clock)
    quota.acquire("events")
    clock.turn(600)
    refused(quota, RateLimit(cause="hour"))
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
def test_without_any_time_the_waits_double(limit: RateLimit, waits: list[int], clock: FakeClock) -> None:
    """A minute, or 10 s for too many at once, twice as long after each further 429, an hour at most."""
    quota = Quota(clock, max_wait=LONG)
    for _ in range(8):
        refused(quota, limit)
    quota.acquire("events")
    assert [round(sleep) for sleep in clock.sleeps] == waits


@pytest.mark.parametrize(("cause", "wait"), [(None, 60), ("concurrency", 10)])
def test_a_429_that_is_not_about_the_hour_never_waits_for_one(
    cause: Literal["concurrency"] | None, wait: int, clock: FakeClock
) -> None:
    """A load-shed 429 waits a minute, also where requests of ours are in the hour."""
    quota = Quota(clock)
    quota.acquire("events")
    clock.turn(5)
    refused(quota, RateLimit(cause=cause))
    quota.acquire("events")
    assert clock.sleeps == [wait]


def test_an_answer_ends_the_row(clock: FakeClock) -> None:
    """After an answer the next 429 waits a minute again."""
    quota = Quota(clock, max_wait=LONG)
    for _ in range(3):
        refused(quota)
        quota.acquire("events")
        quota.answered("data")
        clock.turn(2)
    assert clock.sleeps == [60, 60, 60]


def test_refusals_of_the_same_moment_count_as_one(clock: FakeClock) -> None:
    """Threads that are refused together do not double the wait."""
    quota = Quota(clock)
    for _ in range(3):
        quota.told_to_wait("data", RateLimit())
    quota.acquire("events")
    assert clock.sleeps == [60]


def test_a_wait_of_a_second_counts_as_one(clock: FakeClock) -> None:
    """A 429 with `Retry-After: 1` adds a second to what was waited."""
    quota = Quota(clock)
    refused(quota, RateLimit(retry_after=1))
    quota.acquire("events")
    assert quota.waited == 1


@pytest.mark.parametrize(
    ("spent", "requests", "wait"),
    [(0, 0, 0), (0, 60, 0), (0, 61, 3601), (0, 121, 7202), (59, 1, 0), (59, 2, 3001), (60, 1, 3001), (60, 60, 3001)],
)
def test_a_wait_ahead_is_known(spent: int, requests: int, wait: int, clock: FakeClock) -> None:
    """Seconds until so many further requests can have gone out."""
    quota = Quota(clock, pace=Pace(1000, 1))
    for _ in range(spent):
        quota.acquire("events")
    clock.turn(600)
    assert quota.wait_ahead("data", requests) == pytest.approx(wait)


def test_a_wait_ahead_includes_a_429(clock: FakeClock) -> None:
    """A wait that Mixpanel asked for is ahead, too."""
    quota = Quota(clock)
    quota.told_to_wait("data", RateLimit(retry_after=90))
    assert quota.wait_ahead("data", 1) == 90
    assert quota.wait_ahead("query", 1) == 0


def test_the_time_to_ask_again_is_never_early() -> None:
    """Part of a second counts as a whole one."""
    assert time_text(START + timedelta(microseconds=1)) == "2024-01-16 09:30:01 UTC"
    assert time_text(START) == "2024-01-16 09:30:00 UTC"


def test_a_wait_past_the_limit_is_an_error_that_says_everything(clock: FakeClock) -> None:
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


def test_no_waiting_allowed_still_allows_the_pauses_of_a_second(clock: FakeClock) -> None:
    quota = Quota(clock, max_wait=0)
    for _ in range(60):
        quota.acquire("events")
    with pytest.raises(QuotaSpent):
        quota.acquire("events")


def test_a_wait_that_leaves_something_to_others_leaves_it(clock: FakeClock) -> None:
    quota = Quota(clock, hourly=1, max_wait=9000)
    quota.acquire("events")
    quota.acquire("events", reserve_seconds=HOUR)
    with pytest.raises(QuotaSpent, match=r"3601 s already waited, 3601 s reserved for later requests\)"):
        quota.acquire("events", reserve_seconds=HOUR)
    quota.acquire("profiles")
    assert quota.waited == 2 * HOUR


def test_threads_that_wait_together_count_once() -> None:
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


def test_a_shorter_wait_inside_a_longer_one_counts_for_nothing() -> None:
    clock = Clock()
    quota = Quota(clock, hourly=1, max_wait=4000)
    quota.acquire("events")

    def wait(*, counts: bool) -> None:
        with contextlib.suppress(Stopped):
            quota.acquire("events", counts=counts)

    long = threading.Thread(target=wait, kwargs={"counts": True})
    long.start()
    while quota.waited == 0:
        time.sleep(0.001)
    quota.told_to_wait("data", RateLimit(retry_after=30))
    short = threading.Thread(target=wait, kwargs={"counts": False})
    short.start()
    time.sleep(0.05)
    clock.stop()
    long.join(5)
    short.join(5)
    assert 3599 < quota.waited < 3602


def test_a_short_wait_leaves_no_line(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    quota = Quota(clock)
    quota.acquire("events")
    quota.told_to_wait("data", RateLimit(retry_after=4))
    with caplog.at_level(logging.INFO):
        quota.acquire("events")
    assert caplog.records == []


def test_a_long_wait_leaves_one_line_that_says_until_when_and_why(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    quota = Quota(clock)
    quota.acquire("events")
    quota.told_to_wait("data", RateLimit(retry_after=90))
    with caplog.at_level(logging.INFO):
        for _ in range(6):
            quota.acquire("events 2024-01-01")
    assert [record.getMessage() for record in caplog.records] == [
        "events 2024-01-01: waiting 90 s, until 2024-01-16 09:31:30 UTC: requested by Mixpanel"
    ]


def test_after_a_stop_nothing_is_let_through(clock: FakeClock) -> None:
    clock.stop()
    with pytest.raises(Stopped):
        Quota(clock).acquire("events")
