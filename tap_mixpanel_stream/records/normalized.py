r"""The normalized shapes: Mixpanel's own keys as columns, every other property byte for byte as it came.

An event's line is cut, not decoded and written again. Mixpanel puts its own keys first, so nearly every line reads

    {"event":"E","properties":{"time":T,"distinct_id":"D",<left>,"$insert_id":"I"<right>}

where <left> is one or more whole members, and <right> a comma and more of them, or none, and `}`. Where a line can be
*shown* to read like this, its record is put together from slices of it. Every other line, and any in doubt, goes the
exact way: read into members, rebuilt from members. The records are the same.

What is shown, and how:

1. A regular expression matches the line's text up to `"distinct_id":"D",` and sees a quote behind it. Its strings take
   no quote, no backslash and no control character: each is a JSON string from quote to quote, and ends on its line.
2. `{<left>}` by itself decodes as an object, and so does `{"":"I"<right>`. A cut that went through a string or through
   a nested object would leave at least one of them broken. <left> starts with a quote, so it is not empty. And `I` has
   no backslash, so that it ends where it was cut.
3. Both decode as objects that may have none of the three keys, however spelled. So the ones cut are the only ones.
4. One `}` is left at the end of the line.

So the line reads as above, token by token, with exactly these members. Nothing is believed because it looks right: a
line that misleads the search for the insert id fails 2 or 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any

import msgspec

from .body import EventBody
from .event_time import QUARTER, EventClock, UnusableTime, instant_text
from .insert_id import stable_insert_id
from .members import (
    NULL,
    Members,
    NotARecord,
    event_text,
    joined,
    object_text,
    read_members,
    read_string,
    string_text,
    value_of,
)
from .profile_page import ProfilePage
from .schemas import INSTANT, OPEN_OBJECT, STRING, STRING_OR_NULL, record_schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from zoneinfo import ZoneInfo

    from .envelope import Envelope
    from .errors import BadLine

_EVENT_COLUMNS = {
    "event_name": STRING,
    "event_time": INSTANT,
    "distinct_id": STRING,
    "insert_id": STRING,
    "properties": OPEN_OBJECT,
}
_PROFILE_COLUMNS = {"distinct_id": STRING, "last_seen": STRING_OR_NULL, "properties": OPEN_OBJECT}

_PLAIN = r'"([^"\\\x00-\x1f]*+)"'  # A JSON string without escapes; the group is its text.
_TIME = '"time":([1-9][0-9]{9})([0-9]{3})?,'  # Ten digits are seconds from 2001 to 2286; with three more, milliseconds.
_WHO = f'"distinct_id":{_PLAIN},'
_INSERTED = rf'(?:"\$insert_id":{_PLAIN},)?(?=")'
_EVENT = rf'\{{"event":{_PLAIN},"properties":\{{'
_event_first = re.compile(f"{_EVENT}{_TIME}{_WHO}{_INSERTED}".encode()).match
_event_and_who_first = re.compile(f"{_EVENT}{_WHO}{_TIME}{_INSERTED}".encode()).match
_event_last = re.compile(rf'\{{"properties":\{{{_TIME}{_WHO}{_INSERTED}'.encode()).match
_event_at_end = re.compile(rf'\}},"event":{_PLAIN}\}}\n'.encode()).match
_profile = re.compile(rf'\{{"\$distinct_id":{_PLAIN},"\$properties":\{{(?=")'.encode()).match
_COLUMN_PROPERTIES = ("time", "distinct_id", "$insert_id")
_INSERT_ID = b',"$insert_id":"'
_LAST_SEEN = b',"$last_seen":"'
_CLOSING_BRACE = ord("}")


class _Never:
    """A type that no JSON value has: a member of it is refused."""


class _OtherProperties(msgspec.Struct, gc=False, rename={"insert_id": "$insert_id"}):
    """An event's properties without those that became columns."""

    time: _Never | None = None
    distinct_id: _Never | None = None
    insert_id: _Never | None = None


