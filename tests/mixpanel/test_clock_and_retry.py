from __future__ import annotations

import logging
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.mixpanel.clock import Clock, clock_lead
from tap_mixpanel_stream.mixpanel.errors import BrokenBody, Refused, Stopped, Transient
from tap_mixpanel_stream.mixpanel.retry import Retrying, pause_seconds

if TYPE_CHECKING:
    from tests.mixpanel.fake_clock import FakeClock


def test_now_is_aware_and_utc() -> None:
    """`Clock.now` returns an aware datetime in UTC."""
    assert Clock().now().tzinfo is UTC


def test_sleep_lasts_as_long_as_requested() -> None:
    """`Clock.sleep` returns after the given number of seconds."""
    clock = Clock()
    begin = time.monotonic()
    clock.sleep(0.05)
    assert 0.05 <= time.monotonic() - begin < 1


def test_a_stop_from_a_thread_ends_all_sleeps() -> None:
    """A stop from another thread ends the current sleep and every later one."""
    clock = Clock()
    threading.Timer(0.05, clock.stop).start()
    begin = time.monotonic()
    with pytest.raises(Stopped):
        clock.sleep(60)
    with pytest.raises(Stopped):
        clock.sleep(0)
    assert time.monotonic() - begin < 5


def test_a_stop_from_a_signal_handler_ends_a_sleep() -> None:
    """A stop from a signal handler ends the sleep that the signal interrupts."""
    clock = Clock()
    before = signal.signal(signal.SIGALRM, lambda *_: clock.stop())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        begin = time.monotonic()
        with pytest.raises(Stopped):
            clock.sleep(60)
        assert time.monotonic() - begin < 5
    finally:
        signal.signal(signal.SIGALRM, before)


class Failing:
    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_transient_errors_are_retried_with_backoff(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """Pauses grow from 1 s to 8 s, and each retry logs one warning."""
    attempt = Failing(*(BrokenBody(f"events: cut {number}") for number in range(5)))
    assert Retrying(clock, 5)(attempt) == "done"
    for slept, base in zip(clock.sleeps, [1, 2, 4, 8, 8], strict=True):
        assert base * 0.8 <= slept <= base * 1.2
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 5
    assert lines[0].startswith("events: cut 0; retrying in ")
    assert lines[0].endswith("s (1 of 5)")


def test_the_last_error_has_the_number_of_tries(clock: FakeClock) -> None:
    """After the last retry the error ends with the number of tries."""
    with pytest.raises(BrokenBody, match=r"^cut 2 \(tried 3 times\)$"):
        Retrying(clock, 2)(Failing(*(BrokenBody(f"cut {number}") for number in range(9))))


def test_zero_retries_means_one_try(clock: FakeClock) -> None:
    """With `retries=0` the function is called once."""
    attempt = Failing(Transient("silence"))
    with pytest.raises(Transient, match=r"tried once"):
        Retrying(clock, 0)(attempt)
    assert attempt.calls == 1


def test_lasting_errors_are_not_retried(clock: FakeClock) -> None:
    """A `Refused` error is raised at once, without a pause."""
    attempt = Failing(Refused("no"))
    with pytest.raises(Refused):
        Retrying(clock)(attempt)
    assert (attempt.calls, clock.sleeps) == (1, [])


def test_pauses_vary_by_at_most_a_fifth() -> None:
    """Jitter changes a pause by at most 20 %."""
    assert pause_seconds(1, lambda: 0.0) == pytest.approx(0.8)
    assert pause_seconds(9, lambda: 1.0) == pytest.approx(9.6)


ASKED = datetime(2024, 1, 16, 9, 30, 10, 500_000, tzinfo=UTC)
ANSWERED = ASKED + timedelta(seconds=4)


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        # `Date` has whole seconds: any time between request and response means no known difference.
        ("Tue, 16 Jan 2024 09:30:10 GMT", 0),
        ("Tue, 16 Jan 2024 09:30:14 GMT", 0),
        ("Tue, 16 Jan 2024 09:30:15 GMT", -0.5),
        ("Tue, 16 Jan 2024 09:30:08 GMT", 1.5),
        ("Tue, 16 Jan 2024 09:40:14 GMT", -599.5),
        ("Tue, 16 Jan 2024 08:30:10 GMT", 3599.5),
        ("Tue, 16 Jan 2024 10:30:12 +0100", 0),
    ],
)
def test_clock_lead_is_outside_the_request_time(date: str, seconds: float) -> None:
    """The lead is the distance of `Date` from the interval between request and response."""
    assert clock_lead(date, ASKED, ANSWERED) == timedelta(seconds=seconds)


@pytest.mark.parametrize("date", [None, "", "soon", "Fri, 31 Dec 9999 23:00:00 -1400", "Tue, 99 Jan 2024 09:30:10 GMT"])
def test_clock_lead_needs_a_valid_date(date: str | None) -> None:
    """Without a valid `Date` the clock lead is unknown."""
    assert clock_lead(date, ASKED, ANSWERED) is None
