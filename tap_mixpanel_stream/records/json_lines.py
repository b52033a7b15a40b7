"""Convert a response body of JSON lines: split it into whole lines, handle malformed lines, and detect truncation.

A block of lines is converted in one call. If that fails because a line is malformed or unusual, the block is converted
line by line to find the line and its fault. Both ways produce the same records.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ..surrogates import convert_masked
from .converter import Converter
from .errors import BadLine, LineTooLong, TruncatedBody
from .event_time import EventClock
from .json_objects import NotARecord, read_members

if TYPE_CHECKING:
    from collections.abc import Callable
    from zoneinfo import ZoneInfo

    from .converter import Envelope
    from .event_tally import EventTally
    from .schemas import RecordSchema

LONGEST_LINE = 32 * 1024 * 1024
"""Maximum length of a line in bytes. Mixpanel accepts events of up to 1 MB, so a longer line means a malformed body."""

BLANK = b" \t\r"
"""The white space that JSON allows within a line."""

_OPENING_BRACE, _CLOSING_BRACE = b"{}"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SENTINEL = b"terminated early"
_AROUND_SENTINEL = BLANK + b"\"']."
_ERROR_OBJECT = re.compile(rb'\s*\{\s*"error"\s*:')
_EVENT_LIKE = re.compile(rb'\s*\{\s*"(event|properties)"\s*:')


class LineCutter:
    r"""Splits a stream of chunks into blocks of whole lines and keeps the unfinished line for the next block.

    Only `\n` ends a line: U+2028, U+0085 and a lone carriage return can occur inside a line.

    Args:
        max_bytes: The maximum length of a line, without its newline.
    """

    def __init__(self, max_bytes: int = LONGEST_LINE) -> None:
        self._max_bytes = max_bytes
        # A bytearray grows in place, so a line that spans many chunks is copied once instead of once for each chunk.
        self._unfinished = bytearray()

    def cut(self, chunk: bytes) -> bytes:
        r"""Add a chunk of the body and return the lines that it completes.

        Returns:
            Lines, each terminated by `\n`; empty if the chunk completes no line.

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
        if len(block) > self._max_bytes:
            self._check_length(max(map(len, block.split(b"\n"))))
        self._check_length(len(self._unfinished))
        return block

    def rest(self) -> bytes:
        """Return the text after the last newline; empty if the body ended with a newline."""
        rest = bytes(self._unfinished)
        self._unfinished.clear()
        return rest

    def _check_length(self, length: int) -> None:
        if length > self._max_bytes:
            raise LineTooLong(self._max_bytes)


class ConvertedBlock(NamedTuple):
    r"""The result of converting a block of lines.

    Attributes:
        events: The number of events.
        records: The records of the events, each terminated by `\n`.
        times: The `time` of each event, null if it is missing. Empty if there is no tally.
    """

    events: int
    records: bytes
    times: list[msgspec.Raw]


