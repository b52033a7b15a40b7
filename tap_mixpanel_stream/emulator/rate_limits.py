"""Mixpanel's rate limits, which apply to a whole project."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Literal

from .error_responses import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RetryAfter = Literal["seconds", "date"]
Headers = tuple[tuple[str, str], ...]


def retry_after(form: RetryAfter | None, seconds: float) -> Headers:
    """Return the `Retry-After` header in one of the forms it is seen in: seconds, an HTTP date, or not at all."""
    if form is None:
        return ()
    whole = max(1, math.ceil(seconds))
    # An HTTP date has whole seconds: without one more it would lie before the instant that is meant.
    return (("Retry-After", str(whole) if form == "seconds" else formatdate(time.time() + whole + 1, usegmt=True)),)


@dataclass(frozen=True)
class Quota:
    """Mixpanel's limits: 60 queries in a rolling hour, 3 a second, so many at once, past which it answers 429.

    The raw export and the query API keep separate accounts. Answers 401, 402 and 429 are not counted.

    Attributes:
        hourly: Requests in the rolling hour.
        per_second: Exports in a second; the query API has no such limit.
        concurrent: Exports in progress at once.
        query_concurrent: Queries in progress at once.
        period: The length of the "hour" in seconds, so that tests need not wait for one.
        retry_after: The form of the `Retry-After` header; None leaves it out, as Mixpanel often does.
        rate_headers: Whether all responses have the headers `RateLimit` and `RateLimit-Policy`.
        count_pages: Whether the later pages of one engage session are counted. Mostly they are not.
        lexicon_per_minute: Requests for the Lexicon in a minute.
        seconds: The clock that times the hour and the second, for tests that turn it.
    """

    hourly: int = 60
    per_second: int = 3
    concurrent: int = 100
    query_concurrent: int = 5
    period: float = 3600.0
    retry_after: RetryAfter | None = None
    rate_headers: bool = False
    count_pages: bool = False
    lexicon_per_minute: int = 5
    seconds: Callable[[], float] = time.monotonic


class Account:
    """What one of Mixpanel's APIs has seen of a project lately."""

    def __init__(self, quota: Quota | None, project_id: str, *, export: bool) -> None:
        self._quota = quota
        self._project_id = project_id
        self._export = export
        self._lock = threading.Lock()
        self._times: deque[float] = deque()
        self._running = 0

    @contextmanager
    def request(self, *, counted: bool = True) -> Iterator[Headers]:
        """Hold a place among the running requests, from the request to the last byte of the response.

        Args:
            counted: Whether it counts in the hour.

        Yields:
            Headers for the response.

        Raises:
            Refusal: 429, past a limit.
        """
        with self._lock:
            self._admit(counted=counted)
            self._running += 1
            headers = self._headers()
        try:
            yield headers
        finally:
            with self._lock:
                self._running -= 1

    def _admit(self, *, counted: bool) -> None:
        quota = self._quota
        if quota is None:
            return
        now = quota.seconds()
        while self._times and now - self._times[0] >= quota.period:
            self._times.popleft()
        most = self._most
        if self._running >= most:
            text = (
                "too many export requests in progress for this project" if self._export else self._text("concurrency")
            )
            raise self._refusal(text, 10)
        if not counted:
            return
        if len(self._times) >= quota.hourly:
            raise self._refusal(self._text("hour"), self._times[0] + quota.period - now)
        # The busy second stays a second, whatever the hour's length: it is what a client paces itself by.
        if self._export and len(self._times) >= quota.per_second and now - self._times[-quota.per_second] < 1:
            raise self._refusal(self._text(None), self._times[-quota.per_second] + 1 - now)
        self._times.append(now)

    @property
    def _most(self) -> int:
        quota = self._quota or Quota()
        return quota.concurrent if self._export else quota.query_concurrent

    def _refusal(self, text: str, wait: float) -> Refusal:
        form = self._quota.retry_after if self._quota else None
        return Refusal(429, text, (*retry_after(form, wait), *self._headers()))

    def _headers(self) -> Headers:
        quota = self._quota
        if quota is None or not quota.rate_headers:
            return ()
        left = quota.hourly - len(self._times)
        until = math.ceil(self._times[0] + quota.period - quota.seconds()) if self._times else 0
        at_once = max(0, self._most - self._running)
        policy = f'"project";q={quota.hourly};w=3600, "project-concurrency";q={self._most};qu="concurrent-requests"'
        rate = f'"project";r={left};t={until}, "project-concurrency";r={at_once}'
        return (("RateLimit-Policy", policy), ("RateLimit", rate))

    def _text(self, limit: Literal["hour", "concurrency"] | None) -> str:
        hourly = self._quota.hourly if self._quota else 0
        begin = f"Query rate limit exceeded for project_id: {self._project_id}"
        more = "For more information, please see https://docs.mixpanel.com/reference/rate-limits"
        if limit == "hour":
            exceeded = f"rate limit ({len(self._times) + 1}/{hourly} queries running in the last hour)"
        elif limit == "concurrency":
            exceeded = f"concurrency limit ({self._running + 1}/{self._most} queries running concurrently)"
        else:
            return f"{begin} {more}"
        return f"{begin}. This request exceeded the {exceeded}. {more}"


class LexiconAccount(Account):
    """What the Lexicon has seen of an organization lately: 5 requests a minute."""

    def __init__(self, quota: Quota | None, project_id: str) -> None:
        own = quota and replace(quota, hourly=quota.lexicon_per_minute, period=min(60.0, quota.period))
        super().__init__(own, project_id, export=False)

    def _text(self, limit: Literal["hour", "concurrency"] | None) -> str:  # noqa: ARG002 - an account's signature
        return "Rate limit exceeded: 5 requests per minute per organization"

    def _headers(self) -> Headers:
        return ()
