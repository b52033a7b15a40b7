"""Reading the rate limit from a response."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tap_mixpanel_stream.mixpanel.rate_limit import RateLimit, read_rate_limit, retry_after_seconds

NOW = datetime(2024, 1, 16, 9, 30, tzinfo=UTC)
POLICY = '"project";q=60;w=3600, "project-concurrency";q=5;qu="concurrent-requests"'
EXCEEDED = "Query rate limit exceeded for project_id: 12345. This request exceeded the "
OLDER = "Query rate limit exceeded for project_id: 12345. {}/5 queries running concurrently and {} queries running "
OLDER += "in the last hour."


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        (EXCEEDED + "rate limit (61/60 queries running in the last hour). Please", RateLimit(60, cause="hour")),
        (EXCEEDED + "concurrency limit (6/5 queries running concurrently).", RateLimit(cause="concurrency")),
        (OLDER.format(1, "61/60"), RateLimit(60, cause="hour")),
        (OLDER.format(6, "61/60"), RateLimit(60, cause="hour")),
        (OLDER.format(6, "12/60"), RateLimit(60, cause="concurrency")),
        (OLDER.format(1, "401/400"), RateLimit(400, cause="hour")),
        ("too many export requests in progress for this project", RateLimit(cause="concurrency")),
        ("Query rate limit exceeded for project_id: 12345 For more information, see", RateLimit()),
        ("", RateLimit()),
        ("1/0 queries running in the last hour", RateLimit(cause="hour")),
    ],
)
def test_the_text_of_a_429_has_limit_and_cause(body: str, limit: RateLimit) -> None:
    """The text names the hourly limit, concurrency or neither, and the project's own limit."""
    assert read_rate_limit({}, NOW, body) == limit


@pytest.mark.parametrize(
    ("policy", "rate", "limit"),
    [
        (POLICY, '"project";r=0;t=3600, "project-concurrency";r=3', RateLimit(60, 0, 3600, cause="hour")),
        (POLICY, '"project";r=12;t=100, "project-concurrency";r=0', RateLimit(60, 12, 100, cause="concurrency")),
        (POLICY, '"project";r=12;t=100', RateLimit(60, 12, 100)),
        ('"project";q=400;w=3600', "", RateLimit(400)),
        ('"burst";q=3;w=1, "project";q=60;w=3600', '"burst";r=0;t=1, "project";r=9;t=20', RateLimit(60, 9, 20)),
        ('"burst";q=3', '"burst";r=0;t=1', RateLimit()),
        ('"burst";q=3, "project";q=60;w=3600', '"burst";r=0;t=1, "project";r=9;t=20', RateLimit(60, 9, 20)),
        ("", '"project";r=0;t=12', RateLimit(None, 0, 12, cause="hour")),
        ('"project" ; q=60 ; w=3600', '"project"; r=1; t=2', RateLimit(60, 1, 2)),
        ('"project";q=0;w=3600', "", RateLimit()),
        ("60", "soon", RateLimit()),
        ('"project";q=many', '"project', RateLimit()),
    ],
)
def test_ratelimit_headers_are_read(policy: str, rate: str, limit: RateLimit) -> None:
    """`q` is the limit, `r` the rest, `t` the seconds to the reset; unreadable values are ignored."""
    assert read_rate_limit({"RateLimit-Policy": policy, "RateLimit": rate}, NOW) == limit


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("nan", None),
        ("0", 0),
        (" 12 ", 12),
        ("1.5", 1.5),
        ("Tue, 16 Jan 2024 09:31:30 GMT", 90),
        ("Tue, 16 Jan 2024 09:31:30 -0000", 90),
        ("Tue, 16 Jan 2024 09:00:00 GMT", 0),
        ("Tue, 99 Jan 2024 09:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 10**9),
        ("Mon, 01 Jan 99999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    """`Retry-After` is read as seconds or as a date; an unreadable value is ignored."""
    assert retry_after_seconds(header, NOW) == seconds
