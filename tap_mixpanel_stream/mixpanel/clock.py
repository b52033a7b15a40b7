"""The clock of a run. Its `stop` ends all waits."""

from __future__ import annotations

import copy
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Self

from .errors import Stopped

_POLL_SECONDS = 1.0
"""Seconds after which a sleeping thread checks for `stop` itself, in case it missed the notification."""


class Clock:
    """The source of time. Its sleeps end early, with `Stopped`, when any thread calls `stop`."""

    def __init__(self) -> None:
        # A reentrant lock, because a signal handler can call `stop` while the lock is held.
        self._woken = threading.Condition(threading.RLock())
        self._stopped = False

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the time in seconds of a clock that never goes backwards."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep for a number of seconds.

        Raises:
            Stopped: `stop` was called before or during the sleep.
        """
        until = self.monotonic() + seconds
        with self._woken:
            self.check()
            while (left := until - self.monotonic()) > 0:
                self._woken.wait(min(left, _POLL_SECONDS))
                self.check()

    def check(self) -> None:
        """Raise `Stopped` if `stop` was called.

        Raises:
            Stopped: `stop` was called.
        """
        if self._stopped:
            raise Stopped

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def unstopped_copy(self) -> Self:
        """Return a copy that is not stopped."""
        clock = copy.copy(self)
        clock._stopped = False  # noqa: SLF001 - an attribute of the same class
        return clock

    def stop(self) -> None:
        """End all current and later sleeps. Thread-safe; can be called more than once."""
        self._stopped = True
        with self._woken:
            self._woken.notify_all()


def clock_lead(date: str | None, sent: datetime, received: datetime) -> timedelta | None:
    """Return how far this machine's clock is ahead of a server's; negative if it is behind.

    Args:
        date: The `Date` header of a response, in whole seconds.
        sent: When the request was sent, by this machine's clock in UTC.
        received: When the response began, by this machine's clock in UTC.

    Returns:
        The lead; zero if the date is between the two times, None if the header is missing or invalid.
    """
    try:
        server_time = parsedate_to_datetime(date or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return max(sent - server_time - timedelta(seconds=1), min(received - server_time, timedelta()))
