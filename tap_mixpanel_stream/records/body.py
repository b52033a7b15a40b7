"""A body of events, one a line: which lines are events, which are not, and whether the body is whole.

Both shapes convert the same body. What they share is here; a shape adds how it converts a block of lines quickly, and
how it makes the record of any one line.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import msgspec

from .errors import BadLine, CutShort
from .members import NotARecord, read_members, whole_or_masked
from .nul import without_nul

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from .envelope import Envelope

BLANK = b" \t\r"
"""What JSON takes for space, within a line."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SENTINEL = b"terminated early"
_AROUND = BLANK + b"\"']."
_ERROR_OBJECT = re.compile(rb'\s*\{\s*"error"\s*:')
_LIKE_AN_EVENT = re.compile(rb'\s*\{\s*"(event|properties)"\s*:')


class EventBody(ABC):
    r"""Converts one body, block by block.

    Args:
        envelope: what stands around each record.
        strip_nul: take `\u0000` out of the strings of records.
        on_bad_line: is told of each line that is no event; raises, or sets it aside.

    Attributes:
        records: records made.
        lines: lines seen, blank ones and bad ones too.
        nuls: `\u0000` taken out.
        names: the names of the events; None, as at first, if nobody asks for them.
        quarters: events by quarters of an hour of the stored clock since 1970; None, as at first, likewise.
    """

    def __init__(self, *, envelope: Envelope, strip_nul: bool, on_bad_line: Callable[[BadLine], None]) -> None:
        self.records = 0
        self.lines = 0
        self.nuls = 0
        self.names: set[str] | None = None
        self.quarters: Counter[int] | None = None
        self._envelope = envelope
        self._strip_nul = strip_nul
        self._on_bad_line = on_bad_line
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
        # To JSON a carriage return between tokens is space, but to a target that reads text it ends the line.
        plain = b"\r" not in block and is_utf8(block)
        return self._finished(self._convert_block(block) if plain else self._convert_lines(block))

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
    def _convert_block(self, block: bytes) -> bytes:
        """Convert lines of valid UTF-8 without carriage returns, and count them and their records."""

    @abstractmethod
    def _record(self, line: bytes) -> bytes:
        """Make the record of any one line of valid UTF-8 that is not blank, without its envelope.

        Raises:
            NotARecord: it is JSON, and no event.
            msgspec.DecodeError: it is no JSON object.
            RecursionError: it is nested deeper than Python follows.
        """

    def _convert_lines(self, block: bytes) -> bytes:
        return b"".join(map(self._convert_line, block[:-1].split(b"\n")))

    def _convert_line(self, line: bytes) -> bytes:
        """Convert one line, whatever it holds: its record in its envelope, or nothing."""
        self.lines += 1
        if not line.strip(BLANK):
            self._blank_since += 1
            return b""
        try:
            if not line.isascii():
                line.decode()
            record = whole_or_masked(self._record, line)
        except UnicodeDecodeError as error:
            self._bad_line(line, f"not UTF-8 at byte {error.start + 1}", parses=False)
        except NotARecord as error:
            self._bad_line(line, str(error), parses=True)
        except (msgspec.DecodeError, RecursionError) as error:
            self._bad_line(line, _why_not_json(line, error), parses=is_json(line))
        else:
            self.records += 1
            # JSON lets a raw carriage return stand between tokens only, where a space means the same.
            return b"".join((self._envelope.head, record.replace(b"\r", b" "), self._envelope.tail))
        return b""

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

    def _finished(self, records: bytes) -> bytes:
        if self._strip_nul:
            records, nuls = without_nul(records)
            self.nuls += nuls
        return records


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
