from __future__ import annotations

import contextlib
import logging
import threading
import time
from datetime import timedelta

import pytest
from hypothesis import given, strategies as st

from tap_mixpanel_stream.mixpanel.clock import Clock
from tap_mixpanel_stream.mixpanel.errors import QuotaSpent, Stopped
from tap_mixpanel_stream.mixpanel.quota import ALONE, HOUR, Pace, Quota
from tests.mixpanel.turned_clock import START, TurnedClock

LONG = 10**9


def test_the_61st_request_waits_until_the_first_leaves_the_hour(clock: TurnedClock) -> None:
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
    clock = TurnedClock()
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
        clock = TurnedClock()
        clock.turn(0.3 * run)
        quota = Quota(clock, hourly=20)
        for number in range(20):
            quota.acquire("events")
            times.append(clock.monotonic() + (0.9 if number % 2 else 0))
    times.sort()
    assert min(later - earlier for earlier, later in zip(times, times[3:], strict=False)) >= 1


def test_further_pages_mind_only_the_second(clock: TurnedClock) -> None:
    quota = Quota(clock, hourly=1, pace=ALONE)
    quota.acquire("profiles page 0")
    for number in range(1, 300):
        quota.acquire(f"profiles page {number}", counts=False)
    assert max(clock.sleeps) < 2
    assert 100 <= clock.monotonic() - 1000 <= 130
    assert quota.waited == 0


def test_a_retry_after_holds_everybody(clock: TurnedClock) -> None:
    quota = Quota(clock)
    quota.acquire("events")
    quota.told_to_wait(30)
    quota.acquire("profiles page 1", counts=False)
    assert clock.sleeps == [30]


def test_a_retry_after_of_nothing_is_no_invitation_to_hammer(clock: TurnedClock) -> None:
    quota = Quota(clock)
    quota.acquire("events")
    quota.told_to_wait(0)
    quota.acquire("events")
    assert sum(clock.sleeps) >= 1


def test_without_retry_after_the_oldest_request_decides(clock: TurnedClock) -> None:
    quota = Quota(clock)
    quota.acquire("events")
    clock.turn(600)
    quota.acquire("events")
    quota.told_to_wait(None)
    quota.acquire("events")
    assert clock.sleeps == [pytest.approx(3000, abs=2)]


def test_without_any_request_of_ours_the_steps_grow_from_a_minute(clock: TurnedClock) -> None:
    quota = Quota(clock, max_wait=LONG)
    for _ in range(8):
        quota.acquire("events")
        quota.told_to_wait(None)
    quota.acquire("events")
    assert [round(sleep) for sleep in clock.sleeps] == [60, 120, 240, 480, 960, 1920, 3601, 3601]


def test_an_answer_ends_the_row(clock: TurnedClock) -> None:
    quota = Quota(clock, max_wait=LONG)
    for _ in range(3):
        quota.acquire("profiles page 1", counts=False)
        quota.told_to_wait(None, counts=False)
        quota.acquire("profiles page 1", counts=False)
        quota.answered()
    assert clock.sleeps == [60, 60, 60]


def test_too_many_at_once_is_not_waited_for_like_an_hour(clock: TurnedClock) -> None:
    quota = Quota(clock)
    quota.acquire("events")
    clock.turn(5)
    quota.acquire("events")
    quota.told_to_wait(None, at_once=True)
    quota.acquire("events")
    assert clock.sleeps == [60]


def test_too_many_at_once_never_waits_longer_than_the_hour_would(clock: TurnedClock) -> None:
    quota = Quota(clock)
    quota.acquire("events")
    clock.turn(3590)
    quota.acquire("events")
    quota.told_to_wait(None, at_once=True)
    quota.acquire("events")
    assert clock.sleeps == [pytest.approx(10, abs=2)]


def test_a_refused_page_takes_nothing_off_the_hour(clock: TurnedClock) -> None:
    quota = Quota(clock, hourly=2)
    quota.acquire("events")
    clock.turn(100)
    quota.acquire("profiles page 1", counts=False)
    quota.told_to_wait(60, counts=False)
    quota.acquire("events")
    quota.acquire("events")
    assert clock.monotonic() - 1000 >= 3600


def test_refusals_of_the_same_moment_count_as_one(clock: TurnedClock) -> None:
    quota = Quota(clock)
    for _ in range(3):
        quota.acquire("events")
    for _ in range(3):
        quota.told_to_wait(None, at_once=True)
    quota.acquire("events")
    assert clock.sleeps == [60]


def test_a_wait_past_the_limit_is_an_error_that_says_everything(clock: TurnedClock) -> None:
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
        "hourly_quota, 1 queries an hour, is spent",
        "3601 s",
        "2024-01-16 11:30:02 UTC",
        "max_quota_wait",
        "5000 s",
        "state",
    ):
        assert part in message
    assert "\n" not in message
    assert len(clock.sleeps) == 1


def test_no_waiting_allowed_still_allows_the_pauses_of_a_second(clock: TurnedClock) -> None:
    quota = Quota(clock, max_wait=0)
    for _ in range(60):
        quota.acquire("events")
    with pytest.raises(QuotaSpent):
        quota.acquire("events")


def test_a_wait_that_leaves_something_to_others_leaves_it(clock: TurnedClock) -> None:
    quota = Quota(clock, hourly=1, max_wait=9000)
    quota.acquire("events")
    quota.acquire("events", leaves=HOUR)
    with pytest.raises(QuotaSpent, match=r"3601 s of it waited already, 3601 s left for what comes after\)"):
        quota.acquire("events", leaves=HOUR)
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
    quota.told_to_wait(30, counts=False)
    short = threading.Thread(target=wait, kwargs={"counts": False})
    short.start()
    time.sleep(0.05)
    clock.stop()
    long.join(5)
    short.join(5)
    assert 3599 < quota.waited < 3602


def test_a_short_wait_leaves_no_line(clock: TurnedClock, caplog: pytest.LogCaptureFixture) -> None:
    quota = Quota(clock)
    quota.acquire("events")
    quota.told_to_wait(4)
    with caplog.at_level(logging.INFO):
        quota.acquire("events")
    assert caplog.records == []


def test_a_long_wait_leaves_one_line_that_says_until_when_and_why(
    clock: TurnedClock, caplog: pytest.LogCaptureFixture
) -> None:
    quota = Quota(clock)
    quota.acquire("events")
    quota.told_to_wait(90)
    with caplog.at_level(logging.INFO):
        for _ in range(6):
            quota.acquire("events 2024-01-01")
    assert [record.getMessage() for record in caplog.records] == [
        "events 2024-01-01: waiting 90 s, until 2024-01-16 09:31:30 UTC: Mixpanel asked for it"
    ]


def test_after_a_stop_nothing_is_let_through(clock: TurnedClock) -> None:
    clock.stop()
    with pytest.raises(Stopped):
        Quota(clock).acquire("events")
