"""Time, and the one switch that ends all waiting."""

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
        """The time of day, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds from some moment on, never moved back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Waits.

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
        """Goes on unless `stop()` was called.

        Raises:
            Stopped: It was.
        """
        if self._stopped:
            raise Stopped

    @property
    def stopped(self) -> bool:
        """Whether `stop()` was called."""
        return self._stopped

    def renewed(self) -> Self:
        """The same time, and a switch of its own that is not turned: what this one has stopped stays stopped."""
        clock = copy.copy(self)
        clock._stopped = False  # noqa: SLF001 - a clock's own
        return clock

    def stop(self) -> None:
        """Ends all waiting, now and later. May be called from any thread, and more than once."""
        self._stopped = True
        with self._woken:
            self._woken.notify_all()


def clock_lead(date: str | None, asked: datetime, answered: datetime) -> timedelta | None:
    """How far our clock is ahead of a server's, by the `Date` of its answer; negative where it is behind.

    Args:
        date: The header, which knows whole seconds only.
        asked: Our time when we asked, UTC.
        answered: Our time when the answer began, UTC.

    Returns:
        Zero where the date lies between the two, None where there is no date.
    """
    try:
        served = parsedate_to_datetime(date or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return max(asked - served - timedelta(seconds=1), min(answered - served, timedelta()))