class _OtherProfileProperties(msgspec.Struct, gc=False, rename={"last_seen": "$last_seen"}):
    """A profile's properties without the one that became a column."""

    last_seen: _Never | None = None


_check_others = msgspec.json.Decoder(_OtherProperties).decode
_check_profile_others = msgspec.json.Decoder(_OtherProfileProperties).decode


class NormalizedEvents(EventBody):
    """Cuts each line of a body into columns. See `EventBody`, and above for how.

    Args:
        selected: the columns wanted.
        clock: reads the events' time.
    """

    def __init__(
        self,
        *,
        envelope: Envelope,
        selected: frozenset[str],
        clock: EventClock,
        strip_nul: bool,
        on_bad_line: Callable[[BadLine], None],
    ) -> None:
        super().__init__(envelope=envelope, strip_nul=strip_nul, on_bad_line=on_bad_line)
        self._selected = selected
        self._clock = clock
        self._known_quarter = clock.known_quarter
        self._texts, self._wanted = _event_layout(envelope, selected)

    def _convert_block(self, block: bytes) -> bytes:
        out: list[bytes] = []
        start, size, cut = 0, len(block), 0
        while start < size:
            end = block.find(b"\n", start)
            try:
                pieces = self._cut(block, start, end)
            except (_InDoubt, msgspec.DecodeError, RecursionError):
                # A bad line says its number: what was counted before it has to be known.
                self._count(cut)
                cut = 0
                out.append(self._convert_line(block[start:end]))
            else:
                out += compress(pieces, self._wanted) if self._wanted else pieces
                cut += 1
            start = end + 1
        self._count(cut)
        return b"".join(out)

    def _count(self, events: int) -> None:
        self.lines += events
        self.records += events

    def _cut(self, block: bytes, start: int, end: int) -> tuple[bytes, ...]:
        """Cut one line into the pieces of its record, as argued at the top of this file.

        Args:
            block: the lines.
            start: where the line starts in it.
            end: where its newline is.

        Raises:
            _InDoubt, msgspec.DecodeError, RecursionError: it could not be shown how the line reads.
        """
        match = _event_first(block, start)
        if match and block[end - 1] == _CLOSING_BRACE:
            name, seconds, thousandths, distinct_id, insert_id = match.groups()
            members = block[match.end() : end - 1]
        else:
            name, seconds, thousandths, distinct_id, insert_id, members = _other_order(block, start, end)

        number, second = divmod(int(seconds), QUARTER)
        quarter = self._known_quarter(number) or self._clock.quarter(number)
        if not quarter:
            raise _InDoubt
        start_of_quarter, until_hour, of_quarter = quarter
        clock = of_quarter[second]
        if thousandths and thousandths != b"000":
            clock += b"." + thousandths

        # `members` and `right` end with the brace that closes the properties.
        if insert_id:
            left, right = b"", members
            _check_others(b"{" + members)
        else:
            left, found, right = members.partition(_INSERT_ID)
            if found:
                _check_others(b"{" + left + b"}")
                _check_others(b'{"":"' + right)
                insert_id, _, right = right.partition(b'"')
                if not insert_id or b"\\" in insert_id:
                    raise _InDoubt
            else:
                instant = (start_of_quarter + second) * 1000 + int(thousandths or 0)
                insert_id = _insert_id_of(name, instant, distinct_id, members)

        before_name, before_time, before_id, before_insert_id, before_properties, after = self._texts
        return (
            before_name, name,
            before_time, until_hour, clock,
            before_id, distinct_id,
            before_insert_id, insert_id,
            before_properties, left, right,
            after,
        )  # fmt: skip

    def _record(self, line: bytes) -> bytes:
        """Make the record the exact way: the line read into members, the columns taken out, the rest rebuilt."""
        members = read_members(line)
        event = event_text(members)
        properties = read_members(object_text(members, "properties"))
        time = properties.pop("time", None)
        if time is None:
            raise NotARecord("`time` is missing")
        received = properties.get("$mp_api_timestamp_ms")
        try:
            instant = self._clock.instant(bytes(time), None if received is None else bytes(received))
        except UnusableTime as error:
            raise NotARecord(str(error)) from None
        distinct_id = string_text(bytes(properties.pop("distinct_id", NULL)))
        insert_id = string_text(bytes(properties.pop("$insert_id", NULL)))
        if insert_id == b'""' or (self._strip_nul and not insert_id.replace(b"\\u0000", b"").strip(b'"')):
            made = _made_insert_id(read_string(event), instant, read_string(distinct_id), properties.copy())
            insert_id = b'"%b"' % made
        columns = {
            "event_name": event,
            "event_time": b'"%b"' % instant_text(instant),
            "distinct_id": distinct_id,
            "insert_id": insert_id,
            "properties": joined(properties),
        }
        return joined({column: value for column, value in columns.items() if column in self._selected})