class LineConverter(Converter, ABC):
    r"""Converts one body of event lines, block by block.

    Args:
        schema: The schema of the records.
        envelope: The RECORD message around each record.
        selected: The selected columns; None for all.
        strip_nul: Whether to remove `\u0000` from the strings of records.
        zone: The time zone in which the project stores `time`; None for UTC.
        on_bad_line: Called with each malformed line. May raise to stop the conversion.
        tally: Receives the events that become records; None to tally nothing.

    Attributes:
        lines: The number of lines read, blank and malformed ones included.
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
        tally: EventTally | None = None,
    ) -> None:
        super().__init__(schema, envelope=envelope, selected=selected, strip_nul=strip_nul)
        self.lines = 0
        self._clock = EventClock(zone)
        self._on_bad_line = on_bad_line
        self._tally = tally
        self._has_started = False
        # The last line that is not valid JSON, and the number of blank lines after it. If nothing else follows, the
        # body was truncated there.
        self._unparsed: BadLine | None = None
        self._blank_lines_since = 0
        # The first line that does not look like an event, and whether any malformed line does.
        self._foreign_line: BadLine | None = None
        self._has_event_like_line = False

    def convert(self, block: bytes) -> bytes:
        r"""Convert whole lines.

        Args:
            block: Lines, each terminated by `\n`; may be empty.

        Returns:
            The lines to write, one for each event.

        Raises:
            TruncatedBody: A line is Mixpanel's message that the export ended early.
            ValueError: The block ends within a line.
            Exception: Any exception that `on_bad_line` raises.
        """
        block = self._without_byte_order_mark(block)
        if not block:
            return b""
        if not block.endswith(b"\n"):
            raise ValueError("a block must consist of whole lines")
        records = self._convert_at_once(block)
        if records is None:
            records = b"".join(map(self._convert_line, block[:-1].split(b"\n")))
        return self._to_lines(records)

    def finish(self, rest: bytes) -> bytes:
        """Convert the text after the last newline, and check that the body is complete.

        Args:
            rest: The text after the last newline; may be empty.

        Raises:
            TruncatedBody: The last line is not JSON, so the body was truncated. Or no line looks like an event, so the
                body is an error message. Both are raised even if malformed lines are skipped.
            Exception: Any exception that `on_bad_line` raises.
        """
        rest = self._without_byte_order_mark(rest)
        if rest.strip(BLANK) and not is_json(rest):
            raise TruncatedBody(self.lines + 1, rest)
        records = self._convert_line(rest) if rest else b""
        last = self._unparsed
        if last is not None and last.number + self._blank_lines_since == self.lines:
            raise TruncatedBody(last.number, last.line)
        if self._foreign_line is not None and not self.records and not self._has_event_like_line:
            raise TruncatedBody(self._foreign_line.number, self._foreign_line.line)
        return self._to_lines(records)

    @abstractmethod
    def _convert_block(self, block: bytes) -> ConvertedBlock:
        """Convert lines of valid UTF-8.

        Returns:
            The result, which is valid only if each line of the block has one event. The caller checks this.

        Raises:
            NotARecord: A line is JSON, but not an event.
            msgspec.DecodeError: A line is not an event, or is an event that only `_convert_event` can read.
            RecursionError: A line is nested too deeply for Python.
        """

    @abstractmethod
    def _convert_event(self, line: bytes) -> bytes:
        """Return the record of one line, without its envelope. The line is valid UTF-8 and not blank.

        Raises:
            NotARecord: The line is JSON, but not an event.
            msgspec.DecodeError: The line is not a JSON object.
            RecursionError: The line is nested too deeply for Python.
        """

    def _convert_at_once(self, block: bytes) -> bytes | None:
        """Return the records of a block; None if the block must be converted line by line."""
        if not is_utf8(block):
            return None
        try:
            converted = self._convert_block(block)
        except (NotARecord, msgspec.DecodeError, RecursionError):
            return None
        if not _is_one_per_line(converted.events, block):
            return None
        if self._tally:
            self._tally.add(block, converted.times)
        self.lines += converted.events
        self._count(converted.events)
        return converted.records

    def _convert_line(self, line: bytes) -> bytes:
        """Return the record of any line; empty if the line is blank or malformed."""
        self.lines += 1
        if not line.strip(BLANK):
            self._blank_lines_since += 1
            return b""
        try:
            if not line.isascii():
                line.decode()
            record = convert_masked(self._convert_event, line)
            if self._tally:
                self._tally.add_line(line)
        except UnicodeDecodeError as error:
            self._report_bad_line(line, f"not UTF-8 at byte {error.start + 1}", is_json=False)
        except NotARecord as error:
            self._report_bad_line(line, str(error), is_json=True)
        except (msgspec.DecodeError, RecursionError) as error:
            self._report_bad_line(line, _why_not_json(line, error), is_json=is_json(line))
        else:
            self._count(1)
            return record + b"\n"
        return b""

    def _report_bad_line(self, line: bytes, reason: str, *, is_json: bool) -> None:
        begins_object = line.lstrip(BLANK).startswith(b"{")
        lowered = line.lower()
        is_sentinel = (
            _SENTINEL in lowered
            if not begins_object
            else not is_json and lowered.rstrip(_AROUND_SENTINEL).endswith(_SENTINEL)
        )
        keys = _keys(line) if is_json and begins_object else frozenset()
        if is_sentinel or _ERROR_OBJECT.match(line) or ("error" in keys and "event" not in keys):
            raise TruncatedBody(self.lines, line)
        bad = BadLine(self.lines, reason, line, is_json)
        if _EVENT_LIKE.match(line) or keys & {"event", "properties"}:
            self._has_event_like_line = True
        else:
            self._foreign_line = self._foreign_line or bad
        if not is_json:
            self._unparsed, self._blank_lines_since = bad, 0
        self._on_bad_line(bad)

    def _without_byte_order_mark(self, start: bytes) -> bytes:
        if self._has_started or not start:
            return start
        self._has_started = True
        return start.removeprefix(_BYTE_ORDER_MARK)


def _is_one_per_line(events: int, block: bytes) -> bool:
    """Return whether each line of a block has exactly one of the decoded events.

    The decoder reads a block as a sequence of JSON texts, and a text could span lines or share a line with another. The
    check is that each line starts with `{` and ends with `}`, and that there are as many events as lines. Within one
    JSON text, a comma must stand between `}` and `{`, so a newline alone between them separates two events. Each line
    therefore has at least one event, and if there are as many events as lines, exactly one.
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
    """Return whether a text is valid UTF-8. The decoder does not check this in undecoded values."""
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError:
            return False
    return True


def is_json(line: bytes) -> bool:
    """Return whether a line is complete JSON. `NaN` is accepted, since it cannot result from truncation."""
    try:
        json.loads(line.decode(), parse_int=str)
    except (ValueError, RecursionError):
        return False
    return True


def _keys(line: bytes) -> frozenset[str]:
    """Return the keys of a JSON object; empty if the decoder cannot read it."""
    try:
        return frozenset(read_members(line))
    except (msgspec.DecodeError, RecursionError):
        return frozenset()


def _why_not_json(line: bytes, error: Exception) -> str:
    """Return why a line is not a valid JSON object."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if not is_json(line):
        return f"not JSON: {error}"
    if isinstance(error, msgspec.ValidationError):
        return "not a JSON object"
    return "NaN or Infinity, which JSON does not allow"
