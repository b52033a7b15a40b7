"""Errors of the client, and the table that maps error responses to them.

    MixpanelError              base class; the message is one line with cause and remedy
    ├── Refused                permanent failure: a retry would not help
    │   └── TooLarge           the response is too large for memory
    ├── Transient              temporary failure, such as no connection, a time-out or a 5xx
    │   └── BrokenBody         the response is incomplete or malformed
    ├── TooManyRequests        429: wait and send the request again
    ├── SessionExpired         a profile query must start again from its first page
    ├── QuotaSpent             waiting for quota would exceed max_quota_wait
    └── Stopped                the client was stopped

The errors can be pickled, which worker processes need.
"""

# ruff: noqa: N818 -- named after what happened; the base class ends in "Error".

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from ..logging_filters import pattern_of
from .rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime

Kind = Literal[
    "credentials", "plan", "history", "access", "time_zone", "parameter", "missing_group", "not_found", "other"
]

_MAX_QUOTED = 200
"""Maximum number of characters of a server's text that a message quotes."""

_MAX_HTML = 4096
"""Number of characters of an HTML page to read. The time to remove tags grows with the square of the length."""


class MixpanelError(Exception):
    """The base class of the errors. The message is one line and names the remedy."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    def add(self, note: str) -> None:
        """Append a note to the message, such as the number of tries."""
        self.args = (f"{self} ({note})",)


class Refused(MixpanelError):
    """A permanent failure: a retry would not help.

    Attributes:
        kind: The area of the problem.
        status: The HTTP status; None if the request was not sent.
    """

    def __init__(self, message: str = "", *, kind: Kind = "other", status: int | None = None) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.status = status


class TooLarge(Refused):
    """The response is too large for memory."""


class Transient(MixpanelError):
    """A temporary failure: a retry can help.

    Attributes:
        status: The HTTP status; None if there was no response.
    """

    def __init__(self, message: str = "", *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class BrokenBody(Transient):
    """The response is incomplete or malformed: none of it may be delivered."""


class TooManyRequests(MixpanelError):
    """Mixpanel responded with 429.

    Attributes:
        limit: The rate limit that the response states.
    """

    def __init__(self, message: str = "", *, limit: RateLimit | None = None) -> None:
        super().__init__(message)
        self.limit = limit or RateLimit()


class SessionExpired(MixpanelError):
    """The session of a profile query has expired: start again from page 0."""


class QuotaSpent(MixpanelError):
    """Waiting for quota would exceed `max_quota_wait`.

    Attributes:
        until: When the quota allows the next request, in UTC.
    """

    def __init__(self, message: str = "", *, until: datetime | None = None) -> None:
        super().__init__(message)
        self.until = until


class Stopped(MixpanelError):
    """The client was stopped."""

    def __init__(self, message: str = "stopped") -> None:
        super().__init__(message)


class Action(Enum):
    """What to do about a response other than 200."""

    REFUSE = "refuse"
    RETRY = "retry"
    WAIT = "wait"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table: a kind of response and how to handle it.

    Attributes:
        status: The HTTP statuses that the rule applies to.
        text: Text that the body must contain, in lower case; compared case-insensitively. Empty for any body.
        kind: The area of the problem.
        action: What to do.
        remedy: The second half of the message, with placeholders: `{settings}` for the settings of the credentials,
            `{host}` for the target of a redirect, `{source_settings}` for the settings that the request was made from,
            and `{first_day}` for the first day of the plan's history.
    """

    status: range
    text: str
    kind: Kind
    action: Action
    remedy: str


def _exactly(status: int) -> range:
    return range(status, status + 1)


_CREDENTIALS = "the credentials were rejected: check {settings} and region"
_NO_SETTING = "for a newer version of the tap, since no setting affects this request; or deselect the stream"