class _InDoubt(Exception):  # noqa: N818  # No error: the exact way decides.
    """A line does not show what it would have to show."""


def _other_order(block: bytes, start: int, end: int) -> tuple[bytes, bytes, bytes | None, bytes, bytes | None, bytes]:
    """Read a line whose first keys come in another order: the id before the time, or the event behind its properties.

    Returns:
        Name, seconds, thousandths, distinct id, insert id, and the other members with the brace that closes them.
    """
    match = _event_and_who_first(block, start)
    if match and block[end - 1] == _CLOSING_BRACE:
        name, distinct_id, seconds, thousandths, insert_id = match.groups()
        return name, seconds, thousandths, distinct_id, insert_id, block[match.end() : end - 1]
    match = _event_last(block, start)
    close = block.rfind(b'},"event":"', match.end(), end) if match else -1
    at_end = _event_at_end(block, close) if close >= 0 else None
    if not match or not at_end:
        raise _InDoubt
    seconds, thousandths, distinct_id, insert_id = match.groups()
    return at_end[1], seconds, thousandths, distinct_id, insert_id, block[match.end() : close + 1]


def _insert_id_of(name: bytes, instant: int, distinct_id: bytes, members: bytes) -> bytes:
    """Make the insert id of an event without one, all of whose other properties are `members`."""
    properties = read_members(b"{" + members)
    if not properties.keys().isdisjoint(_COLUMN_PROPERTIES):
        raise _InDoubt
    return _made_insert_id(name.decode(), instant, distinct_id.decode(), properties)


def _made_insert_id(name: str, instant: int, distinct_id: str, properties: Members) -> bytes:
    before_merging = string_text(bytes(properties.pop("$distinct_id_before_identity", NULL)))
    return stable_insert_id(name, instant, read_string(before_merging) or distinct_id, properties)


def _event_layout(envelope: Envelope, selected: frozenset[str]) -> tuple[tuple[bytes, ...], tuple[bool, ...]]:
    """Say what stands before, between and behind the values of a record.

    Returns:
        Six texts: before each column's value, and behind the last; and which of a record's pieces to keep, empty for
        all of them.
    """
    around = {
        "event_name": (b'"', b'"'),
        "event_time": (b'"', b'+00:00"'),
        "distinct_id": (b'"', b'"'),
        "insert_id": (b'"', b'"'),
        "properties": (b"{", b""),
    }
    texts = []
    text = envelope.head + b"{"
    first = True
    for column, (opening, closing) in around.items():
        if column in selected:
            text += (b"" if first else b",") + b'"%b":' % column.encode() + opening
            first = False
        texts.append(text)
        text = closing if column in selected else b""
    texts.append(text + b"}" + envelope.tail)
    name, time, distinct_id, insert_id, properties = (column in selected for column in around)
    if all((name, time, distinct_id, insert_id, properties)):
        return tuple(texts), ()
    return tuple(texts), (
        True,
        name,
        True,
        time,
        time,
        True,
        distinct_id,
        True,
        insert_id,
        True,
        properties,
        properties,
        True,
    )


