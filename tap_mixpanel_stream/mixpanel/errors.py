"""The errors of this package, and the one table of what a response means.

    MixpanelError              one line: what happened, and what to do about it
    ├── Refused                a permanent failure: a retry would not help
    │   └── TooLarge           the response is too large to hold in memory
    ├── Transient              worth a retry: no connection, silence, 5xx, a malformed response
    │   └── BrokenBody         the response did not arrive whole
    ├── TooManyRequests        429: Mixpanel wants us to wait
    ├── SessionExpired         a profile query must start again from its first page
    ├── QuotaSpent             waiting for quota would take longer than max_quota_wait
    └── Stopped                the client was stopped

All of them can be pickled, as worker processes need.
"""

# ruff: noqa: N818 -- they are named by what happened, and all of them end in MixpanelError.

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

_SHOWN = 200
"""Characters of a server's text that a message repeats."""

_READ_FOR_IT = 4096
"""Characters of a page that are searched for text. The time to remove tags grows with the square of the length."""


class MixpanelError(Exception):
    """The base of all errors here. The message is one line and names the remedy."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    def add(self, note: str) -> None:
        """Append a note to the message, such as the number of tries."""
        self.args = (f"{self} ({note})",)


class Refused(MixpanelError):
    """A permanent failure: a retry would not help.

    Attributes:
        kind: What to look at.
        status: The HTTP status, None where the request was refused before it was sent.
    """

    def __init__(self, message: str = "", *, kind: Kind = "other", status: int | None = None) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.status = status


class TooLarge(Refused):
    """The response is too large to hold in memory."""


class Transient(MixpanelError):
    """A failure worth a retry.

    Attributes:
        status: The HTTP status, None where there was no response.
    """

    def __init__(self, message: str = "", *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class BrokenBody(Transient):
    """The response did not arrive whole: none of it may be delivered."""


class TooManyRequests(MixpanelError):
    """Mixpanel answered 429.

    Attributes:
        limit: What the response says about the rate limit.
    """

    def __init__(self, message: str = "", *, limit: RateLimit | None = None) -> None:
        super().__init__(message)
        self.limit = limit or RateLimit()


class SessionExpired(MixpanelError):
    """The session of a profile query has expired: start again from page 0."""


class QuotaSpent(MixpanelError):
    """The next request could go out only after more waiting than `max_quota_wait` allows.

    Attributes:
        until: When the next request could go out, UTC.
    """

    def __init__(self, message: str = "", *, until: datetime | None = None) -> None:
        super().__init__(message)
        self.until = until


class Stopped(MixpanelError):
    """`stop()` was called."""

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
    """One row of the table: a response, and what it means.

    Attributes:
        status: The statuses it is about.
        text: What the body must hold, in any case of letters; empty for any body.
        kind: What to look at.
        action: What to do.
        remedy: The second half of the message, with placeholders: `{settings}`, the credentials' settings; `{host}`,
            the one a redirect leads to; `{narrowed_by}`, the settings that the request was made of; `{first_day}`, the
            first day of the plan's history.
    """

    status: range
    text: str
    kind: Kind
    action: Action
    remedy: str


def _only(status: int) -> range:
    return range(status, status + 1)


_CREDENTIALS = "the credentials were rejected: check {settings} and region"
_NO_SETTING = "for a newer version of the tap, since no setting affects this request; or deselect the stream"

#: The first row that fits is taken. Texts were seen on the live API by others, statuses are in Mixpanel's docs.
TABLE: tuple[Rule, ...] = (
    Rule(
        range(300, 400),
        "",
        "other",
        Action.REFUSE,
        "the response redirects to {host}, and the tap sends credentials to no other host: "
        "check region, data_api_url, api_url and any proxy",
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
    Rule(_only(400), "timeout error", "other", Action.RETRY, "the query timed out at Mixpanel"),
    Rule(_only(400), "", "parameter", Action.REFUSE, "Mixpanel rejected a parameter: check {narrowed_by}"),
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
        "days into the past",
        "history",
        Action.REFUSE,
        "the request begins before the plan's history: set start_date to {first_day} or later, or change the plan",
    ),
    Rule(
        _only(403),
        "",
        "access",
        Action.REFUSE,
        "no access: check project_id, region and the role of the credentials in that project",
    ),
    Rule(
        _only(404),
        "missing datagroup",
        "missing_group",
        Action.REFUSE,
        "the group does not exist in the project: check group_profiles, or delete the cohort of that group in Mixpanel",
    ),
    Rule(_only(404), "", "not_found", Action.REFUSE, "not found: check project_id, region, data_api_url and api_url"),
    Rule(
        _only(407),
        "",
        "other",
        Action.REFUSE,
        "the proxy requires credentials: set them in HTTPS_PROXY, or bypass it with NO_PROXY",
    ),
    Rule(_only(408), "", "other", Action.RETRY, "the server timed out while receiving the request"),
    Rule(
        range(413, 415),
        "",
        "parameter",
        Action.REFUSE,
        "the request is too long: check {narrowed_by}",
    ),
    Rule(_only(429), "", "other", Action.WAIT, "too many requests"),
    Rule(range(400, 500), "", "other", Action.REFUSE, "the request was rejected"),
    Rule(range(500, 600), "", "other", Action.RETRY, "server error at Mixpanel or a proxy"),
    # A 204 or 206 is not a complete response.
    Rule(range(1000), "", "other", Action.RETRY, "an unexpected status"),
)

_TAG = re.compile(r"<(style|script|title)\b.*?(?:</\1\s*>|\Z)|<[^>]*(?:>|\Z)", re.IGNORECASE | re.DOTALL)
_HISTORY = re.compile(r"exceeds (\d{1,5}) days into the past", re.IGNORECASE)


_hidden: list[re.Pattern[str]] = []


def hide(secrets: Iterable[str]) -> None:
    """Have `printable` write `***` in place of these secrets, and of the passwords of proxies, in any form."""
    _hidden[:] = [pattern_of(secrets)]


def printable(text: str) -> str:
    """Return text from a server or proxy as a message may repeat it. No such text is shown or logged in another way.

    It is on one line, without control characters and secrets, and at most 200 characters long.

    Args:
        text: A body, a header or a value in one.
    """
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict) and isinstance(parsed.get("error"), str):
        text = parsed["error"]
    elif text.lstrip().startswith("<"):
        text = _TAG.sub(" ", text[:_READ_FOR_IT])
    for pattern in _hidden:
        text = pattern.sub("***", text)
    # Categories C*: control and format characters, which a terminal may obey; lone surrogates, which no log can hold.
    text = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in text)
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def redirect_host(location: str | None) -> str | None:
    """Return the host that a `Location` header leads to, as a message may show it; None if it names none."""
    try:
        host = urlsplit(location or "").hostname
    except ValueError:
        return None
    return printable(host) if host else None


def rule_for(status: int, body: str) -> Rule:
    """Return the first row of the table for a response other than 200."""
    text = body.lower()
    return next(rule for rule in TABLE if status in rule.status and rule.text in text)


def failure(
    status: int,
    body: str,
    *,
    what: str,
    settings: str,
    narrowed_by: tuple[str, ...] = (),
    location: str | None = None,
    limit: RateLimit | None = None,
    today: date | None = None,
) -> MixpanelError:
    """Return the error for a response other than 200.

    Args:
        status: The HTTP status.
        body: The body's text, as much of it as could be read.
        what: The name of the request, such as `events 2024-01-01..2024-01-07`.
        settings: The names of the settings that hold the credentials.
        narrowed_by: The names of the settings that the request was made of.
        location: The `Location` header.
        limit: What the response says about the rate limit.
        today: The project's today, from which the plan's history is counted.
    """
    rule = rule_for(status, body)
    remedy = rule.remedy.format(
        settings=settings,
        host=redirect_host(location) or "another address",
        narrowed_by=_either(narrowed_by) or _NO_SETTING,
        first_day=_first_day(body, today),
    )
    said = printable(body)
    message = f"{what}: HTTP {status}, {remedy}" + (f". Response: {said}" if said else "")
    if rule.action is Action.WAIT:
        return TooManyRequests(message, limit=limit)
    if rule.action is Action.RESTART:
        return SessionExpired(message)
    if rule.action is Action.RETRY:
        return Transient(message, status=status)
    return Refused(message, kind=rule.kind, status=status)


def _either(names: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _first_day(body: str, today: date | None) -> str:
    """Return the first day of the plan's history, by the number of days that Mixpanel names."""
    days = _HISTORY.search(body)
    if days is None or today is None:
        return "the first day of it"
    return str(today - timedelta(days=int(days[1])))
