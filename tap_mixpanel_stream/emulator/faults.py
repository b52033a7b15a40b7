"""What goes wrong: each fault by its name, and at which request.

The worst of Mixpanel's faults come with status 200: an export can end with a sentinel's text line, with a cut JSON
text, or simply stop; its gzip can stop before the trailer while the chunked framing ends cleanly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

KINDS = ("export", "engage", "cohorts", "annotations", "funnels", "event_counts", "schemas", "insights")

NAMES: Mapping[str, str] = {
    # What the text says.
    "sentinel:TEXT": "the body ends with the line TEXT, such as `terminated early`; framing and gzip are right",
    "error-line": 'the body ends with the truncated JSON `{"error":`',
    "error-object": 'the body ends with a line {"error":"..."}',
    "half-line": "the body ends in the middle of a line; framing and gzip are right",
    "bad-line": "a line that is not JSON, in the middle",
    "bad-utf8": "a line holds bytes that are not UTF-8",
    "nul": "a line holds a string with \\u0000",
    "lone-surrogate": "a line holds a string with \\ud800 alone",
    "duplicate-keys": "a line holds an object with one key twice",
    "line-separators": "a line holds U+2028, U+2029 and U+0085 as they are",
    "big-numbers": "a line holds 2^70 and 1e400",
    "time-null": "a line whose time is null",
    "long-line": "a line holds a string of `value` bytes (default 5 MB)",
    "deep-line": "a line holds lists within lists, `value` deep (default 1000000)",
    "bom": "the body starts with a byte order mark",
    "crlf": "lines end in CR LF",
    "blank-lines": "an empty line after each line",
    "no-final-newline": "the last line has no newline",
    "endless-line": "one line of `value` bytes that does not end (default 64 MiB)",
    "bomb": "gzip that expands to `value` bytes of whole lines (default 1 GiB), about 1000 times its size",
    "cut-json": "the body stops in the middle of its JSON; framing and gzip are right",
    "short-body": "the body stops after a whole line; framing and gzip are right, so nothing in it shows that",
    "other-days": "the events' times lie `value` days earlier (default 30), as in the response to another request",
    "empty-body": "status 200 and nothing else",
    "empty-object": "the body is {}",
    "page-html": "status 200 with an HTML page",
    "content-type": "the right body as text/html; charset=ISO-8859-1",
    # What gzip says.
    "gzip-cut": "gzip stops in the middle; the framing ends cleanly",
    "gzip-trailer": "the gzip checksum is wrong",
    "gzip-no-trailer": "all the data, but the 8 bytes of the gzip trailer are missing",
    "gzip-garbage": "bytes after the gzip trailer",
    "encoding": "Content-Encoding: br, which the request does not accept",
    # What the connection does.
    "chunk-cut": "the connection closes inside a chunked body, without the last chunk",
    "length-short": "Content-Length is larger than what is sent",
    "no-framing": "neither Content-Length nor chunks: the complete body ends with the connection",
    "reset": "the connection is reset inside the body",
    "refuse": "the connection closes before any header",
    "no-http": "bytes that are not HTTP",
    "trickle": "the body in 50 pieces, over `value` seconds (default 30)",
    "stall": "`value` seconds of silence inside the body (default 30), then it goes on",
    "silence": "`value` seconds of silence before the first byte (default 30)",
    # What the status says.
    "status:400": "an invalid parameter",
    "status:400-auth": "`Unable to authenticate request`",
    "status:400-to-date": "`to_date cannot be later than today`",
    "status:400-timeout": "`Timeout Error.`",
    "status:401": "bad credentials",
    "status:402": "the plan does not include it",
    "status:403": "no access",
    "status:403-history": "`Date range exceeds 90 days into the past`",
    "status:404": "not found",
    "status:404-datagroup": "`Missing Datagroup`",
    "status:414": "an HTML page",
    "status:429": "past the quota; `value`: Retry-After as `seconds`, as a `date`, or absent",
    "status:429-concurrent": "too many exports in progress",
    "status:429-load": "a 429 that names no limit",
    "status:500": "a text",
    "status:502": "an HTML page",
    "status:503": "a text",
    "status:504": "an HTML page",
    "redirect": "302 to the URL in `value`",
    # What engage does.
    "session-expired": "400: `request for page in uncached query for params`",
    "short-page": "fewer results than the page size while `total` says that there are more",
    "wrong-page": "another page than the one requested",
    "bare-page": "no `page_size` and no `total`, and on later pages no `session_id`",
}
"""All faults, by name, and what each does. Where it applies, `at` says how far into the body."""

OF_EXPORT = frozenset(
    {"crlf", "blank-lines", "no-final-newline", "time-null", "short-body", "other-days", "status:400-to-date"}
)
"""Those that strike an export only: a page of profiles is one line, and has no days."""

OF_ENGAGE = frozenset({"session-expired", "short-page", "wrong-page", "bare-page"})
"""Those that strike engage only."""

_SENTINEL = "sentinel:"


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: Which requests, one of `KINDS`.
        number: At which of them, from 1; a collection for several, None for every one.
        name: What goes wrong, one of `NAMES`.
        at: How far into the body it strikes, from 0 to 1.
        value: What more the fault needs: seconds, bytes, a URL.
    """

    kind: str
    number: int | Collection[int] | None
    name: str
    at: float = 0.5
    value: object = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of request {self.kind!r}: one of {', '.join(KINDS)}")
        if self.name not in NAMES and not self.name.startswith(_SENTINEL):
            raise ValueError(f"unknown fault {self.name!r}: one of {', '.join(NAMES)}")
        if (self.name in OF_EXPORT and self.kind != "export") or (self.name in OF_ENGAGE and self.kind != "engage"):
            raise ValueError(f"{self.name} does not apply to {self.kind}")
        if not 0 <= self.at <= 1:
            raise ValueError(f"AT must be between 0 and 1, not {self.at}")
        if self.name == "redirect" and not self.value:
            raise ValueError("redirect needs a URL as its value")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read a fault of the command line: `export:3:gzip-cut`, `export:*:stall=2.5@0.3`, `engage:1,2:refuse`.

        Raises:
            ValueError: It is no fault.
        """
        try:
            kind, number, name = text.split(":", 2)
            numbers = None if number == "*" else frozenset(int(each) for each in number.split(","))
        except ValueError:
            raise ValueError(f"a fault reads KIND:NUMBER:NAME, not {text!r}") from None
        rest, separator, at = name.rpartition("@")
        strikes = 0.5
        if separator and at.replace(".", "", 1).isdigit():
            name, strikes = rest, float(at)
        name, _, value = name.partition("=")
        return cls(kind, numbers, name, strikes, value or None)

    def strikes(self, kind: str, number: int) -> bool:
        """Return whether a request meets this fault."""
        if kind != self.kind:
            return False
        if self.number is None or isinstance(self.number, int):
            return self.number in {None, number}
        return number in self.number

    def seconds(self) -> float:
        """Return `value` as a number of seconds."""
        return 30.0 if self.value is None else float(str(self.value))

    def size(self, default: int) -> int:
        """Return `value` as a number of bytes."""
        return default if self.value is None else int(str(self.value))

    @property
    def sentinel(self) -> str | None:
        """The sentinel's text, if it is one."""
        return self.name.removeprefix(_SENTINEL) if self.name.startswith(_SENTINEL) else None
