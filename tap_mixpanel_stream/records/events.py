"""A body of events, one a line: which lines are events, which are not, and whether the body is whole.

A block of lines is converted at once. Where that fails, because one of its lines is no event or an unusual one, the
block is converted line by line, which tells what is wrong with which line. The records are the same.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from .converter import Converter
from .errors import BadLine, CutShort
from .event_time import EventClock
from .json_objects import NotARecord, read_members, whole_or_masked

if TYPE_CHECKING:
    from collections.abc import Callable
    from zoneinfo import ZoneInfo

    from .envelope import Envelope
    from .event_tally import EventTally

BLANK = b" \t\r"
"""What JSON takes for space, within a line."""

_OPENING_BRACE, _CLOSING_BRACE = b"{}"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SENTINEL = b"terminated early"
_AROUND = BLANK + b"\"']."
_ERROR_OBJECT = re.compile(rb'\s*\{\s*"error"\s*:')
_LIKE_AN_EVENT = re.compile(rb'\s*\{\s*"(event|properties)"\s*:')


class Converted(NamedTuple):
    r"""What became of a block.

    Attributes:
        events: How many events there are.
        records: Their records, each ended by `\n`.
        times: The `time` of each, null where there is none; empty where they are not counted.
    """

    events: int
    records: bytes
    times: list[msgspec.Raw]


class EventConverter(Converter, ABC):
    r"""Converts one body, block by block. See `Converter`.

    Args:
        zone: the zone whose wall clock the project stores; None for UTC.
        on_bad_line: is told of each line that is no event; raises, or sets it aside.
        counts: counts the events that become records; None where nobody asks.

    Attributes:
        lines: lines seen, blank ones and bad ones too.
    """

    def __init__(
        self,
        *,
        envelope: Envelope,
        selected: frozenset[str] | None = None,
        zone: ZoneInfo | None = None,
        strip_nul: bool = False,
        on_bad_line: Callable[[BadLine], None],
        counts: EventTally | None = None,
    ) -> None:
        super().__init__(envelope=envelope, selected=selected, strip_nul=strip_nul)
        self.lines = 0
        self._clock = EventClock(zone)
        self._on_bad_line = on_bad_line
        self._counts = counts
        self._started = False
        # The last line that did not parse, and how many blank lines came since: it may turn out to be the body's last.
        self._unparsed: BadLine | None = None
        self._blank_since = 0
        # The first line that has nothing of an event, and whether another one has.
        self._stranger: BadLine | None = None
        self._like_events = False

    def convert(self, block: bytes) -> bytes:
        r"""Convert whole lines.

        Args:
            block: lines, each ended by `\n`; may be empty.

        Returns:
            A record in its envelope for each line that is an event.

        Raises:
            CutShort: Mixpanel says that it broke off.
            ValueError: the block ends within a line.
            Exception: whatever `on_bad_line` raises.
        """
        block = self._past_byte_order_mark(block)
        if not block:
            return b""
        if not block.endswith(b"\n"):
            raise ValueError("a block is made of whole lines")
        records = self._records_at_once(block)
        if records is None:
            records = b"".join(map(self._convert_line, block[:-1].split(b"\n")))
        return self._finished(records)

    def finish(self, rest: bytes) -> bytes:
        """Convert the line without a newline at the end of the body, and judge whether the body is whole.

        Args:
            rest: what stood after the last newline; may be empty.

        Raises:
            CutShort: the last line, with its newline or without, is no JSON, which is what a cut leaves; or no line has
                anything of an event, so that it is some message instead. Both hold where bad lines are set aside too.
            Exception: whatever `on_bad_line` raises.
        """
        rest = self._past_byte_order_mark(rest)
        if rest.strip(BLANK) and not is_json(rest):
            raise CutShort(self.lines + 1, rest)
        records = self._convert_line(rest) if rest else b""
        last = self._unparsed
        if last is not None and last.number + self._blank_since == self.lines:
            raise CutShort(last.number, last.line)
        if self._stranger is not None and not self.records and not self._like_events:
            raise CutShort(self._stranger.number, self._stranger.line)
        return self._finished(records)

    @abstractmethod
    def _convert_block(self, block: bytes) -> Converted:
        """Make the records of lines of valid UTF-8.

        Returns:
            What holds if there are as many events as lines, one on each.

        Raises:
            NotARecord: one of them is JSON, and no event.
            msgspec.DecodeError: one is no event, or an event that only `_convert_event` takes.
            RecursionError: one is nested deeper than Python follows.
        """

    @abstractmethod
    def _convert_event(self, line: bytes) -> bytes:
        """Make the record of any one line of valid UTF-8 that is not blank.

        Raises:
            NotARecord: it is JSON, and no event.
            msgspec.DecodeError: it is no JSON object.
            RecursionError: it is nested deeper than Python follows.
        """

    def _records_at_once(self, block: bytes) -> bytes | None:
        """Make the records of a block, or None where it has to be read line by line."""
        if not is_utf8(block):
            return None
        try:
            converted = self._convert_block(block)
        except (NotARecord, msgspec.DecodeError, RecursionError):
            return None
        if not _is_one_a_line(converted.events, block):
            return None
        if self._counts:
            self._counts.add(block, converted.times)
        self.lines += converted.events
        self.records += converted.events
        return converted.records

    def _convert_line(self, line: bytes) -> bytes:
        """Convert one line, whatever it holds: its record, or nothing."""
        self.lines += 1
        if not line.strip(BLANK):
            self._blank_since += 1
            return b""
        try:
            if not line.isascii():
                line.decode()
            record = whole_or_masked(self._counted, line)
        except UnicodeDecodeError as error:
            self._bad_line(line, f"not UTF-8 at byte {error.start + 1}", parses=False)
        except NotARecord as error:
            self._bad_line(line, str(error), parses=True)
        except (msgspec.DecodeError, RecursionError) as error:
            self._bad_line(line, _why_not_json(line, error), parses=is_json(line))
        else:
            self.records += 1
            return record + b"\n"
        return b""

    def _counted(self, line: bytes) -> bytes:
        record = self._convert_event(line)
        if self._counts:
            self._counts.add_line(line)
        return record

    def _bad_line(self, line: bytes, reason: str, *, parses: bool) -> None:
        begins_object = line.lstrip(BLANK).startswith(b"{")
        said = line.lower()
        says_so = _SENTINEL in said if not begins_object else not parses and said.rstrip(_AROUND).endswith(_SENTINEL)
        keys = _keys(line) if parses and begins_object else frozenset()
        if says_so or _ERROR_OBJECT.match(line) or ("error" in keys and "event" not in keys):
            raise CutShort(self.lines, line)
        bad = BadLine(self.lines, reason, line, parses)
        if _LIKE_AN_EVENT.match(line) or keys & {"event", "properties"}:
            self._like_events = True
        else:
            self._stranger = self._stranger or bad
        if not parses:
            self._unparsed, self._blank_since = bad, 0
        self._on_bad_line(bad)

    def _past_byte_order_mark(self, start: bytes) -> bytes:
        if self._started or not start:
            return start
        self._started = True
        return start.removeprefix(_BYTE_ORDER_MARK)


def _is_one_a_line(events: int, block: bytes) -> bool:
    """Whether as many events as were read from `block` are one on each of its lines.

    The decoder takes a block for a run of JSON texts, which could span lines, or share one. They do neither if they are
    as many as the lines, and each line starts with `{` and ends with `}`: no JSON text has a newline between `}` and
    `{`, since inside of one a comma must come between. So each newline divides two events, each line has one at least,
    and with as many events as lines none has two.
    """
    find = block.find
    last = len(block) - 1
    if block[0] != _OPENING_BRACE or block[last - 1] != _CLOSING_BRACE:
        return False
    lines = 1
    newline = find(b"\n")
    while newline < last:
        if block[newline - 1] != _CLOSING_BRACE or block[newline + 1] != _OPENING_BRACE:
            return False
        lines += 1
        newline = find(b"\n", newline + 1)
    return lines == events


def is_utf8(text: bytes) -> bool:
    """Whether `text` is valid UTF-8, which no decoder checks in the values that it steps over."""
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError:
            return False
    return True


def is_json(line: bytes) -> bool:
    """Whether `line` is a whole JSON text; `NaN` passes, because no cut leaves it."""
    try:
        json.loads(line.decode(), parse_int=str)
    except (ValueError, RecursionError):
        return False
    return True


def _keys(line: bytes) -> frozenset[str]:
    """The keys of a JSON object; none of one that is nested too deep."""
    try:
        return frozenset(read_members(line))
    except (msgspec.DecodeError, RecursionError):
        return frozenset()


def _why_not_json(line: bytes, error: Exception) -> str:
    """Say what keeps `line` from being the JSON object it should be."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    if not is_json(line):
        return f"no JSON: {error}"
    if isinstance(error, msgspec.ValidationError):
        return "no JSON object"
    return "NaN or Infinity, which JSON does not have"
