"""The raw export endpoint.

The response is text with one JSON object per line, in no documented order. It has no line count, checksum or end
marker, so a client can detect truncation only by the HTTP framing, the gzip trailer and the last line. `from_date` and
`to_date` are days of event time in the project's time zone, both inclusive. The endpoint has no pagination.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from typing import TYPE_CHECKING

from .engage_endpoint import parse_where
from .error_responses import ErrorResponse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .expressions import Predicate
    from .project import Project

_MAX_LIMIT = 100_000
# A larger `time` is in milliseconds.
_MAX_SECONDS = 100_000_000_000
# A line is about 1 KB long, so a block is about 128 KiB long.
_LINES_PER_BLOCK = 128


@dataclass(frozen=True)
class Export:
    """The validated parameters of an export request.

    Attributes:
        first: First day (`from_date`), in the project's time zone.
        last: Last day (`to_date`), inclusive.
        events: Event names to return (`event`); None for all.
        match: Compiled `where` expression; None without a filter.
        limit: Maximum number of rows; None for all.
        in_ms: Whether `time` is in milliseconds (`time_in_ms`).
    """

    first: date
    last: date
    events: frozenset[str] | None
    match: Predicate | None
    limit: int | None
    in_ms: bool

    @classmethod
    def parse(cls, query: Mapping[str, str], today: date) -> Export:
        """Validate the parameters of a request.

        Args:
            query: Parameters of the request.
            today: Today in the project's time zone.

        Raises:
            ErrorResponse: 400 for a missing or invalid parameter.
        """
        first, last = (parse_day(query, name) for name in ("from_date", "to_date"))
        if last > today:
            raise ErrorResponse(400, "to_date cannot be later than today")
        if first > last:
            raise ErrorResponse(400, "Invalid parameter: from_date cannot be later than to_date")
        events = None
        if "event" in query:
            try:
                named = json.loads(query["event"])
            except ValueError:
                named = None
            if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
                raise ErrorResponse(400, "Invalid parameter: event must be a JSON list of strings")
            events = frozenset(named)
        limit = None
        if "limit" in query:
            limit = int(query["limit"]) if query["limit"].isdecimal() else 0
            if not 1 <= limit <= _MAX_LIMIT:
                raise ErrorResponse(400, f"Invalid parameter: limit must be from 1 to {_MAX_LIMIT}")
        in_ms = query.get("time_in_ms", "false").lower() in {"true", "1"}
        return cls(first, last, events, parse_where(query.get("where", "")), limit, in_ms)

    def blocks(self, project: Project, now: datetime) -> Iterator[bytes]:
        """Yield the body in blocks of complete lines."""
        lines = project.lines(self.first, self.last, now=now, in_ms=self.in_ms)
        is_filtered = self.events is not None or self.match is not None
        rows_left = self.limit
        while rows_left != 0 and (block := list(islice(lines, _LINES_PER_BLOCK))):
            if is_filtered:
                block = list(filter(self._matches, block))
            if rows_left is not None:
                block = block[:rows_left]
                rows_left -= len(block)
            # Yield empty blocks too: between blocks, the caller checks whether the emulator is closing.
            yield b"".join(line + b"\n" for line in block) if is_filtered else b"\n".join(block) + b"\n"

    def _matches(self, line: bytes) -> bool:
        try:
            row = json.loads(line)
            event, properties = row["event"], row.get("properties") or {}
        except (ValueError, TypeError, KeyError, AttributeError):
            # Tests configure malformed lines on purpose, so filters never drop them.
            return True
        if self.events is not None and event not in self.events:
            return False
        time = properties.get("time")
        if isinstance(time, int | float) and time > _MAX_SECONDS:
            time /= 1000
        return self.match is None or self.match({"properties": properties, "event": {"$time": time}})


def parse_day(query: Mapping[str, str], name: str) -> date:
    """Parse a required parameter of the form `YYYY-MM-DD`.

    Raises:
        ErrorResponse: 400 if the parameter is missing or not a date.
    """
    text = query.get(name)
    if text is None:
        raise ErrorResponse(400, f"Missing required parameter: {name}")
    try:
        # `date.fromisoformat` would also accept 20240115, which Mixpanel rejects.
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a date has no time zone
    except ValueError:
        raise ErrorResponse(400, f"Invalid parameter: {name} must be YYYY-MM-DD, not {text!r}") from None
