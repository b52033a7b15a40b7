"""Client-side rate limiting, so that requests stay within Mixpanel's limits.

Mixpanel's docs: a project may send 60 requests in a rolling hour to the raw export, at most 3 a second, and another 60
in an hour to the query API. Other programs use the same project's quota, which the tap cannot see, so a 429 is still
possible.
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
"""The number of requests in a rolling hour that Mixpanel allows a project, unless it states another limit."""

HOUR = 3601.0
"""In seconds. One second longer than an hour, since Mixpanel counts a request when it arrives, after it is sent."""


class RateCap(NamedTuple):
    """A maximum number of requests within a number of seconds."""

    requests: int
    seconds: float


FULL_RATE = RateCap(3, 1.2)
"""The export's limit per second, plus a margin because connecting can delay one request and not the next."""

SHARED_RATE = RateCap(1, 2.0)
"""A cap with which three runs stay within the export's limit per second, even if a request arrives a second late."""

_INITIAL_BACKOFF = 60.0
"""Seconds to wait after a 429 that does not state a time. Doubles with each further 429 in a row."""

_INITIAL_CONCURRENCY_BACKOFF = 10.0
"""Seconds to wait instead after a 429 for too many concurrent requests."""

_MIN_WAIT = 1.0
"""Minimum number of seconds to wait after a 429, even with `Retry-After: 0`."""

_MIN_LOGGED_WAIT = 5.0
"""Waits of at least this many seconds are logged."""

_EPSILON = 1e-6
"""Waits of up to this many seconds are skipped: they can be rounding errors of floating-point sums."""


class _Account:
    """The recent requests to one API. Callers must hold the quota's lock."""

    def __init__(
        self, name: str, setting: int | None, *, is_limited: bool = True, rate_cap: RateCap | None = None
    ) -> None:
        self.name = name
        self.setting = setting
        self.is_limited = is_limited
        self.rate_cap = rate_cap
        self.reported: int | None = None
        # The times of counted requests within the last hour, and of requests within the period of the rate cap.
        self.in_hour: deque[float] = deque()
        self.recent: deque[float] = deque()
        # All counted requests of the run.
        self.counted = 0
        self.blocked_until = 0.0
        self.block_reason = ""
        self.hour_full_until = 0.0
        self.consecutive_429s = 0

    @property
    def hourly(self) -> int:
        """The number of requests that the run may send in an hour."""
        limits = [limit for limit in (self.setting, self.reported) if limit is not None]
        return min(limits, default=HOURLY)

    @property
    def exhausted_text(self) -> str:
        """The message for an exhausted hourly quota."""
        if self.setting is not None and self.setting == self.hourly:
            return f"hourly_quota, {self.hourly} requests an hour, is used up"
        return f"the {self.name}'s quota of {self.hourly} requests an hour is used up"

    def remove_expired(self, now: float) -> None:
        while self.in_hour and now - self.in_hour[0] > HOUR - _EPSILON:
            self.in_hour.popleft()
        while self.rate_cap and self.recent and now - self.recent[0] > self.rate_cap.seconds - _EPSILON:
            self.recent.popleft()

    def remaining(self, now: float) -> int:
        """Return the number of requests that the hourly quota still allows now."""
        self.remove_expired(now)
        return 0 if now < self.hour_full_until else max(0, self.hourly - len(self.in_hour))

    def hour_wait(self, now: float, requests: int = 1) -> float:
        """Return the seconds until the hourly quota allows this many more requests; 0 or less if it does now."""
        self.remove_expired(now)
        if not self.is_limited or requests < 1:
            return 0.0
        wait, hourly = self.hour_full_until - now, self.hourly
        # Each request uses the slot of the oldest one, an hour after the oldest one was sent.
        without_slot = requests - max(0, hourly - len(self.in_hour))
        if without_slot > 0:
            rounds, slot = divmod(without_slot - 1, hourly)
            used_at = [*list(self.in_hour)[-hourly:], *[now] * hourly][slot]
            wait = max(wait, used_at + HOUR * (1 + rounds) - now)
        return wait

    def rate_wait(self, now: float) -> float:
        """Return the seconds until the rate cap allows a request; 0 or less if it does now."""
        if self.rate_cap is None or len(self.recent) < self.rate_cap.requests:
            return 0.0
        return self.recent[-self.rate_cap.requests] + self.rate_cap.seconds - now