class NormalizedProfiles(ProfilePage):
    """Takes the columns out of each result of a page. See `ProfilePage`."""

    def __init__(self, *, envelope: Envelope, selected: frozenset[str], strip_nul: bool) -> None:
        super().__init__(envelope=envelope, strip_nul=strip_nul)
        self._selected = selected

    def _record(self, result: bytes) -> bytes:
        try:
            if len(self._selected) == len(_PROFILE_COLUMNS):
                return _cut_profile(result)
        except (_InDoubt, msgspec.DecodeError, RecursionError):
            pass
        return self._rebuilt(result)

    def _rebuilt(self, result: bytes) -> bytes:
        members = read_members(result)
        key = value_of(members, "$distinct_id")
        if key == NULL:
            raise NotARecord("`$distinct_id` is missing")
        properties = read_members(object_text(members, "$properties"))
        last_seen = value_of(properties, "$last_seen")
        properties.pop("$last_seen", None)
        columns = {
            "distinct_id": string_text(key),
            "last_seen": NULL if last_seen == NULL else string_text(last_seen),
            "properties": joined(properties),
        }
        return joined({column: value for column, value in columns.items() if column in self._selected})


def _cut_profile(result: bytes) -> bytes:
    """Make the record of a result that reads `{"$distinct_id":"D","$properties":{<left>,"$last_seen":"L"<right>}`.

    What shows that it does is what shows it of an event.
    """
    match = _profile(result)
    if not match or result[-1] != _CLOSING_BRACE:
        raise _InDoubt
    left, found, right = result[match.end() : -1].partition(_LAST_SEEN)
    if not found:
        raise _InDoubt
    _check_profile_others(b"{" + left + b"}")
    _check_profile_others(b'{"":"' + right)
    last_seen, _, right = right.partition(b'"')
    if b"\\" in last_seen:
        raise _InDoubt
    return b"".join(
        (b'{"distinct_id":"', match[1], b'","last_seen":"', last_seen, b'","properties":{', left, right, b"}")
    )


@dataclass(frozen=True, slots=True)
class NormalizedEventShape:
    """An event with Mixpanel's own keys as columns. See `shapes.EventShape`."""

    schema: dict[str, Any]
    key_properties: tuple[str, ...]
    columns: tuple[str, ...]

    def converter(
        self,
        *,
        envelope: Envelope,
        selected: frozenset[str] | None = None,
        zone: ZoneInfo | None = None,
        strip_nul: bool = False,
        on_bad_line: Callable[[BadLine], None],
    ) -> NormalizedEvents:
        """Make the converter of one body."""
        return NormalizedEvents(
            envelope=envelope,
            selected=frozenset(self.columns) if selected is None else selected,
            clock=EventClock(zone),
            strip_nul=strip_nul,
            on_bad_line=on_bad_line,
        )


@dataclass(frozen=True, slots=True)
class NormalizedProfileShape:
    """A profile with its time of last update as a column. See `shapes.ProfileShape`."""

    schema: dict[str, Any]
    key_properties: tuple[str, ...]
    columns: tuple[str, ...]
    needs: tuple[str, ...]

    def converter(
        self, *, envelope: Envelope, selected: frozenset[str] | None = None, strip_nul: bool = False
    ) -> NormalizedProfiles:
        """Make the converter of a stream's profiles."""
        return NormalizedProfiles(
            envelope=envelope,
            selected=frozenset(self.columns) if selected is None else selected,
            strip_nul=strip_nul,
        )


_EVENT_KEY = ("event_name", "event_time", "insert_id")
_PROFILE_KEY = ("distinct_id",)

EVENTS = NormalizedEventShape(record_schema(_EVENT_KEY, _EVENT_COLUMNS), _EVENT_KEY, tuple(_EVENT_COLUMNS))
PROFILES = NormalizedProfileShape(
    record_schema(_PROFILE_KEY, _PROFILE_COLUMNS), _PROFILE_KEY, tuple(_PROFILE_COLUMNS), needs=("$last_seen",)
)
