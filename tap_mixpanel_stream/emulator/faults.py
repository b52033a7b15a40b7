"""The faults that the emulator can inject into responses.

Mixpanel reports the worst failures with status 200: an export can end with a sentinel line, with truncated JSON, or
after any line. Its gzip data can stop before the trailer although the chunked framing ends cleanly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

REQUEST_KINDS = ("export", "engage", "cohorts", "annotations", "funnels", "event_counts", "schemas", "insights")

FAULT_DESCRIPTIONS: Mapping[str, str] = {
    # Faults in the text of the body.
    "sentinel:TEXT": "the body ends with the line TEXT, such as `terminated early`; framing and gzip are correct",
    "error-line": 'the body ends with the truncated JSON `{"error":`',
    "error-object": 'the body ends with a line {"error":"..."}',
    "half-line": "the body ends in the middle of a line; framing and gzip are correct",
    "bad-line": "a line in the middle is not JSON",
    "bad-utf8": "a line contains bytes that are not UTF-8",
    "nul": "a line contains a string with \\u0000",
    "lone-surrogate": "a line contains an unpaired surrogate, \\ud800",
    "duplicate-keys": "a line contains an object with a duplicate key",
    "line-separators": "a line contains U+2028, U+2029 and U+0085 unescaped",
    "big-numbers": "a line contains the numbers 2^70 and 1e400",
    "time-null": "the time of an event is null",
    "long-line": "a line contains a string of `value` bytes (default 5 MB)",
    "deep-line": "a line contains lists nested `value` levels deep (default 1000000)",
    "bom": "the body starts with a byte order mark",
    "crlf": "lines end with CRLF",
    "blank-lines": "an empty line after each line",
    "no-final-newline": "the last line has no newline",
    "endless-line": "the body ends with a line of `value` bytes without a newline (default 64 MiB)",
    "bomb": "the gzip body expands about 1000 times, to `value` bytes of complete lines (default 1 GiB)",
    "cut-json": "the body stops in the middle of its JSON; framing and gzip are correct",
    "short-body": "the body stops after a complete line; framing and gzip are correct, so the response looks complete",
    "other-days": "events have times `value` days earlier (default 30), as in the response to another request",
    "empty-body": "status 200 with an empty body",
    "empty-object": "the body is {}",
    "page-html": "status 200 with an HTML page",
    "content-type": "the correct body, labeled text/html; charset=ISO-8859-1",
    # Faults in the compression.
    "gzip-cut": "the gzip data stops in the middle; the framing ends cleanly",
    "gzip-trailer": "the gzip checksum is wrong",
    "gzip-no-trailer": "the gzip trailer (the last 8 bytes) is missing",
    "gzip-garbage": "extra bytes after the gzip trailer",
    "encoding": "the response has Content-Encoding: br, which the request does not accept",
    # Faults in the connection.
    "chunk-cut": "the connection closes inside a chunked body, without the last chunk",
    "length-short": "Content-Length is larger than what is sent",
    "no-framing": "the body is complete and ends with the connection, without Content-Length or chunks",
    "reset": "the connection is reset in the middle of the body",
    "refuse": "the connection closes before any header",
    "no-http": "the response is not HTTP",
    "trickle": "the body arrives in 50 pieces over `value` seconds (default 30)",
    "stall": "the body pauses for `value` seconds (default 30), then continues",
    "silence": "the response starts after `value` seconds (default 30)",
    # Error statuses.
    "status:400": "an invalid parameter",
    "status:400-auth": "`Unable to authenticate request`",
    "status:400-to-date": "`to_date cannot be later than today`",
    "status:400-timeout": "`Timeout Error.`",
    "status:401": "bad credentials",
    "status:402": "the plan does not include the API",
    "status:403": "no access",
    "status:403-history": "`Date range exceeds 90 days into the past`",
    "status:404": "not found",
    "status:404-datagroup": "`Missing Datagroup`",
    "status:414": "an HTML body",
    "status:429": "quota exceeded; `value`: Retry-After in `seconds` or as a `date` (default: no Retry-After)",
    "status:429-concurrent": "too many concurrent exports",
    "status:429-load": "a 429 that does not say which limit was exceeded",
    "status:500": "a plain-text body",
    "status:502": "an HTML body",
    "status:503": "a plain-text body",
    "status:504": "an HTML body",
    "redirect": "302 to the URL in `value`",
    # Faults in the paging of engage.
    "session-expired": "400: `request for page in uncached query for params`",
    "short-page": "fewer results than `page_size`, although `total` is larger",
    "wrong-page": "another page than the one requested",
    "bare-page": "no `page_size` or `total`, and on later pages no `session_id`",
}
"""All faults by name. docs/errors.md describes how the tap handles each of them."""

EXPORT_FAULTS = frozenset(
    {"crlf", "blank-lines", "no-final-newline", "time-null", "short-body", "other-days", "status:400-to-date"}
)
"""Faults that apply to exports only, because a page of profiles has a single line and no dates."""

ENGAGE_FAULTS = frozenset({"session-expired", "short-page", "wrong-page", "bare-page"})
"""Faults that apply to engage only."""

_SENTINEL = "sentinel:"


@dataclass(frozen=True)
class Fault:
    """A fault to inject into the responses to some requests.

    Attributes:
        kind: Kind of request, one of `REQUEST_KINDS`.
        number: Request number or numbers, counted per kind from 1; None for every request.
        name: Name of the fault, a key of `FAULT_DESCRIPTIONS` or `sentinel:` and the text of the sentinel.
        at: Position of the fault in the body, as a fraction from 0 to 1.
        value: Parameter of the fault: seconds, bytes, days, a URL or the form of `Retry-After`.
    """

    kind: str
    number: int | Collection[int] | None
    name: str
    at: float = 0.5
    value: object = None

    def __post_init__(self) -> None:
        if self.kind not in REQUEST_KINDS:
            raise ValueError(f"unknown kind of request {self.kind!r}: one of {', '.join(REQUEST_KINDS)}")
        if self.name not in FAULT_DESCRIPTIONS and not self.name.startswith(_SENTINEL):
            raise ValueError(f"unknown fault {self.name!r}: one of {', '.join(FAULT_DESCRIPTIONS)}")
        if (self.name in EXPORT_FAULTS and self.kind != "export") or (
            self.name in ENGAGE_FAULTS and self.kind != "engage"
        ):
            raise ValueError(f"{self.name} does not apply to {self.kind}")
        if not 0 <= self.at <= 1:
            raise ValueError(f"AT must be between 0 and 1, not {self.at}")
        if self.name == "redirect" and not self.value:
            raise ValueError("redirect needs a URL as its value")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Parse a fault such as `export:3:gzip-cut`, `export:*:stall=2.5@0.3` or `engage:1,2:refuse`.

        Raises:
            ValueError: The text is not a valid fault.
        """
        try:
            kind, number, name = text.split(":", 2)
            numbers = None if number == "*" else frozenset(int(each) for each in number.split(","))
        except ValueError:
            raise ValueError(f"expected KIND:NUMBER:NAME, not {text!r}") from None
        rest, separator, at = name.rpartition("@")
        position = 0.5
        if separator and at.replace(".", "", 1).isdigit():
            name, position = rest, float(at)
        name, _, value = name.partition("=")
        return cls(kind, numbers, name, position, value or None)

    def matches(self, kind: str, number: int) -> bool:
        """Return whether this fault applies to a request."""
        if kind != self.kind:
            return False
        if self.number is None or isinstance(self.number, int):
            return self.number in {None, number}
        return number in self.number

    def seconds(self) -> float:
        """Return `value` in seconds (default 30)."""
        return 30.0 if self.value is None else float(str(self.value))

    def integer(self, default: int) -> int:
        """Return `value` as an integer."""
        return default if self.value is None else int(str(self.value))

    @property
    def sentinel(self) -> str | None:
        """The text of a sentinel; None for other faults."""
        return self.name.removeprefix(_SENTINEL) if self.name.startswith(_SENTINEL) else None
