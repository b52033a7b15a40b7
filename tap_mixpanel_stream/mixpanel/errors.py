"""What can go wrong between Mixpanel and us, and the one table that says what an answer means.

    MixpanelError              one line: what happened, and what to do about it
    ├── Refused                a lasting answer: asking again would not help
    │   └── TooLarge           the answer is larger than is held in memory
    ├── Transient              worth another try: no connection, silence, 5xx, a garbled answer
    │   └── BrokenBody         the answer began well and did not arrive whole
    ├── TooManyRequests        429: Mixpanel wants us to wait
    ├── SessionExpired         a profile query must start again from its first page
    ├── QuotaSpent             waiting for quota would take longer than max_quota_wait
    └── Stopped                we were told to stop

Every one of them can be pickled, so a worker process can hand its failure over.
"""

# ruff: noqa: N818 -- they are named by what happened, and all of them end in MixpanelError.

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Literal
from urllib.parse import urlsplit

Kind = Literal["credentials", "plan", "access", "time_zone", "parameter", "not_found", "other"]

_SHOWN = 200
"""Characters of a server's text that a message repeats."""

_READ_FOR_IT = 4096
"""Characters of a page that are searched for text. The time to remove tags grows with the square of the length."""


class MixpanelError(Exception):
    """What all errors in here have in common: a message of one line that names the remedy."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    def add(self, note: str) -> None:
        """Puts a note behind the message, such as how often it was tried."""
        self.args = (f"{self} ({note})",)


class Refused(MixpanelError):
    """A lasting answer: asking again would not help.

    Attributes:
        kind: What to look at.
        status: The HTTP status, None where the request was refused before it was sent.
    """

    def __init__(self, message: str = "", *, kind: Kind = "other", status: int | None = None) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.status = status


class TooLarge(Refused):
    """The answer is larger than is held in memory."""


class Transient(MixpanelError):
    """A failure worth another try.

    Attributes:
        status: The HTTP status, None where there was no answer.
    """

    def __init__(self, message: str = "", *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class BrokenBody(Transient):
    """The answer began well and did not arrive whole: not a byte of it may be believed."""


class TooManyRequests(MixpanelError):
    """Mixpanel answered 429.

    Attributes:
        retry_after: Seconds from `Retry-After`, None where there was no usable one.
        at_once: Too many requests at the same moment, not too many in the hour.
    """

    def __init__(self, message: str = "", *, retry_after: float | None = None, at_once: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.at_once = at_once


class SessionExpired(MixpanelError):
    """The paging session of a profile query is gone: start again from page 0."""


class QuotaSpent(MixpanelError):
    """The next request could go out only after more waiting than `max_quota_wait` allows.

    Attributes:
        until: When the next request could go out, UTC.
    """

    def __init__(self, message: str = "", *, until: datetime | None = None) -> None:
        super().__init__(message)
        self.until = until


class Stopped(MixpanelError):
    """`stop()` was called: whatever waited gives up."""

    def __init__(self, message: str = "stopped") -> None:
        super().__init__(message)


class Action(Enum):
    """What to do about an answer that is not the data."""

    REFUSE = "refuse"
    RETRY = "retry"
    WAIT = "wait"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table: an answer, and what it means.

    Attributes:
        status: The statuses it is about.
        text: What the body must hold, in any case of letters; empty for any body.
        kind: What to look at.
        action: What to do.
        remedy: The second half of the message; `{settings}` are the credentials' names, `{host}` is the `Location`'s.
    """

    status: range
    text: str
    kind: Kind
    action: Action
    remedy: str


def _only(status: int) -> range:
    return range(status, status + 1)


_CREDENTIALS = "the credentials were not accepted: check {settings}, and that region is the project's"

