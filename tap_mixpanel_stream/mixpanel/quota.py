"""The quota: keeps to Mixpanel's rate limits so that requests are not refused.

Mixpanel's docs: 60 requests in a rolling hour for the raw export, and 60 for the query API, for a project. The export
takes 3 a second. What others use of the same project's quota is not visible to us, so a 429 can come all the same.
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
    from .rate_limit import RateLimit
    from .request import Api

HOURLY = 60
"""Requests that Mixpanel takes from a project in a rolling hour, unless it says otherwise."""

HOUR = 3601.0
"""Seconds. One more than an hour has: Mixpanel counts a request when it arrives, which can be later than we sent it."""


class Pace(NamedTuple):
    """So many requests in so many seconds."""

    requests: int
    seconds: float


ALONE = Pace(3, 1.2)
"""What the export takes in a second, and a little longer: connecting may delay one request and not the next."""

SHARED = Pace(1, 2.0)
"""Three runs that keep to it stay within what the export takes in a second, even where a request is a second late."""

_FIRST_STEP = 60.0
"""Seconds to wait after a 429 that gives no hint. Each further one in a row doubles it."""

_FIRST_STEP_CONCURRENT = 10.0
"""The same, after a 429 for too many requests at once."""

_LEAST_WAIT = 1.0
"""Seconds to wait after a 429 at the least, also where it says `Retry-After: 0`."""

_WORTH_A_LINE = 5.0
"""Seconds of waiting from which on the log says so."""

_NO_TIME = 1e-6
"""Seconds too short to sleep: what sums of floating-point numbers leave over."""


class _Account:
    """What one API has been asked for lately. Whoever uses it holds the quota's lock."""

    def __init__(self, name: str, setting: int | None, *, is_limited: bool = True, pace: Pace | None = None) -> None:
        self.name = name
        self.setting = setting
        self.is_limited = is_limited
        self.pace = pace
        self.reported: int | None = None
        self.in_hour: deque[float] = deque()
        self.in_pace: deque[float] = deque()
        self.counted = 0
        self.blocked_until = 0.0
        self.blocked_why = ""
        self.hour_full_until = 0.0
        self.in_a_row = 0

    @property
    def hourly(self) -> int:
        """Requests that we may make in an hour."""
        limits = [limit for limit in (self.setting, self.reported) if limit is not None]
        return min(limits, default=HOURLY)

    @property
    def spent(self) -> str:
        """What to say when the hour is full."""
        if self.setting is not None and self.setting == self.hourly:
            return f"hourly_quota, {self.hourly} requests an hour, is used up"
        return f"the {self.name}'s quota of {self.hourly} requests an hour is used up"

    def forget(self, now: float) -> None:
        while self.in_hour and now - self.in_hour[0] > HOUR - _NO_TIME:
            self.in_hour.popleft()
        while self.pace and self.in_pace and now - self.in_pace[0] > self.pace.seconds - _NO_TIME:
            self.in_pace.popleft()

    def left(self, now: float) -> int:
        """Return the number of requests that may still go out now."""
        self.forget(now)
        return 0 if now < self.hour_full_until else max(0, self.hourly - len(self.in_hour))

    def hour_wait(self, now: float, requests: int = 1) -> float:
        """Return the seconds until so many further requests can have gone out; 0 or less for none."""
        self.forget(now)
        if not self.is_limited or requests < 1:
            return 0.0
        wait, hourly = self.hour_full_until - now, self.hourly
        # Each request takes the place that was taken longest ago, an hour after that.
        further = requests - max(0, hourly - len(self.in_hour))
        if further > 0:
            rounds, place = divmod(further - 1, hourly)
            taken = [*list(self.in_hour)[-hourly:], *[now] * hourly][place]
            wait = max(wait, taken + HOUR * (1 + rounds) - now)
        return wait

    def pace_wait(self, now: float) -> float:
        """Return the seconds to wait for the limit of a second; 0 or less for none."""
        if self.pace is None or len(self.in_pace) < self.pace.requests:
            return 0.0
        return self.in_pace[-self.pace.requests] + self.pace.seconds - now


