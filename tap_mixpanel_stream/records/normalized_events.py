r"""The normalized shape of an event: Mixpanel's own keys as columns, every other property byte for byte as it came.

A line is cut, not decoded and written again. Mixpanel puts its own keys first, so nearly every line reads

    {"event":"E","properties":{"time":T,"distinct_id":"D",<others>}

where <others> is `<left>,"$insert_id":"I"<right>`; or it has the ids in another order, or the event behind its
properties. Where a line can be *shown* to read like this, its record is put together from slices of it. Every other
line, and any in doubt, goes the exact way: read into members, rebuilt from members. The records are the same.

What is shown, and how, for all lines of a block at once:

1. One regular expression takes each line apart: what stands before <others>, and <others> itself, which begins with a
   quote and ends with the brace that closes the properties. Its strings take no quote, no backslash and no control
   character: each is a JSON string from quote to quote. Its last branch takes any line at all: there are as many
   matches as lines, and the exact way has the rest.
2. `{<left>}` and `{"":"I"<right>`, or `{<others>` where there is no insert id to cut out, decode as JSON objects by
   themselves. A cut that went through a string or through a nested object would leave at least one of them broken.
3. They decode as objects that may have none of the three keys, however spelled. So the ones cut are the only ones.

So the line reads as above, token by token, with exactly these members. Nothing is believed because it looks right: a
line that misleads the search for the insert id fails 2 or 3.

The objects of 2 are decoded together, a line each. The decoder takes them for a run of JSON texts, which could span
lines or share one. They do neither if they are as many as the lines, since each line starts with `{` and ends with `}`:
no JSON text has a newline between `}` and `{`, for inside of one a comma must come between. So each newline divides two
objects, each line has one at least, and with as many objects as lines none has two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from .body import EventBody
from .event_time import MOST_QUARTERS, QUARTER, EventClock, UnusableTime, instant_text, quarter_of
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
)
from .schemas import INSTANT, OPEN_OBJECT, STRING, record_schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from zoneinfo import ZoneInfo

    from .envelope import Envelope
    from .errors import BadLine

_COLUMNS = {
    "event_name": STRING,
    "event_time": INSTANT,
    "distinct_id": STRING,
    "insert_id": STRING,
    "properties": OPEN_OBJECT,
}
_KEY = ("event_name", "event_time", "insert_id")

_PLAIN = r'"([^"\\\x00-\x1f]++)"'  # A JSON string that is not empty and has no escapes; the group is its text.
_ANY_PLAIN = _PLAIN.replace("++", "*+")  # The same, or an empty one.
_TIME = '"time":([1-9][0-9]{9})([0-9]{3})?,'  # Ten digits are seconds from 2001 to 2286; with three more, milliseconds.
_WHO = rf'"distinct_id":(?:{_ANY_PLAIN}|(-?(?:0|[1-9][0-9]*+))),'
_take_apart = re.compile(
    rf'\{{(?:"event":{_PLAIN},)?"properties":\{{(?:{_TIME}(?:{_WHO})?|{_WHO}{_TIME})'
    rf'(?:"\$insert_id":{_PLAIN},)?("[^\n]*\}})(?:,"event":{_PLAIN})?\}}\n|[^\n]*+\n'.encode()
).findall
_INSERT_ID = b',"$insert_id":"'

_PIECES = 11
"""The pieces that a record is joined from: before a column's value and the value, five times over, and the end."""

_PIECES_OF_VALUE = {"event_name": (1,), "distinct_id": (4,), "insert_id": (6,), "properties": (8, 9)}
"""Which of them are a column's value; those of `event_time` are texts of `_Quarters`."""

_PROOFS = 5
"""The pieces that a line adds to what is decoded to show how it reads."""

_NO_PIECES = (b"",) * _PIECES
_NO_PROOF = (b"{}\n", b"", b"", b"", b"")


class _Never:
    """A type that no JSON value has, null included: a member of it is refused."""