#: The first row that fits is taken. Texts were seen on the live API by others, statuses are in Mixpanel's docs.
TABLE: tuple[Rule, ...] = (
    Rule(
        range(300, 400),
        "",
        "other",
        Action.REFUSE,
        "the answer leads to {host}, and credentials go to no other address: "
        "check region, data_api_url, api_url and any proxy in between",
    ),
    Rule(_only(400), "unable to authenticate", "credentials", Action.REFUSE, _CREDENTIALS),
    Rule(
        _only(400),
        "to_date cannot be later than today",
        "time_zone",
        Action.REFUSE,
        "the last day has not begun in the project: check project_timezone, end_date and this machine's clock",
    ),
    Rule(_only(400), "request for page in uncached query", "other", Action.RESTART, "the paging session has expired"),
    Rule(
        _only(400),
        "",
        "parameter",
        Action.REFUSE,
        "a parameter was not accepted: check the settings that narrow the request (events_where, profiles_where, "
        "event_names, …)",
    ),
    Rule(_only(401), "", "credentials", Action.REFUSE, _CREDENTIALS),
    Rule(
        _only(402),
        "",
        "plan",
        Action.REFUSE,
        "the project's Mixpanel plan does not include this: deselect the stream or change the plan",
    ),
    Rule(
        _only(403),
        "",
        "access",
        Action.REFUSE,
        "no access: check project_id, region and the role of the credentials in that project",
    ),
    Rule(
        _only(404), "", "not_found", Action.REFUSE, "nothing there: check project_id, region, data_api_url and api_url"
    ),
    Rule(
        _only(407),
        "",
        "other",
        Action.REFUSE,
        "a proxy wants credentials: check HTTPS_PROXY and NO_PROXY in the environment",
    ),
    Rule(_only(408), "", "other", Action.RETRY, "the request took too long to arrive"),
    Rule(
        range(413, 415),
        "",
        "parameter",
        Action.REFUSE,
        "the request is too long: shorten events_where, event_names, profile_properties or distinct_ids",
    ),
    Rule(_only(429), "", "other", Action.WAIT, "too many requests"),
    Rule(range(400, 500), "", "other", Action.REFUSE, "the request was not accepted"),
    Rule(range(500, 600), "", "other", Action.RETRY, "trouble on Mixpanel's side or in between"),
    # A 204 or 206 to a request for everything is no whole answer.
    Rule(range(1000), "", "other", Action.RETRY, "an answer that makes no sense here"),
)

_LONGEST_WAIT = 1e9
"""Seconds that `Retry-After` can ask for. With more, the end of the wait would be past the end of the calendar."""

_TAG = re.compile(r"<(style|script|title)\b.*?(?:</\1\s*>|\Z)|<[^>]*(?:>|\Z)", re.IGNORECASE | re.DOTALL)
_HOURLY = re.compile(r"(\d+)/(\d+) queries running in the last hour")


def shown(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Return text from a server or proxy as a message may repeat it. No such text is shown or logged in another way.

    It is on one line, without control characters and secrets, and at most 200 characters long.

    Args:
        text: A body, a header or a value in one.
        secrets: Texts that must not be shown, should the server repeat them.
    """
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict) and isinstance(parsed.get("error"), str):
        text = parsed["error"]
    elif text.lstrip().startswith("<"):
        text = _TAG.sub(" ", text[:_READ_FOR_IT])
    for secret in secrets:
        text = text.replace(secret, "***")
    # Categories C*: control and format characters, which a terminal may obey; lone surrogates, which no log can hold.
    text = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in text)
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """Seconds to wait by a `Retry-After` header, which holds seconds or an HTTP date; None if it holds neither."""
    if header is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", header.strip(), re.ASCII):
        return float(header)
    try:
        until = parsedate_to_datetime(header)
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        return min(max(0.0, (until - now).total_seconds()), _LONGEST_WAIT)
    except (TypeError, ValueError, OverflowError):  # the last one: a year that a time zone leads out of the calendar
        return None


def redirect_host(location: str | None) -> str | None:
    """Return the host that a `Location` header leads to, as a message may show it; None if it names none."""
    try:
        host = urlsplit(location or "").hostname
    except ValueError:
        return None
    return shown(host) if host else None


def _at_once(body: str) -> bool:
    """Whether a 429 is about the requests of this moment, not those of the hour."""
    hourly = _HOURLY.search(body)
    if hourly:
        # Mixpanel tells how many there were of how many allowed; the refused one is among them.
        return int(hourly[1]) <= int(hourly[2])
    return "in progress" in body.lower()


def rule_for(status: int, body: str) -> Rule:
    """The table's row for an answer other than 200."""
    text = body.lower()
    return next(rule for rule in TABLE if status in rule.status and rule.text in text)


def failure(
    status: int,
    body: str,
    *,
    what: str,
    settings: str,
    location: str | None = None,
    retry_after: float | None = None,
    secrets: tuple[str, ...] = (),
) -> MixpanelError:
    """The error that an answer other than 200 stands for.

    Args:
        status: The HTTP status.
        body: The body's text, as much of it as could be read.
        what: What was asked for, such as `events 2024-01-01..2024-01-07`.
        settings: The names of the settings that hold the credentials.
        location: The `Location` header.
        retry_after: Seconds from the `Retry-After` header.
        secrets: Texts that must not be shown, should the server repeat them.
    """
    rule = rule_for(status, body)
    remedy = rule.remedy.format(settings=settings, host=redirect_host(location) or "another address")
    said = shown(body, secrets)
    message = f"{what}: Mixpanel answered {status}, {remedy}" + (f". It said: {said}" if said else "")
    if rule.action is Action.WAIT:
        return TooManyRequests(message, retry_after=retry_after, at_once=_at_once(body))
    if rule.action is Action.RESTART:
        return SessionExpired(message)
    if rule.action is Action.RETRY:
        return Transient(message, status=status)
    return Refused(message, kind=rule.kind, status=status)
