"""The clock of a run, whose `stop` ends all waiting."""

from __future__ import annotations

import copy
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Self

from .errors import Stopped

_SLICE = 1.0
"""Seconds a sleep lasts before it looks at the switch by itself, should a call have come too early to wake it."""


class Clock:
    """Time as the client sees it. A sleep ends early, with `Stopped`, when any thread calls `stop()`."""

    def __init__(self) -> None:
        # The lock can be taken again by its holder, so that `stop()` may come from a signal handler at any moment.
        self._woken = threading.Condition(threading.RLock())
        self._stopped = False

    def now(self) -> datetime:
        """Return the current time, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the seconds of a clock that is never moved back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait.

        Args:
            seconds: How long.

        Raises:
            Stopped: `stop()` was called, before or while waiting.
        """
        until = self.monotonic() + seconds
        with self._woken:
            self.check()
            while (left := until - self.monotonic()) > 0:
                self._woken.wait(min(left, _SLICE))
                self.check()

    def check(self) -> None:
        """Raise `Stopped` if `stop()` was called.

        Raises:
            Stopped: `stop()` was called.
        """
        if self._stopped:
            raise Stopped

    @property
    def stopped(self) -> bool:
        """Whether `stop()` was called."""
        return self._stopped

    def renewed(self) -> Self:
        """Return a clock of the same time that is not stopped."""
        clock = copy.copy(self)
        clock._stopped = False  # noqa: SLF001 - a clock's own
        return clock

    def stop(self) -> None:
        """End all waiting, now and later. Callable from any thread, and more than once."""
        self._stopped = True
        with self._woken:
            self._woken.notify_all()


def clock_lead(date: str | None, asked: datetime, answered: datetime) -> timedelta | None:
    """Return how far this machine's clock is ahead of a server's, by the `Date` of a response; negative if behind.

    Args:
        date: The header, which knows whole seconds only.
        asked: This machine's time of the request, UTC.
        answered: This machine's time when the response began, UTC.

    Returns:
        Zero where the date lies between the two, None where there is no date.
    """
    try:
        served = parsedate_to_datetime(date or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return max(asked - served - timedelta(seconds=1), min(answered - served, timedelta()))