#: The first matching row applies. The statuses are in Mixpanel's docs; others have seen the texts on the live API.
TABLE: tuple[Rule, ...] = (
    Rule(
        range(300, 400),
        "",
        "other",
        Action.REFUSE,
        "the response redirects to {host}, and the tap sends credentials to no other host: "
        "check region, data_api_url, api_url and any proxy",
    ),
    Rule(_exactly(400), "unable to authenticate", "credentials", Action.REFUSE, _CREDENTIALS),
    Rule(
        _exactly(400),
        "to_date cannot be later than today",
        "time_zone",
        Action.REFUSE,
        "the last day has not begun in the project: check project_timezone, end_date and this machine's clock",
    ),
    Rule(
        _exactly(400), "request for page in uncached query", "other", Action.RESTART, "the paging session has expired"
    ),
    Rule(_exactly(400), "timeout error", "other", Action.RETRY, "the query timed out at Mixpanel"),
    Rule(_exactly(400), "", "parameter", Action.REFUSE, "Mixpanel rejected a parameter: check {source_settings}"),
    Rule(_exactly(401), "", "credentials", Action.REFUSE, _CREDENTIALS),
    Rule(
        _exactly(402),
        "",
        "plan",
        Action.REFUSE,
        "the project's Mixpanel plan does not include this: deselect the stream or change the plan",
    ),
    Rule(
        _exactly(403),
        "days into the past",
        "history",
        Action.REFUSE,
        "the request begins before the plan's history: set start_date to {first_day} or later, or change the plan",
    ),
    Rule(
        _exactly(403),
        "",
        "access",
        Action.REFUSE,
        "no access: check project_id, region and the role of the credentials in that project",
    ),
    Rule(
        _exactly(404),
        "missing datagroup",
        "missing_group",
        Action.REFUSE,
        "the group does not exist in the project: check group_profiles, or delete the cohort of that group in Mixpanel",
    ),
    Rule(
        _exactly(404), "", "not_found", Action.REFUSE, "not found: check project_id, region, data_api_url and api_url"
    ),
    Rule(
        _exactly(407),
        "",
        "other",
        Action.REFUSE,
        "the proxy requires credentials: set them in HTTPS_PROXY, or bypass it with NO_PROXY",
    ),
    Rule(_exactly(408), "", "other", Action.RETRY, "the server timed out while receiving the request"),
    Rule(
        range(413, 415),
        "",
        "parameter",
        Action.REFUSE,
        "the request is too long: check {source_settings}",
    ),
    Rule(_exactly(429), "", "other", Action.WAIT, "too many requests"),
    Rule(range(400, 500), "", "other", Action.REFUSE, "the request was rejected"),
    Rule(range(500, 600), "", "other", Action.RETRY, "server error at Mixpanel or a proxy"),
    # Includes 204 and 206, which are not complete responses.
    Rule(range(1000), "", "other", Action.RETRY, "an unexpected status"),
)

_TAG = re.compile(r"<(style|script|title)\b.*?(?:</\1\s*>|\Z)|<[^>]*(?:>|\Z)", re.IGNORECASE | re.DOTALL)
_HISTORY = re.compile(r"exceeds (\d{1,5}) days into the past", re.IGNORECASE)


_secret_patterns: list[re.Pattern[str]] = []


def mask_in_messages(secrets: Iterable[str]) -> None:
    """Make `printable` replace these secrets, in any encoding, and proxy passwords with `***`."""
    _secret_patterns[:] = [pattern_of(secrets)]


def printable(text: str) -> str:
    """Return text from a server or proxy in a form that is safe to quote in messages and logs.

    The result is one line of at most 200 characters, without control characters or secrets. Text from a server must not
    be shown or logged in any other way.

    Args:
        text: A body, a header, or a value in one.
    """
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict) and isinstance(parsed.get("error"), str):
        text = parsed["error"]
    elif text.lstrip().startswith("<"):
        text = _TAG.sub(" ", text[:_MAX_HTML])
    for pattern in _secret_patterns:
        text = pattern.sub("***", text)
    # Categories C*: control and format characters can control a terminal, and surrogates cannot be encoded.
    text = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in text)
    text = " ".join(text.split())
    return text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 1] + "…"


def redirect_host(location: str | None) -> str | None:
    """Return the host in a `Location` header, safe to quote; None if there is no host."""
    try:
        host = urlsplit(location or "").hostname
    except ValueError:
        return None
    return printable(host) if host else None


def rule_for(status: int, body: str) -> Rule:
    """Return the first matching row of the table for a response other than 200."""
    text = body.lower()
    return next(rule for rule in TABLE if status in rule.status and rule.text in text)


def failure(
    status: int,
    body: str,
    *,
    what: str,
    settings_hint: str,
    source_settings: tuple[str, ...] = (),
    location: str | None = None,
    limit: RateLimit | None = None,
    today: date | None = None,
) -> MixpanelError:
    """Return the error for a response other than 200.

    Args:
        status: The HTTP status.
        body: The text of the body, or its beginning.
        what: What was requested, such as `events 2024-01-01..2024-01-07`.
        settings_hint: The settings of the credentials, as in `Auth.settings_hint`.
        source_settings: The settings that the request was made from.
        location: The `Location` header.
        limit: The rate limit that the response states.
        today: Today's date in the project's time zone, to calculate the first day of the plan's history.
    """
    rule = rule_for(status, body)
    remedy = rule.remedy.format(
        settings=settings_hint,
        host=redirect_host(location) or "another address",
        source_settings=_join_with_or(source_settings) or _NO_SETTING,
        first_day=_first_day(body, today),
    )
    text = printable(body)
    message = f"{what}: HTTP {status}, {remedy}" + (f". Response: {text}" if text else "")
    if rule.action is Action.WAIT:
        return TooManyRequests(message, limit=limit)
    if rule.action is Action.RESTART:
        return SessionExpired(message)
    if rule.action is Action.RETRY:
        return Transient(message, status=status)
    return Refused(message, kind=rule.kind, status=status)


def _join_with_or(names: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _first_day(body: str, today: date | None) -> str:
    """Return the first day of the plan's history, from the number of days in Mixpanel's message."""
    days = _HISTORY.search(body)
    if days is None or today is None:
        return "its first day"
    return str(today - timedelta(days=int(days[1])))