class Quota:
    """The accounts of a run's requests, one for each API, shared by all streams and threads."""

    def __init__(
        self,
        clock: Clock,
        *,
        hourly: int | None = None,
        pace: Pace | None = None,
        max_wait: float = 7200,
        log: logging.Logger | None = None,
    ) -> None:
        """Start with nothing spent.

        Args:
            clock: What to wait with.
            hourly: Requests that each API may be asked in a rolling hour; None for what Mixpanel takes from a project.
                A lower limit that Mixpanel reports wins.
            pace: How close together exports may be. By default as close as Mixpanel allows, unless the hour is shared.
            max_wait: Seconds that the run may spend waiting for the hour or for the end of a 429. Threads that
                wait at the same time count once; the pauses that the pace makes do not count.
            log: Where waiting is announced.
        """
        is_shared = hourly is not None and hourly < HOURLY
        self._clock = clock
        self._accounts: dict[Api, _Account] = {
            "data": _Account("export", hourly, pace=pace or (SHARED if is_shared else ALONE)),
            "query": _Account("query API", hourly),
            # Its limits are its own, and nobody was seen to meet them.
            "app": _Account("app API", None, is_limited=False),
        }
        self._max_wait = max_wait
        self._log = log or logging.getLogger(__name__)
        self._lock = threading.Lock()
        self._waiting_until = 0.0
        self._requests = 0
        self._waited = 0.0

    @property
    def requests(self) -> int:
        """Requests let through so far, of all kinds."""
        return self._requests

    @property
    def waited(self) -> float:
        """Seconds this run has waited for quota so far, a wait that is still going on included."""
        return self._waited

    @property
    def waiting(self) -> float:
        """Seconds until a wait that is going on ends; 0 without one."""
        return max(0.0, self._waiting_until - self._clock.monotonic())

    def wait_with(self, clock: Clock) -> None:
        """Wait with another clock of the same time from now on."""
        self._waited -= self.waiting
        self._waiting_until = 0.0
        self._clock = clock

    def hourly(self, api: Api) -> int:
        """Return an API's requests an hour, as far as known."""
        return self._accounts[api].hourly

    def left(self, api: Api) -> int | None:
        """Return the number of requests that may still go out now; None for an API without an hourly limit."""
        account = self._accounts[api]
        with self._lock:
            return account.left(self._clock.monotonic()) if account.is_limited else None

    def counted(self, api: Api) -> int:
        """Return the number of requests so far that count toward the quota."""
        return self._accounts[api].counted

    def wait_ahead(self, api: Api, requests: int) -> float:
        """Return the seconds until so many further requests can have gone out, including a wait that is going on."""
        account = self._accounts[api]
        with self._lock:
            now = self._clock.monotonic()
            return max(0.0, account.blocked_until - now, account.hour_wait(now, requests))

    def acquire(
        self, what: str, api: Api = "data", *, counts: bool = True, reserve_seconds: float = 0.0
    ) -> float | None:
        """Wait until a request may go out, and put it on its account.

        Args:
            what: What the request is for, for the log and the error.
            api: The API that is asked.
            counts: Whether it counts toward the hour. Later pages of a profile query do not.
            reserve_seconds: Seconds of the waiting allowed that are to be left for others.

        Returns:
            What `refund` takes; None if it does not count.

        Raises:
            QuotaSpent: Waiting would take longer, in all, than allowed.
            Stopped: The clock was stopped.
        """
        self._clock.check()
        account = self._accounts[api]
        while True:
            with self._lock:
                now = self._clock.monotonic()
                pause, why = _quota_wait(account, now, counts=counts)
                if pause > 0:
                    self._plan_to_wait(now, pause, why, what, reserve_seconds)
                else:
                    pause = account.pace_wait(now)
                if pause <= 0:
                    return self._book(account, now, counts=counts and account.is_limited)
            # Outside the lock: other threads must be able to find out that they wait as well.
            self._clock.sleep(pause)

    def refund(self, api: Api, booked: float | None) -> None:
        """Give back the quota of a request that Mixpanel does not count: one that it answered 401, 402 or 429.

        Args:
            api: The API that was asked.
            booked: What `acquire` returned.
        """
        account = self._accounts[api]
        with self._lock:
            if booked is not None and booked in account.in_hour:
                account.in_hour.remove(booked)
                account.counted -= 1

    def learn(self, api: Api, limit: RateLimit) -> None:
        """Take over what a response says about the rate limit."""
        account = self._accounts[api]
        with self._lock:
            account.reported = limit.hourly or account.reported
            if limit.left == 0 and limit.resets_in is not None:
                account.hour_full_until = self._clock.monotonic() + limit.resets_in
            elif limit.left:
                account.hour_full_until = 0.0

    def answered(self, api: Api) -> None:
        """Note that a request was let in: the next 429 is the first in a row."""
        with self._lock:
            self._accounts[api].in_a_row = 0

    def told_to_wait(self, api: Api, limit: RateLimit) -> None:
        """Note a 429. All threads that ask the same API wait then.

        They wait as long as Mixpanel says. Where it says nothing of time, but that the hour is full, they wait until
        the oldest of our requests leaves the hour. Otherwise, or where none of ours is in the hour, they wait a minute
        (10 s for too many requests at once), and twice as long after each further 429 in a row, an hour at most.

        Args:
            api: The API that was asked.
            limit: What the response says.
        """
        account = self._accounts[api]
        with self._lock:
            now = self._clock.monotonic()
            account.forget(now)
            seconds = limit.retry_after
            if seconds is None and limit.cause == "hour":
                seconds = limit.resets_in
            if seconds is not None:
                pause, why = max(seconds, _LEAST_WAIT), "requested by Mixpanel"
            elif now < account.blocked_until:
                # Sent before the others heard of the limit: one and the same refusal.
                return
            else:
                account.in_a_row += 1
                first = _FIRST_STEP_CONCURRENT if limit.cause == "concurrency" else _FIRST_STEP
                pause, why = first * 2 ** (account.in_a_row - 1), "too many requests from this project"
                if limit.cause == "hour" and account.in_hour:
                    pause, why = account.in_hour[0] + HOUR - now, account.spent
                pause = min(pause, HOUR)
            if now + pause > account.blocked_until:
                account.blocked_until, account.blocked_why = now + pause, why

    def _book(self, account: _Account, now: float, *, counts: bool) -> float | None:
        self._requests += 1
        if account.pace:
            account.in_pace.append(now)
        if not counts:
            return None
        account.in_hour.append(now)
        account.counted += 1
        return now

    def _plan_to_wait(self, now: float, pause: float, why: str, what: str, reserve_seconds: float) -> None:
        """Put a wait on the account, as far as it is not on it already for another thread, and announce it."""
        until = now + pause
        more = until - max(now, self._waiting_until)
        if more <= 0:
            return
        end = self._clock.now() + timedelta(seconds=pause)
        if self._waited + more > self._max_wait - reserve_seconds:
            raise QuotaSpent(
                f"{what}: {why}; the next request is allowed in {pause:.0f} s, at {time_text(end)}, and waiting "
                f"would exceed max_quota_wait ({self._max_wait:.0f} s in a run, {self._waited:.0f} s already waited"
                f"{f', {reserve_seconds:.0f} s reserved for later requests' if reserve_seconds else ''}). "
                "Run again after that time, or raise max_quota_wait",
                until=end,
            )
        self._waited += more
        self._waiting_until = until
        if more >= _WORTH_A_LINE:
            fields = {"request": what, "seconds": round(pause)}
            self._log.info("%s: waiting %.0f s, until %s: %s", what, pause, time_text(end), why, extra=fields)


def _quota_wait(account: _Account, now: float, *, counts: bool) -> tuple[float, str]:
    """Return the seconds to wait for quota, and why; 0 or less for none."""
    blocked = account.blocked_until - now
    hour = account.hour_wait(now) if counts else 0.0
    if max(blocked, hour) <= _NO_TIME:
        account.forget(now)
        return 0.0, ""
    return (blocked, account.blocked_why) if blocked > hour else (hour, account.spent)


def time_text(instant: datetime) -> str:
    """Spell the instant at which to ask again, UTC. It is never early: part of a second counts as a whole one."""
    return f"{instant + timedelta(microseconds=999_999):%Y-%m-%d %H:%M:%S} UTC"