class Quota:
    """Limits the rate of a run's requests, with an account for each API. Shared by all streams and threads."""

    def __init__(
        self,
        clock: Clock,
        *,
        hourly: int | None = None,
        rate_cap: RateCap | None = None,
        max_wait: float = 7200,
        log: logging.Logger | None = None,
    ) -> None:
        """Create an unused quota.

        Args:
            clock: The clock for times and sleeps.
            hourly: The maximum number of requests to each API in a rolling hour; None for Mixpanel's limit. If Mixpanel
                states a lower limit, that one applies.
            rate_cap: The cap on the rate of exports; None for `SHARED_RATE` if `hourly` is below Mixpanel's limit, and
                otherwise `FULL_RATE`.
            max_wait: The total seconds that the run may wait for the hourly quota and after 429s. Simultaneous waits of
                several threads count once. Waits for the rate cap do not count.
            log: Receives a line for each wait.
        """
        is_shared = hourly is not None and hourly < HOURLY
        self._clock = clock
        self._accounts: dict[Api, _Account] = {
            "data": _Account("export", hourly, rate_cap=rate_cap or (SHARED_RATE if is_shared else FULL_RATE)),
            "query": _Account("query API", hourly),
            # The app API has separate limits. No report of reaching them is known.
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
        """The number of requests sent so far, including those that do not count toward the quota."""
        return self._requests

    @property
    def waited(self) -> float:
        """The seconds that this run has waited for quota, including all of the current wait."""
        return self._waited

    @property
    def waiting(self) -> float:
        """The seconds until the current wait ends; 0 if there is none."""
        return max(0.0, self._waiting_until - self._clock.monotonic())

    def replace_clock(self, clock: Clock) -> None:
        """Use another clock from now on. It must have the same `monotonic` time."""
        self._waited -= self.waiting
        self._waiting_until = 0.0
        self._clock = clock

    def hourly(self, api: Api) -> int:
        """Return the known limit of an API in requests per hour."""
        return self._accounts[api].hourly

    def remaining(self, api: Api) -> int | None:
        """Return the number of requests that the hourly quota still allows now; None for an API without one."""
        account = self._accounts[api]
        with self._lock:
            return account.remaining(self._clock.monotonic()) if account.is_limited else None

    def counted(self, api: Api) -> int:
        """Return the number of requests so far that count toward the quota."""
        return self._accounts[api].counted

    def estimate_wait(self, api: Api, requests: int) -> float:
        """Return the seconds until the quota allows this many more requests, including the current wait."""
        account = self._accounts[api]
        with self._lock:
            now = self._clock.monotonic()
            return max(0.0, account.blocked_until - now, account.hour_wait(now, requests))

    def acquire(
        self, what: str, api: Api = "data", *, is_counted: bool = True, reserve_seconds: float = 0.0
    ) -> float | None:
        """Wait until a request may be sent, and book it.

        Args:
            what: What is requested, for the log and the error.
            api: The API.
            is_counted: Whether the request counts toward the hourly quota. Later pages of a profile query do not.
            reserve_seconds: Seconds of `max_wait` to leave to other requests.

        Returns:
            The booking, for `refund`; None if the request does not count.

        Raises:
            QuotaSpent: Waiting would exceed `max_wait`.
            Stopped: The clock was stopped.
        """
        self._clock.check()
        account = self._accounts[api]
        while True:
            with self._lock:
                now = self._clock.monotonic()
                pause, reason = _quota_wait(account, now, is_counted=is_counted)
                if pause > 0:
                    self._plan_wait(now, pause, reason, what, reserve_seconds)
                else:
                    pause = account.rate_wait(now)
                if pause <= 0:
                    return self._book(account, now, is_counted=is_counted and account.is_limited)
            # Sleep without the lock, so that other threads can start to wait too.
            self._clock.sleep(pause)

    def refund(self, api: Api, booked: float | None) -> None:
        """Refund a request that Mixpanel does not count because of its status: 401, 402 or 429.

        Args:
            api: The API.
            booked: The booking, from `acquire`.
        """
        account = self._accounts[api]
        with self._lock:
            if booked is not None and booked in account.in_hour:
                account.in_hour.remove(booked)
                account.counted -= 1

    def update_limits(self, api: Api, limit: RateLimit) -> None:
        """Apply the rate limit that a response states."""
        account = self._accounts[api]
        with self._lock:
            account.reported = limit.hourly or account.reported
            if limit.remaining == 0 and limit.resets_in is not None:
                account.hour_full_until = self._clock.monotonic() + limit.resets_in
            elif limit.remaining:
                account.hour_full_until = 0.0

    def reset_backoff(self, api: Api) -> None:
        """Reset the back-off to its initial value, after a request succeeded."""
        with self._lock:
            self._accounts[api].consecutive_429s = 0

    def block_after_429(self, api: Api, limit: RateLimit) -> None:
        """Make all requests to an API wait after a 429.

        They wait as long as Mixpanel states. If Mixpanel states no time but an exhausted hourly limit, they wait until
        the oldest request of this run is an hour old. Otherwise, or if this run sent no request in the last hour, they
        wait a minute (10 s after too many concurrent requests). This time doubles with each further 429 in a row, up to
        an hour.

        Args:
            api: The API.
            limit: The rate limit that the response states.
        """
        account = self._accounts[api]
        with self._lock:
            now = self._clock.monotonic()
            account.remove_expired(now)
            seconds = limit.retry_after
            if seconds is None and limit.cause == "hour":
                seconds = limit.resets_in
            if seconds is not None:
                pause, reason = max(seconds, _MIN_WAIT), "requested by Mixpanel"
            elif now < account.blocked_until:
                # The request was sent before the API was blocked, so this is not another 429 in a row.
                return
            else:
                account.consecutive_429s += 1
                first = _INITIAL_CONCURRENCY_BACKOFF if limit.cause == "concurrency" else _INITIAL_BACKOFF
                pause, reason = first * 2 ** (account.consecutive_429s - 1), "too many requests from this project"
                if limit.cause == "hour" and account.in_hour:
                    pause, reason = account.in_hour[0] + HOUR - now, account.exhausted_text
                pause = min(pause, HOUR)
            if now + pause > account.blocked_until:
                account.blocked_until, account.block_reason = now + pause, reason

    def _book(self, account: _Account, now: float, *, is_counted: bool) -> float | None:
        self._requests += 1
        if account.rate_cap:
            account.recent.append(now)
        if not is_counted:
            return None
        account.in_hour.append(now)
        account.counted += 1
        return now

    def _plan_wait(self, now: float, pause: float, reason: str, what: str, reserve_seconds: float) -> None:
        """Add a wait to the total, except for the part that another thread already waits, and log it.

        Raises:
            QuotaSpent: The total would exceed `max_wait`.
        """
        until = now + pause
        extra_wait = until - max(now, self._waiting_until)
        if extra_wait <= 0:
            return
        end = self._clock.now() + timedelta(seconds=pause)
        if self._waited + extra_wait > self._max_wait - reserve_seconds:
            raise QuotaSpent(
                f"{what}: {reason}; the next request is allowed in {pause:.0f} s, at {time_text(end)}, and waiting "
                f"would exceed max_quota_wait ({self._max_wait:.0f} s in a run, {self._waited:.0f} s already waited"
                f"{f', {reserve_seconds:.0f} s reserved for later requests' if reserve_seconds else ''}). "
                "Run again after that time, or raise max_quota_wait",
                until=end,
            )
        self._waited += extra_wait
        self._waiting_until = until
        if extra_wait >= _MIN_LOGGED_WAIT:
            fields = {"request": what, "seconds": round(pause)}
            self._log.info("%s: waiting %.0f s, until %s: %s", what, pause, time_text(end), reason, extra=fields)


def _quota_wait(account: _Account, now: float, *, is_counted: bool) -> tuple[float, str]:
    """Return the seconds to wait for quota, and the reason; 0 if a request may be sent now."""
    blocked = account.blocked_until - now
    hour = account.hour_wait(now) if is_counted else 0.0
    if max(blocked, hour) <= _EPSILON:
        account.remove_expired(now)
        return 0.0, ""
    return (blocked, account.block_reason) if blocked > hour else (hour, account.exhausted_text)


def time_text(instant: datetime) -> str:
    """Return an instant in UTC as text, rounded up to whole seconds so that a retry at that time is not too early."""
    return f"{instant + timedelta(microseconds=999_999):%Y-%m-%d %H:%M:%S} UTC"
