"""A response body of JSON lines: cut into whole lines, checked line by line, and judged as a whole.

A block of lines is converted at once. Where that fails, because a line in it is malformed or unusual, the block is
converted line by line, which finds the line and what is wrong with it. Both ways make the same records.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ..surrogates import convert_masked
from .converter import Converter
from .errors import BadLine, CutShort, LineTooLong
from .event_time import EventClock
from .json_objects import NotARecord, read_members

if TYPE_CHECKING:
    from collections.abc import Callable
    from zoneinfo import ZoneInfo

    from .converter import Envelope
    from .event_tally import EventTally
    from .schemas import RecordSchema

LONGEST_LINE = 32 * 1024 * 1024
"""Bytes. Mixpanel accepts events of up to 1 MB, so a much longer line means a malformed body."""

BLANK = b" \t\r"
"""JSON's white space within a line."""

_OPENING_BRACE, _CLOSING_BRACE = b"{}"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SENTINEL = b"terminated early"
_AROUND_SENTINEL = BLANK + b"\"']."
_ERROR_OBJECT = re.compile(rb'\s*\{\s*"error"\s*:')
_LIKE_AN_EVENT = re.compile(rb'\s*\{\s*"(event|properties)"\s*:')


class LineCutter:
    r"""Cuts a stream of chunks into blocks of whole lines and keeps the unfinished line for the next block.

    It cuts at `\n` alone: U+2028, U+0085 and a lone carriage return can stand inside a line.

    Args:
        longest: The largest line allowed, in bytes without its newline.
    """

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        # A bytearray grows in place: a line that spans many chunks is copied once, not once a chunk.
        self._unfinished = bytearray()

    def cut(self, chunk: bytes) -> bytes:
        r"""Take a chunk of the body and return the lines that it completes.

        Returns:
            Lines, each ended by `\n`; empty where the chunk completes none.

        Raises:
            LineTooLong: A line, finished or not, is longer than allowed.
        """
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._unfinished += chunk
            self._check_length(len(self._unfinished))
            return b""
        block = b"".join((self._unfinished, chunk[:end])) if self._unfinished else chunk[:end]
        self._unfinished = bytearray(chunk[end:])
        if len(block) > self._longest:
            self._check_length(max(map(len, block.split(b"\n"))))
        self._check_length(len(self._unfinished))
        return block

    def rest(self) -> bytes:
        """Return the text after the last newline; empty where the body ended with a newline."""
        rest = bytes(self._unfinished)
        self._unfinished.clear()
        return rest

    def _check_length(self, length: int) -> None:
        if length > self._longest:
            raise LineTooLong(self._longest)


class Converted(NamedTuple):
    r"""What a block of lines was converted into.

    Attributes:
        events: The number of events.
        records: Their records, each ended by `\n`.
        times: The `time` of each event, null where it has none; empty where events are not counted.
    """

    events: int
    records: bytes
    times: list[msgspec.Raw]


