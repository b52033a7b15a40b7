"""Mixpanel's rate limits, which apply per project."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Literal

from .error_responses import ErrorResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RetryAfter = Literal["seconds", "date"]
Headers = tuple[tuple[str, str], ...]


def retry_after(form: RetryAfter | None, seconds: float) -> Headers:
    """Return the `Retry-After` header as seconds or as an HTTP date. Without a form, return no header."""
    if form is None:
        return ()
    whole = max(1, math.ceil(seconds))
    # An HTTP date has whole seconds. The extra second keeps the truncated date from being too early.
    return (("Retry-After", str(whole) if form == "seconds" else formatdate(time.time() + whole + 1, usegmt=True)),)


@dataclass(frozen=True)
class Quota:
    """Mixpanel's limits. A request over a limit gets 429.

    The raw export and the query API are limited separately. Responses with status 401, 402 and 429 do not count.

    Attributes:
        hourly: Requests per rolling hour.
        per_second: Exports per second. The query API has no such limit.
        concurrent: Concurrent exports.
        query_concurrent: Concurrent requests to the query API.
        period: Length of the rolling hour in seconds. Tests shorten it.
        retry_after: Form of the `Retry-After` header. None omits it, as Mixpanel often does.
        rate_headers: Whether responses have the `RateLimit` and `RateLimit-Policy` headers.
        count_pages: Whether later pages of an engage session count. On the live API they usually do not.
        lexicon_per_minute: Lexicon requests per minute.
        clock: Monotonic clock in seconds. Tests replace it.
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
    clock: Callable[[], float] = time.monotonic


class RateLimiter:
    """Checks requests of a project to one API against its limits."""

    def __init__(self, quota: Quota | None, project_id: str, *, is_export: bool) -> None:
        self._quota = quota
        self._project_id = project_id
        self._is_export = is_export
        self._lock = threading.Lock()
        self._times: deque[float] = deque()
        self._running = 0

    @contextmanager
    def request(self, *, is_counted: bool = True) -> Iterator[Headers]:
        """Register a request as running until its response is sent.

        Args:
            is_counted: Whether the request counts toward the hourly limit.

        Yields:
            Rate limit headers of the response.

        Raises:
            ErrorResponse: 429 if the request exceeds a limit.
        """
        with self._lock:
            self._admit(is_counted=is_counted)
            self._running += 1
            headers = self._headers()
        try:
            yield headers
        finally:
            with self._lock:
                self._running -= 1

    def _admit(self, *, is_counted: bool) -> None:
        quota = self._quota
        if quota is None:
            return
        now = quota.clock()
        while self._times and now - self._times[0] >= quota.period:
            self._times.popleft()
        if self._running >= self._max_concurrent:
            text = (
                "too many export requests in progress for this project"
                if self._is_export
                else self._text("concurrency")
            )
            raise self._too_many_requests(text, 10)
        if not is_counted:
            return
        if len(self._times) >= quota.hourly:
            raise self._too_many_requests(self._text("hour"), self._times[0] + quota.period - now)
        # This limit stays per second when a test shortens the hour, because clients pace their requests by it.
        if self._is_export and len(self._times) >= quota.per_second and now - self._times[-quota.per_second] < 1:
            raise self._too_many_requests(self._text(None), self._times[-quota.per_second] + 1 - now)
        self._times.append(now)

    @property
    def _max_concurrent(self) -> int:
        quota = self._quota or Quota()
        return quota.concurrent if self._is_export else quota.query_concurrent

    def _too_many_requests(self, text: str, wait: float) -> ErrorResponse:
        form = self._quota.retry_after if self._quota else None
        return ErrorResponse(429, text, (*retry_after(form, wait), *self._headers()))

    def _headers(self) -> Headers:
        quota = self._quota
        if quota is None or not quota.rate_headers:
            return ()
        remaining = quota.hourly - len(self._times)
        reset = math.ceil(self._times[0] + quota.period - quota.clock()) if self._times else 0
        concurrent = max(0, self._max_concurrent - self._running)
        policy = (
            f'"project";q={quota.hourly};w=3600, '
            f'"project-concurrency";q={self._max_concurrent};qu="concurrent-requests"'
        )
        rate = f'"project";r={remaining};t={reset}, "project-concurrency";r={concurrent}'
        return (("RateLimit-Policy", policy), ("RateLimit", rate))

    def _text(self, limit: Literal["hour", "concurrency"] | None) -> str:
        hourly = self._quota.hourly if self._quota else 0
        prefix = f"Query rate limit exceeded for project_id: {self._project_id}"
        link = "For more information, please see https://docs.mixpanel.com/reference/rate-limits"
        if limit == "hour":
            exceeded = f"rate limit ({len(self._times) + 1}/{hourly} queries running in the last hour)"
        elif limit == "concurrency":
            exceeded = f"concurrency limit ({self._running + 1}/{self._max_concurrent} queries running concurrently)"
        else:
            return f"{prefix} {link}"
        return f"{prefix}. This request exceeded the {exceeded}. {link}"


class LexiconRateLimiter(RateLimiter):
    """Checks Lexicon requests, which are limited to 5 per minute and organization."""

    def __init__(self, quota: Quota | None, project_id: str) -> None:
        lexicon_quota = quota and replace(quota, hourly=quota.lexicon_per_minute, period=min(60.0, quota.period))
        super().__init__(lexicon_quota, project_id, is_export=False)

    def _text(self, limit: Literal["hour", "concurrency"] | None) -> str:  # noqa: ARG002 - overrides the method
        return "Rate limit exceeded: 5 requests per minute per organization"

    def _headers(self) -> Headers:
        return ()
