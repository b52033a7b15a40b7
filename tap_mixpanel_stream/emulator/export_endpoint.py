"""The raw export: its parameters, and the lines it sends.

The response is text, one JSON object a line, in no documented order, with no count, no checksum and no end marker:
whether it is whole, only the framing, gzip's trailer and the last line can tell. `from_date` and `to_date` are days of
event time in the project's zone, both inclusive. There is no cursor.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from typing import TYPE_CHECKING

from .engage_endpoint import read_where
from .error_responses import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .expressions import Predicate
    from .project import Project

_MOST_ROWS = 100_000
# A larger `time` is in milliseconds.
_IN_MS = 100_000_000_000
# Lines of about 1 KB: a block of 128 KiB.
_LINES_PER_BLOCK = 128


@dataclass(frozen=True)
class Export:
    """One export, its parameters read and checked.

    Attributes:
        first: `from_date`, in the project's zone.
        last: `to_date`, inclusive.
        events: Only these events, if any are named.
        match: `where`, if given.
        limit: At most so many rows; there is no offset, so it cannot page.
        in_ms: Whether `time` is in milliseconds.
    """

    first: date
    last: date
    events: frozenset[str] | None
    match: Predicate | None
    limit: int | None
    in_ms: bool

    @classmethod
    def read(cls, query: Mapping[str, str], today: date) -> Export:
        """Read the parameters of a request.

        Args:
            query: The query string's parameters.
            today: Today in the project's zone.

        Raises:
            Refusal: 400, for a parameter that is missing or wrong.
        """
        first, last = (read_day(query, name) for name in ("from_date", "to_date"))
        if last > today:
            raise Refusal(400, "to_date cannot be later than today")
        if first > last:
            raise Refusal(400, "Invalid parameter: from_date cannot be later than to_date")
        events = None
        if "event" in query:
            try:
                named = json.loads(query["event"])
            except ValueError:
                named = None
            if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
                raise Refusal(400, "Invalid parameter: event must be a JSON list of strings")
            events = frozenset(named)
        limit = None
        if "limit" in query:
            limit = int(query["limit"]) if query["limit"].isdecimal() else 0
            if not 1 <= limit <= _MOST_ROWS:
                raise Refusal(400, f"Invalid parameter: limit must be from 1 to {_MOST_ROWS}")
        in_ms = query.get("time_in_ms", "false").lower() in {"true", "1"}
        return cls(first, last, events, read_where(query.get("where", "")), limit, in_ms)

    def blocks(self, project: Project, now: datetime) -> Iterator[bytes]:
        """Yield the body, some whole lines at a time."""
        lines = project.lines(self.first, self.last, now=now, in_ms=self.in_ms)
        filtered = self.events is not None or self.match is not None
        left = self.limit
        while left != 0 and (block := list(islice(lines, _LINES_PER_BLOCK))):
            if filtered:
                block = list(filter(self._wanted, block))
            if left is not None:
                block = block[:left]
                left -= len(block)
            # A block that the filter left empty goes out too, so that who waits can see that there is life.
            yield b"".join(line + b"\n" for line in block) if filtered else b"\n".join(block) + b"\n"

    def _wanted(self, line: bytes) -> bool:
        try:
            row = json.loads(line)
            event, properties = row["event"], row.get("properties") or {}
        except (ValueError, TypeError, KeyError, AttributeError):
            # A broken line is there to be seen: no filter takes it away.
            return True
        if self.events is not None and event not in self.events:
            return False
        time = properties.get("time")
        if isinstance(time, int | float) and time > _IN_MS:
            time /= 1000
        return self.match is None or self.match({"properties": properties, "event": {"$time": time}})


def read_day(query: Mapping[str, str], name: str) -> date:
    """Read a required parameter that is a day.

    Raises:
        Refusal: 400, it is missing or no day.
    """
    text = query.get(name)
    if text is None:
        raise Refusal(400, f"Missing required parameter: {name}")
    try:
        # The parser of dates would take 20240115 too; Mixpanel's form is one only.
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        raise Refusal(400, f"Invalid parameter: {name} must be YYYY-MM-DD, not {text!r}") from None