class LineConverter(Converter, ABC):
    r"""Converts one body of event lines, block by block.

    Args:
        schema: The schema of the records.
        envelope: The bytes around each record.
        selected: The selected columns; None for all.
        strip_nul: Remove `\u0000` from the strings of records.
        zone: The zone of the wall clock that the project stores; None for UTC.
        on_bad_line: Called with each malformed line; raises to end the conversion.
        counts: Counts the events that become records; None to count nothing.

    Attributes:
        lines: Lines read, blank and malformed ones included.
    """

    def __init__(
        self,
        schema: RecordSchema,
        *,
        envelope: Envelope,
        selected: frozenset[str] | None = None,
        strip_nul: bool = False,
        zone: ZoneInfo | None = None,
        on_bad_line: Callable[[BadLine], None],
        counts: EventTally | None = None,
    ) -> None:
        super().__init__(schema, envelope=envelope, selected=selected, strip_nul=strip_nul)
        self.lines = 0
        self._clock = EventClock(zone)
        self._on_bad_line = on_bad_line
        self._counts = counts
        self._started = False
        # The last line that did not parse, and the number of blank lines after it: it may be the last of the body.
        self._unparsed: BadLine | None = None
        self._blank_since = 0
        # The first line that has nothing of an event, and whether another line does.
        self._stranger: BadLine | None = None
        self._like_events = False

    def convert(self, block: bytes) -> bytes:
        r"""Convert whole lines.

        Args:
            block: Lines, each ended by `\n`; may be empty.

        Returns:
            A record in its envelope for each line that is an event.

        Raises:
            CutShort: A line says that Mixpanel ended the export early.
            ValueError: The block ends within a line.
            Exception: Whatever `on_bad_line` raises.
        """
        block = self._without_byte_order_mark(block)
        if not block:
            return b""
        if not block.endswith(b"\n"):
            raise ValueError("a block is made of whole lines")
        records = self._convert_at_once(block)
        if records is None:
            records = b"".join(map(self._convert_line, block[:-1].split(b"\n")))
        return self._to_lines(records)

    def finish(self, rest: bytes) -> bytes:
        """Convert the text after the last newline, and check that the body is whole.

        Args:
            rest: The text after the last newline; may be empty.

        Raises:
            CutShort: The last line, with a newline or without, is not JSON: the body was truncated. Or no line looks
                like an event: the body is a message. Both apply even where malformed lines are skipped.
            Exception: Whatever `on_bad_line` raises.
        """
        rest = self._without_byte_order_mark(rest)
        if rest.strip(BLANK) and not is_json(rest):
            raise CutShort(self.lines + 1, rest)
        records = self._convert_line(rest) if rest else b""
        last = self._unparsed
        if last is not None and last.number + self._blank_since == self.lines:
            raise CutShort(last.number, last.line)
        if self._stranger is not None and not self.records and not self._like_events:
            raise CutShort(self._stranger.number, self._stranger.line)
        return self._to_lines(records)

    @abstractmethod
    def _convert_block(self, block: bytes) -> Converted:
        """Make the records of lines of valid UTF-8.

        Returns:
            A result that is right if the block has one event on each line, which the caller checks.

        Raises:
            NotARecord: A line is JSON, but not an event.
            msgspec.DecodeError: A line is not an event, or an event that only `_convert_event` can read.
            RecursionError: A line is nested too deeply for Python.
        """

    @abstractmethod
    def _convert_event(self, line: bytes) -> bytes:
        """Make the record of any one line of valid UTF-8 that is not blank.

        Raises:
            NotARecord: The line is JSON, but not an event.
            msgspec.DecodeError: The line is not a JSON object.
            RecursionError: The line is nested too deeply for Python.
        """

    def _convert_at_once(self, block: bytes) -> bytes | None:
        """Make the records of a block; None where it has to be converted line by line."""
        if not is_utf8(block):
            return None
        try:
            converted = self._convert_block(block)
        except (NotARecord, msgspec.DecodeError, RecursionError):
            return None
        if not _is_one_per_line(converted.events, block):
            return None
        if self._counts:
            self._counts.add(block, converted.times)
        self.lines += converted.events
        self._count(converted.events)
        return converted.records

    def _convert_line(self, line: bytes) -> bytes:
        """Convert any line: return its record, or nothing where the line is blank or malformed."""
        self.lines += 1
        if not line.strip(BLANK):
            self._blank_since += 1
            return b""
        try:
            if not line.isascii():
                line.decode()
            record = convert_masked(self._convert_event, line)
            if self._counts:
                self._counts.add_line(line)
        except UnicodeDecodeError as error:
            self._report_bad_line(line, f"not UTF-8 at byte {error.start + 1}", parses=False)
        except NotARecord as error:
            self._report_bad_line(line, str(error), parses=True)
        except (msgspec.DecodeError, RecursionError) as error:
            self._report_bad_line(line, _why_not_json(line, error), parses=is_json(line))
        else:
            self._count(1)
            return record + b"\n"
        return b""

    def _report_bad_line(self, line: bytes, reason: str, *, parses: bool) -> None:
        begins_object = line.lstrip(BLANK).startswith(b"{")
        text = line.lower()
        is_sentinel = (
            _SENTINEL in text if not begins_object else not parses and text.rstrip(_AROUND_SENTINEL).endswith(_SENTINEL)
        )
        keys = _keys(line) if parses and begins_object else frozenset()
        if is_sentinel or _ERROR_OBJECT.match(line) or ("error" in keys and "event" not in keys):
            raise CutShort(self.lines, line)
        bad = BadLine(self.lines, reason, line, parses)
        if _LIKE_AN_EVENT.match(line) or keys & {"event", "properties"}:
            self._like_events = True
        else:
            self._stranger = self._stranger or bad
        if not parses:
            self._unparsed, self._blank_since = bad, 0
        self._on_bad_line(bad)

    def _without_byte_order_mark(self, start: bytes) -> bytes:
        if self._started or not start:
            return start
        self._started = True
        return start.removeprefix(_BYTE_ORDER_MARK)


def _is_one_per_line(events: int, block: bytes) -> bool:
    """Return whether the events that were decoded from a block are one on each line.

    The decoder reads a block as a sequence of JSON texts, which could span lines or share one. They do neither if there
    are as many texts as lines, and each line starts with `{` and ends with `}`: a JSON text has no newline between `}`
    and `{`, since a comma must come between. So each newline separates two events, each line has at least one, and with
    as many events as lines none has two.
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
    """Return whether a text is valid UTF-8, which the decoder does not check in undecoded values."""
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError:
            return False
    return True


def is_json(line: bytes) -> bool:
    """Return whether a line is a complete JSON text. `NaN` counts as one: no truncated line reads so."""
    try:
        json.loads(line.decode(), parse_int=str)
    except (ValueError, RecursionError):
        return False
    return True


def _keys(line: bytes) -> frozenset[str]:
    """Return the keys of a JSON object; none where it is nested too deeply."""
    try:
        return frozenset(read_members(line))
    except (msgspec.DecodeError, RecursionError):
        return frozenset()


def _why_not_json(line: bytes, error: Exception) -> str:
    """Return why a line is not the JSON object that it should be."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if not is_json(line):
        return f"not JSON: {error}"
    if isinstance(error, msgspec.ValidationError):
        return "not a JSON object"
    return "NaN or Infinity, which JSON does not allow"
