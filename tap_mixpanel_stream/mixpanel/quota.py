"""Mixpanel's limits, minded before it has to refuse.

Mixpanel's docs: 60 queries in a rolling hour and 3 a second, for a project. What others use of the same project's
quota is not visible to us, so a 429 can come all the same.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from .errors import QuotaSpent

if TYPE_CHECKING:
    from .clock import Clock

HOURLY = 60
"""Requests that Mixpanel takes from a project in a rolling hour."""

HOUR = 3601.0
"""Seconds. One more than an hour has: Mixpanel counts a request when it arrives, which can be later than we sent it."""

_SPENT = f"Mixpanel's quota of {HOURLY} queries an hour is spent"


class Pace(NamedTuple):
    """So many requests in so many seconds, further pages of a profile query among them."""

    requests: int
    seconds: float


ALONE = Pace(3, 1.2)
"""What Mixpanel allows in a second, and a little longer: connecting may delay one request and not the next."""

SHARED = Pace(1, 2.0)
"""Three runs that keep to it stay within what Mixpanel allows in a second, even where a request is a second late."""

_FIRST_STEP = 60.0
"""Seconds to wait after a 429 that gives no hint. Each further one in a row doubles it."""

_LEAST_WAIT = 1.0
"""Seconds to wait after a 429 at the least, also where it says `Retry-After: 0`."""

_WORTH_A_LINE = 5.0
"""Seconds of waiting from which on the log says so."""

_NO_TIME = 1e-6
"""Seconds too short to sleep: what sums of floating-point numbers leave over."""


class Quota:
    """The one account of a run's requests, shared by all its streams and threads."""

    def __init__(
        self,
        clock: Clock,
        *,
        hourly: int = HOURLY,
        pace: Pace | None = None,
        max_wait: float = 7200,
        log: logging.Logger | None = None,
    ) -> None:
        """Starts with nothing spent.

        Args:
            clock: What to wait with.
            hourly: Requests allowed in a rolling hour.
            pace: How close together they may be. By default as close as Mixpanel allows where the hour is all ours.
            max_wait: Seconds that the run may spend waiting for the hour or for the end of a 429. Threads that
                wait at the same time count once; the pauses that the pace makes do not count.
            log: Where waiting is announced.
        """
        self._clock = clock
        self._hourly = hourly
        self._pace = pace or (ALONE if hourly == HOURLY else SHARED)
        self._max_wait = max_wait
        self._log = log or logging.getLogger(__name__)
        self._lock = threading.Lock()
        self._in_hour: deque[float] = deque()
        self._in_second: deque[float] = deque()
        self._blocked_until = 0.0
        self._blocked_why = ""
        self._in_a_row = 0
        self._waiting_until = 0.0
        self._requests = 0
        self._waited = 0.0

    @property
    def requests(self) -> int:
        """Requests let through so far, of all kinds."""
        return self._requests

    @property
    def left(self) -> int:
        """Requests that may still go out now, by what we know of the hour."""
        with self._lock:
            self._forget(self._clock.monotonic())
            return max(0, self._hourly - len(self._in_hour))

    @property
    def waited(self) -> float:
        """Seconds this run has waited for quota so far, a wait that is still going on included."""
        return self._waited

    def wait_with(self, clock: Clock) -> None:
        """Goes on with another clock of the same time."""
        self._clock = clock

    def acquire(self, what: str, *, counts: bool = True, leaves: float = 0.0) -> None:
        """Waits until a request may go out, and puts it on the account.

        Args:
            what: What the request is for, for the log and the error.
            counts: Whether it counts towards the hour. Further pages of a profile query are thought not to:
                Mixpanel's docs do not say.
            leaves: Seconds of the waiting allowed that are to be left for others.

        Raises:
            QuotaSpent: Waiting would take longer, in all, than allowed.
            Stopped: The clock was stopped.
        """
        self._clock.check()
        while True:
            with self._lock:
                now = self._clock.monotonic()
                pause, why = self._quota_wait(now, counts=counts)
                if pause > 0:
                    self._plan_to_wait(now, pause, why, what, leaves)
                else:
                    pause = self._second_wait(now)
                if pause <= 0:
                    self._requests += 1
                    self._in_second.append(now)
                    if counts:
                        self._in_hour.append(now)
                    return
            # Outside the lock: other threads must be able to find out that they wait as well.
            self._clock.sleep(pause)

    def told_to_wait(self, retry_after: float | None, *, counts: bool = True, at_once: bool = False) -> None:
        """Notes a 429. All threads wait then, when they next ask.

        With `retry_after` they wait that long; without, until the oldest request of ours leaves the hour. Where that
        says nothing, for want of such a request or since it is not the hour that is spent, they wait a minute, and
        twice as long after each further 429 in a row, but never longer than until that oldest request has left.

        Args:
            retry_after: Seconds Mixpanel asked for.
            counts: As it was given to `acquire` for the refused request.
            at_once: Mixpanel complained of too many requests at the same moment.
        """
        with self._lock:
            now = self._clock.monotonic()
            if counts and self._in_hour:
                # It was refused, so it says nothing about when there is room again.
                self._in_hour.pop()
            self._forget(now)
            if retry_after is not None:
                pause, why = max(retry_after, _LEAST_WAIT), "Mixpanel asked for it"
            elif now < self._blocked_until:
                # Sent before the others heard of the limit: one and the same refusal.
                return
            else:
                self._in_a_row += 1
                step = min(_FIRST_STEP * 2 ** (self._in_a_row - 1), HOUR)
                leaves = self._in_hour[0] + HOUR - now if self._in_hour else None
                if at_once or leaves is None:
                    pause, why = min(step, leaves or step), "Mixpanel has too many requests from this project"
                else:
                    pause, why = leaves, _SPENT
            if now + pause > self._blocked_until:
                self._blocked_until, self._blocked_why = now + pause, why

    def answered(self) -> None:
        """Notes that a request was let in: the next 429 is the first in a row."""
        with self._lock:
            self._in_a_row = 0

    def _forget(self, now: float) -> None:
        while self._in_hour and now - self._in_hour[0] > HOUR - _NO_TIME:
            self._in_hour.popleft()
        while self._in_second and now - self._in_second[0] > self._pace.seconds - _NO_TIME:
            self._in_second.popleft()

    def _quota_wait(self, now: float, *, counts: bool) -> tuple[float, str]:
        """Seconds to wait for quota, and why; 0 or less for none."""
        self._forget(now)
        blocked = self._blocked_until - now
        hour = 0.0
        if counts and len(self._in_hour) >= self._hourly:
            hour = self._in_hour[-self._hourly] + HOUR - now
        if max(blocked, hour) <= _NO_TIME:
            return 0.0, ""
        if blocked > hour:
            return blocked, self._blocked_why
        return hour, _SPENT if self._hourly == HOURLY else f"hourly_quota, {self._hourly} queries an hour, is spent"

    def _second_wait(self, now: float) -> float:
        """Seconds to wait for the limit of a second; 0 or less for none."""
        if len(self._in_second) < self._pace.requests:
            return 0.0
        return self._in_second[-self._pace.requests] + self._pace.seconds - now

    def _plan_to_wait(self, now: float, pause: float, why: str, what: str, leaves: float) -> None:
        """Puts a wait on the account, as far as it is not on it already for another thread, and announces it."""
        until = now + pause
        more = until - max(now, self._waiting_until)
        if more <= 0:
            return
        end = self._clock.now() + timedelta(seconds=pause)
        if self._waited + more > self._max_wait - leaves:
            raise QuotaSpent(
                f"{what}: {why}; the next request can go out in {pause:.0f} s, at {_time(end)}, and that is past "
                f"max_quota_wait ({self._max_wait:.0f} s in a run, {self._waited:.0f} s of it waited already"
                f"{f', {leaves:.0f} s left for what comes after' if leaves else ''}). "
                "What was delivered is saved in the state: run again after that time, or raise max_quota_wait",
                until=end,
            )
        self._waited += more
        self._waiting_until = until
        if more >= _WORTH_A_LINE:
            fields = {"request": what, "seconds": round(pause)}
            self._log.info("%s: waiting %.0f s, until %s: %s", what, pause, _time(end), why, extra=fields)


def _time(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"
