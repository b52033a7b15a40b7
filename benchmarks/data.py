"""The events that all programs get: ten different days, again and again.

A day has 2000 events of about 1 KB and 33 properties, made by the emulator's `SyntheticProject`: late events, merged
identities, missing insert ids, numbers as distinct ids. Ten days are made and packed as Mixpanel does, by gzip at level
6. Any range of days is put together from them, so that a body of gigabytes costs neither time nor memory to make.
Events keep the time of the day they were made for, but for the first of each day: the tap refuses a response whose
first events are all of other days.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from isal import isal_zlib

from tap_mixpanel_stream.emulator import SyntheticProject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FIRST_DAY = date(2010, 1, 1)
EVENTS_A_DAY = 2000
USERS = 20_000

Event = dict[str, Any]

_DIFFERENT_DAYS = 10
_LEVEL = 6
_RAW_DEFLATE = -15
_TIME = re.compile(rb'(?<="time":)[0-9]+')
_FRACTION = re.compile(rb'(?<="time":)([0-9]+)\.[0-9]+')
# A gzip header without name and time, from an unknown system.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LAST_BLOCK = b"\x03\x00"
# About what zlib hands out at a time when it is fed by the 128 KiB: the pieces become the chunks of HTTP.
_PIECE = 24 * 1024


def _distinct_id_last(event: Event) -> None:
    if "distinct_id" in event["properties"]:
        event["properties"]["distinct_id"] = event["properties"].pop("distinct_id")


def _alphabetical(event: Event) -> None:
    event["properties"] = dict(sorted(event["properties"].items()))


def _quotes_in_the_name(event: Event) -> None:
    event["event"] = f'The "{event["event"]}"'


def _further_keys(event: Event) -> None:
    event |= {"dataset": "$mixpanel", "labels": ["a", "b"]}


def _fractional_time(event: Event) -> None:
    event["properties"]["time"] = int(event["properties"]["time"]) + 0.271


def _no_insert_id(event: Event) -> None:
    event["properties"].pop("$insert_id", None)


USUAL = "the usual one"
NO_INSERT_ID = "no `$insert_id`"

LAYOUTS: dict[str, Callable[[Event], None] | None] = {
    USUAL: None,
    "`distinct_id` last": _distinct_id_last,
    "alphabetical": _alphabetical,
    "quotes in the event's name": _quotes_in_the_name,
    "further top-level keys": _further_keys,
    "fractional `time`": _fractional_time,
    NO_INSERT_ID: _no_insert_id,
}
"""Layouts of a line, which nobody promises: what each changes in an event as the emulator makes it."""


@dataclass(frozen=True)
class Day:
    """One of the days that repeat.

    Attributes:
        lines: Its events, as an export has them.
        packed: The same as blocks of deflate, which can stand between any others.
    """

    lines: bytes
    packed: bytes

    def __add__(self, other: Day) -> Day:
        """Both, one after the other."""
        return Day(self.lines + other.lines, self.packed + other.packed)


class History:
    """Days of events from `FIRST_DAY` on, without end.

    Args:
        in_ms: Whether `time` is in milliseconds.
        zone: The zone of the days, and of the wall clock that `time` is.
        layout: One of `LAYOUTS`.
    """

    def __init__(self, *, in_ms: bool = False, zone: str = "UTC", layout: str = USUAL) -> None:
        self._in_ms = in_ms
        self._zone = zone
        self._change = LAYOUTS[layout]

    @cached_property
    def days(self) -> list[Day]:
        """The days that repeat."""
        return [_packed(first) + rest for first, rest in self._parts]

    @cached_property
    def _parts(self) -> list[tuple[bytes, Day]]:
        """The days that repeat: the first event of each, and the others."""
        last = FIRST_DAY + timedelta(days=_DIFFERENT_DAYS - 1)
        project = SyntheticProject(1, FIRST_DAY, last, events_per_day=EVENTS_A_DAY, profiles=USERS, zone=self._zone)
        now = datetime.now(UTC)
        days = (project.lines(day, day, now=now, in_ms=self._in_ms) for day in _days(FIRST_DAY, last))
        lines_of_days = [[self.laid_out(line) + b"\n" for line in lines] for lines in days]
        return [(lines[0], _packed(b"".join(lines[1:]))) for lines in lines_of_days]

    def laid_out(self, line: bytes) -> bytes:
        """Return an event of the emulator's in this layout, its time in whole seconds unless that is the layout.

        airbyte-source-mixpanel fails on a fraction.
        """
        line = _FRACTION.sub(rb"\1", line, count=1)
        if self._change is None:
            return line
        event = json.loads(line)
        self._change(event)
        return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()

    def between(self, first: date, last: date) -> Iterator[Day]:
        """Yield each day of a range."""
        for day in _days(max(first, FIRST_DAY), last):
            later, number = divmod((day - FIRST_DAY).days, _DIFFERENT_DAYS)
            event, others = self._parts[number]
            yield _packed(self._moved(event, later * _DIFFERENT_DAYS)) + others

    def _moved(self, event: bytes, days: int) -> bytes:
        """An event as it is, but for its time."""
        seconds = days * 24 * 3600
        return _TIME.sub(lambda time: b"%d" % (int(time[0]) + seconds * (1000 if self._in_ms else 1)), event, count=1)

    def lines(self, events: int) -> list[bytes]:
        """The first events, without their line ends."""
        return b"".join(day.lines for day in self.between(FIRST_DAY, last_day_of(events))).split(b"\n")[:-1]

    def gzipped(self, first: date, last: date) -> Iterator[bytes]:
        """Yield a range of days as one gzip body."""
        checksum = length = 0
        yield _HEADER
        for day in self.between(first, last):
            checksum = isal_zlib.crc32(day.lines, checksum)
            length += len(day.lines)
            for start in range(0, len(day.packed), _PIECE):
                yield day.packed[start : start + _PIECE]
        yield _LAST_BLOCK + checksum.to_bytes(4, "little") + (length % 2**32).to_bytes(4, "little")

    def save(self, path: Path, events: int) -> None:
        """Write the first events into a file, as one gzip body."""
        with path.open("wb") as file:
            file.writelines(self.gzipped(FIRST_DAY, last_day_of(events)))

    def save_names(self, path: Path) -> None:
        """Write the names of all properties into a file, as a JSON list."""
        names = {
            name for day in self.days for line in day.lines.splitlines() for name in json.loads(line)["properties"]
        }
        path.write_text(json.dumps(sorted(names)))

    def packing(self) -> float:
        """How many times smaller gzip makes the events."""
        return sum(len(day.lines) for day in self.days) / sum(len(day.packed) for day in self.days)

    def event_bytes(self) -> float:
        """How long an event is."""
        return sum(len(day.lines) for day in self.days) / (len(self.days) * EVENTS_A_DAY)


def last_day_of(events: int) -> date:
    """The day up to which there are so many events.

    Raises:
        ValueError: They do not fill whole days.
    """
    days, rest = divmod(events, EVENTS_A_DAY)
    if rest or not days:
        raise ValueError(f"{events} events are no whole days of {EVENTS_A_DAY}")
    return FIRST_DAY + timedelta(days=days - 1)


def _days(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def _packed(lines: bytes) -> Day:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW_DEFLATE)
    # A full flush: what follows refers to nothing before it, and begins at a whole byte.
    return Day(lines, packer.compress(lines) + packer.flush(zlib.Z_FULL_FLUSH))
