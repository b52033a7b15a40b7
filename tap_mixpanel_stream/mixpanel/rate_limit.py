"""Read the rate limit from the headers of a response and from the text of a 429.

    RateLimit-Policy: "project";q=60;w=3600, "project-concurrency";q=5;qu="concurrent-requests"
    RateLimit: "project";r=0;t=3600, "project-concurrency";r=3

`q` is the limit, `w` its window in seconds, `r` the remaining requests, `t` the seconds until more are allowed. A 200
can have these headers too, as others have seen on the live API.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Cause = Literal["hour", "concurrency"]

_ITEM = re.compile(r'"([^"]*)"((?:\s*;\s*[a-z]+=(?:"[^"]*"|[^;,"]*))*)')
_PARAMETER = re.compile(r";\s*([a-z]+)=(\d{1,9})(?=\s*(?:;|$))")
_HOURLY = re.compile(r"(\d{1,9})/(\d{1,9}) queries running in the last hour")
_CONCURRENT = re.compile(r"(\d{1,9})/(\d{1,9}) queries running concurrently")
_AN_HOUR = 3600
_MAX_RETRY_AFTER = 1e9
"""Limit on the seconds of `Retry-After`. With much more, the end of the wait would exceed the range of `datetime`."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The rate limit that a response states. Values that it does not state are None.

    Attributes:
        hourly: The number of requests that the project may send in an hour.
        remaining: The number of requests left in the current hour.
        resets_in: The seconds until the hourly limit allows requests again.
        retry_after: The seconds to wait, from `Retry-After`.
        cause: The limit that was exceeded: requests per hour, or concurrent requests.
    """

    hourly: int | None = None
    remaining: int | None = None
    resets_in: float | None = None
    retry_after: float | None = None
    cause: Cause | None = None


def read_rate_limit(headers: Mapping[str, str], now: datetime, body: str = "") -> RateLimit:
    """Read the rate limit from the headers of a response, and from the text of a 429.

    Args:
        headers: The headers of the response, with case-insensitive names.
        now: The current time, for a `Retry-After` that is a date.
        body: The text of a 429.
    """
    policies, rates = (_items(headers.get(name, "")) for name in ("RateLimit-Policy", "RateLimit"))
    # If no policy states the window, assume that the remaining number is that of the hour.
    default_policy = {"w": _AN_HOUR}
    hour = next((name for name in [*policies, *rates] if _is_hourly(name, policies.get(name, default_policy))), "")
    hourly, remaining = policies.get(hour, {}).get("q"), rates.get(hour, {}).get("r")
    cause: Cause | None = "hour" if remaining == 0 else None
    if cause is None and any("concurrency" in name and rate.get("r") == 0 for name, rate in rates.items()):
        cause = "concurrency"
    if match := _HOURLY.search(body):
        hourly = int(match[2])
    if "in progress" in body.lower() or _is_exceeded(_CONCURRENT, body):
        cause = "concurrency"
    # The first number includes the rejected request, so it exceeds the limit.
    if _is_exceeded(_HOURLY, body):
        cause = "hour"
    return RateLimit(
        # Ignore a limit of 0, which would mean an endless wait.
        hourly=hourly or None,
        remaining=remaining,
        resets_in=rates.get(hour, {}).get("t"),
        retry_after=retry_after_seconds(headers.get("Retry-After"), now),
        cause=cause,
    )


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """Return the seconds of a `Retry-After` header, from seconds or an HTTP date; None if it is neither."""
    if header is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", header.strip(), re.ASCII):
        return float(header)
    try:
        until = parsedate_to_datetime(header)
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        return min(max(0.0, (until - now).total_seconds()), _MAX_RETRY_AFTER)
    except (TypeError, ValueError, OverflowError):  # OverflowError: the time zone moves the date out of range.
        return None


def _items(header: str) -> dict[str, dict[str, int]]:
    """Return the items of a header by name, each with its numeric parameters."""
    return {
        name: {key: int(value) for key, value in _PARAMETER.findall(parameters)}
        for name, parameters in _ITEM.findall(header)
    }


def _is_hourly(name: str, policy: Mapping[str, int]) -> bool:
    return "concurrency" not in name and policy.get("w") == _AN_HOUR


def _is_exceeded(pattern: re.Pattern[str], body: str) -> bool:
    match = pattern.search(body)
    return match is not None and int(match[1]) > int(match[2])