class _Others(msgspec.Struct, gc=False, rename={"insert_id": "$insert_id"}):
    """An event's properties without those that became columns."""

    time: _Never | msgspec.UnsetType = msgspec.UNSET
    distinct_id: _Never | msgspec.UnsetType = msgspec.UNSET
    insert_id: _Never | msgspec.UnsetType = msgspec.UNSET


_read_others = msgspec.json.Decoder(_Others).decode_lines


class _Quarters(dict[int, tuple[int, bytes, list[bytes]] | None]):
    """Quarters of an hour by their number, as a record spells them; None where seconds have to be read one by one.

    Args:
        clock: spells quarters.
        before: what stands before an event's time.
        after: what stands behind it, up to the next value.
        wanted: whether there is a time between the two.
    """

    def __init__(self, clock: EventClock, before: bytes, after: bytes, *, wanted: bool) -> None:
        super().__init__()
        self._clock = clock
        self._before = before
        self._after = after
        self._wanted = wanted
        self._seconds: dict[bytes, list[bytes]] = {}

    def __missing__(self, number: int) -> tuple[int, bytes, list[bytes]] | None:
        if len(self) >= MOST_QUARTERS:
            self.clear()
        quarter = self._clock.quarter(number)
        if quarter is None:
            self[number] = None
            return None
        begin, until_hour, of_quarter = quarter
        seconds = self._seconds.get(of_quarter[0])
        if seconds is None:
            spelled = of_quarter if self._wanted else [b""] * QUARTER
            seconds = self._seconds[of_quarter[0]] = [second + self._after for second in spelled]
        self[number] = begin, self._before + (until_hour if self._wanted else b""), seconds
        return self[number]


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
        before_name, before_time, before_id, *others = _texts_around(envelope, selected)
        self._texts = before_name, *others
        self._time_wanted = "event_time" in selected
        self._quarters = _Quarters(clock, before_time, before_id, wanted=self._time_wanted)
        self._unwanted = [
            place for column, places in _PIECES_OF_VALUE.items() if column not in selected for place in places
        ]

    def _convert_block(self, block: bytes) -> bytes:
        before_name, before_insert_id, before_properties, after = self._texts
        quarters = self._quarters
        lines = _take_apart(block)
        out: list[bytes] = []
        proofs: list[bytes] = []
        objects = len(lines)
        odd: list[int] = []
        for (
            name_first, time_first, ms_first, id_last, number_last, id_first, number_first, time_last, ms_last,
            id_of_row, others, name_last,
        ) in lines:  # fmt: skip
            name, thousandths = name_first or name_last, ms_first or ms_last
            distinct_id = id_last or number_last or id_first or number_first
            number, second = divmod(int(time_first or time_last or 0), QUARTER)
            quarter = quarters[number]
            insert_id, left, right, cut = id_of_row, b"", others, b""
            if not insert_id and quarter:
                left, found, cut = others.partition(_INSERT_ID)
                if found:
                    insert_id, _, right = cut.partition(b'"')
                else:
                    left, instant = b"", (quarter[0] + second) * 1000 + int(thousandths or 0)
                    insert_id = _insert_id_of(name, instant, distinct_id, others)
            if not insert_id or b"\\" in insert_id or not quarter or not name or (name_first and name_last):
                odd.append(len(out) // _PIECES)
                out += _NO_PIECES
                proofs += _NO_PROOF
                continue
            if cut:
                proofs += (b"{", left, b'}\n{"":"', cut, b"\n")
                objects += 1
            else:
                proofs += (b"{", others, b"\n", b"", b"")
            _, until_hour, of_quarter = quarter
            clock = self._with_thousandths(of_quarter[second], thousandths) if thousandths else of_quarter[second]
            out += (
                before_name, name,
                until_hour, clock, distinct_id,
                before_insert_id, insert_id,
                before_properties, left, right,
                after,
            )  # fmt: skip
        if self.names is not None:
            self.names.update(map(bytes.decode, {*out[1::_PIECES]}))
        for place in self._unwanted:
            out[place::_PIECES] = [b""] * len(lines)
        odd += _unproven(proofs, objects)
        if self.quarters is not None:
            exact = frozenset(odd)
            times = [line[1] or line[7] for number, line in enumerate(lines) if number not in exact]
            self.quarters.update([int(time) // QUARTER for time in times])
        if odd:
            self._convert_odd(block, odd, out)
        self.lines += len(lines) - len(odd)
        self.records += len(lines) - len(odd)
        return b"".join(out)

    def _convert_odd(self, block: bytes, odd: list[int], out: list[bytes]) -> None:
        """Put the records of some lines, made the exact way, in the place of their pieces.

        Args:
            block: the lines.
            odd: the numbers of those to convert, from 0.
            out: the pieces of the records of all lines; changed.
        """
        lines = block.split(b"\n")
        counted = self.lines
        for line in sorted(odd):
            # A bad line says its number: it counts what is counted, and the lines between.
            self.lines = counted + line
            out[line * _PIECES : (line + 1) * _PIECES] = [self._convert_line(lines[line]), *_NO_PIECES[1:]]
        self.lines = counted + len(odd)

    def _with_thousandths(self, clock: bytes, thousandths: bytes) -> bytes:
        if thousandths == b"000" or not self._time_wanted:
            return clock
        return b"%b.%b%b" % (clock[: len("MM:SS")], thousandths, clock[len("MM:SS") :])

    def _record(self, line: bytes) -> bytes:
        """Make the record the exact way: the line read into members, the columns taken out, the rest rebuilt."""
        members = read_members(line)
        event = event_text(members)
        properties = read_members(object_text(members, "properties"))
        time = properties.pop("time", None)
        if time is None:
            raise NotARecord("`time` is missing")
        received, processed = (
            None if (at := properties.get(name)) is None else bytes(at)
            for name in ("$mp_api_timestamp_ms", "mp_processing_time_ms")
        )
        try:
            instant = self._clock.instant(bytes(time), received, processed)
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
        if self.names is not None:
            self.names.add(read_string(event))
        if self.quarters is not None:
            self.quarters[quarter_of(bytes(time))] += 1
        return joined({column: value for column, value in columns.items() if column in self._selected})


def _unproven(proofs: list[bytes], objects: int) -> list[int]:
    """Find the lines that do not read as they seem to.

    Args:
        proofs: what has to decode for each line, in pieces.
        objects: how many objects it is.

    Returns:
        Their numbers, from 0.
    """
    if _are_others(proofs, objects):
        return []
    return [
        start // _PROOFS
        for start in range(0, len(proofs), _PROOFS)
        if not _are_others(proofs[start : start + _PROOFS], 2 if proofs[start + _PROOFS - 2] else 1)
    ]


def _are_others(proofs: list[bytes], objects: int) -> bool:
    try:
        return len(_read_others(b"".join(proofs))) == objects
    except (msgspec.DecodeError, RecursionError):
        return False


def _insert_id_of(name: bytes, instant: int, distinct_id: bytes, others: bytes) -> bytes:
    """Make the insert id of an event all of whose other properties are `others`; empty where they cannot be read."""
    try:
        return _made_insert_id(name.decode(), instant, distinct_id.decode(), read_members(b"{" + others))
    except (msgspec.DecodeError, RecursionError):
        return b""


def _made_insert_id(name: str, instant: int, distinct_id: str, properties: Members) -> bytes:
    before_merging = string_text(bytes(properties.pop("$distinct_id_before_identity", NULL)))
    return stable_insert_id(name, instant, read_string(before_merging) or distinct_id, properties)


def _texts_around(envelope: Envelope, selected: frozenset[str]) -> tuple[bytes, ...]:
    """Say what stands before each column's value, and behind the last: six texts."""
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
    return tuple(texts)


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


EVENTS = NormalizedEventShape(record_schema(_KEY, _COLUMNS), _KEY, tuple(_COLUMNS))
