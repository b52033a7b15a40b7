"""The events of the benchmarks: ten different days that repeat.

A day has 2000 events of about 1 KB and 33 properties from the emulator's `SyntheticProject`, including late events,
merged identities, missing insert ids and numeric distinct ids. The ten days are generated once and compressed with gzip
at level 6, as Mixpanel does. The body of any range of days is assembled from them, so a body of several gigabytes takes
little time and memory. The first event of each repeated day gets the date of that day, because the tap rejects a
response whose first events are all of other days. The other events keep their original time.
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
EVENTS_PER_DAY = 2000
USERS = 20_000

Event = dict[str, Any]

_DISTINCT_DAYS = 10
_LEVEL = 6
_RAW_DEFLATE = -15
_TIME = re.compile(rb'(?<="time":)[0-9]+')
_FRACTION = re.compile(rb'(?<="time":)([0-9]+)\.[0-9]+')
# A gzip header without file name and time; the operating system is unknown.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LAST_BLOCK = b"\x03\x00"
# Size of the HTTP chunks. zlib returns about this much for an input block of 128 KiB.
_PIECE_SIZE = 24 * 1024


def _distinct_id_last(event: Event) -> None:
    if "distinct_id" in event["properties"]:
        event["properties"]["distinct_id"] = event["properties"].pop("distinct_id")


def _alphabetical(event: Event) -> None:
    event["properties"] = dict(sorted(event["properties"].items()))


def _quotes_in_name(event: Event) -> None:
    event["event"] = f'The "{event["event"]}"'


def _additional_keys(event: Event) -> None:
    event |= {"dataset": "$mixpanel", "labels": ["a", "b"]}


def _fractional_time(event: Event) -> None:
    event["properties"]["time"] = int(event["properties"]["time"]) + 0.271


def _no_insert_id(event: Event) -> None:
    event["properties"].pop("$insert_id", None)


DEFAULT_LAYOUT = "default"
NO_INSERT_ID = "no `$insert_id`"

LAYOUTS: dict[str, Callable[[Event], None] | None] = {
    DEFAULT_LAYOUT: None,
    "`distinct_id` last": _distinct_id_last,
    "alphabetical": _alphabetical,
    "quotes in the event name": _quotes_in_name,
    "additional top-level keys": _additional_keys,
    "fractional `time`": _fractional_time,
    NO_INSERT_ID: _no_insert_id,
}
"""Layouts of a line, with functions that convert an event of the emulator. Mixpanel guarantees no layout."""


@dataclass(frozen=True)
class Day:
    """One of the repeated days, or a part of it.

    Attributes:
        lines: Lines of the export.
        compressed: The same lines as deflate blocks that can be concatenated with others.
    """

    lines: bytes
    compressed: bytes

    def __add__(self, other: Day) -> Day:
        """Concatenate two parts."""
        return Day(self.lines + other.lines, self.compressed + other.compressed)


class History:
    """An endless series of days with events, starting with `FIRST_DAY`.

    Args:
        in_ms: Whether `time` is in milliseconds.
        zone: Time zone of the project. `time` is the local wall clock time.
        layout: Layout of the lines, a key of `LAYOUTS`.
    """

    def __init__(self, *, in_ms: bool = False, zone: str = "UTC", layout: str = DEFAULT_LAYOUT) -> None:
        self._in_ms = in_ms
        self._zone = zone
        self._change = LAYOUTS[layout]

    @cached_property
    def days(self) -> list[Day]:
        """The repeated days."""
        return [_compress(first) + rest for first, rest in self._parts]

    @cached_property
    def _parts(self) -> list[tuple[bytes, Day]]:
        """The first event and the other events of each repeated day."""
        last = FIRST_DAY + timedelta(days=_DISTINCT_DAYS - 1)
        project = SyntheticProject(1, FIRST_DAY, last, events_per_day=EVENTS_PER_DAY, profiles=USERS, zone=self._zone)
        now = datetime.now(UTC)
        days = (project.lines(day, day, now=now, in_ms=self._in_ms) for day in _days(FIRST_DAY, last))
        lines_of_days = [[self.apply_layout(line) + b"\n" for line in lines] for lines in days]
        return [(lines[0], _compress(b"".join(lines[1:]))) for lines in lines_of_days]

    def apply_layout(self, line: bytes) -> bytes:
        """Return an event of the emulator in this layout.

        `time` is in whole seconds, except in the layout with fractional times, because airbyte-source-mixpanel fails on
        fractions.
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
            cycle, number = divmod((day - FIRST_DAY).days, _DISTINCT_DAYS)
            event, others = self._parts[number]
            yield _compress(self._moved_by(event, cycle * _DISTINCT_DAYS)) + others

    def _moved_by(self, event: bytes, days: int) -> bytes:
        """Return the event with its time moved by a number of days."""
        seconds = days * 24 * 3600
        return _TIME.sub(lambda time: b"%d" % (int(time[0]) + seconds * (1000 if self._in_ms else 1)), event, count=1)

    def lines(self, events: int) -> list[bytes]:
        """Return the first events, without line endings."""
        return b"".join(day.lines for day in self.between(FIRST_DAY, last_day(events))).split(b"\n")[:-1]

    def gzipped(self, first: date, last: date) -> Iterator[bytes]:
        """Yield the gzip body of a range of days."""
        checksum = length = 0
        yield _HEADER
        for day in self.between(first, last):
            checksum = isal_zlib.crc32(day.lines, checksum)
            length += len(day.lines)
            for start in range(0, len(day.compressed), _PIECE_SIZE):
                yield day.compressed[start : start + _PIECE_SIZE]
        yield _LAST_BLOCK + checksum.to_bytes(4, "little") + (length % 2**32).to_bytes(4, "little")

    def save(self, path: Path, events: int) -> None:
        """Write the gzip body with the first events to a file."""
        with path.open("wb") as file:
            file.writelines(self.gzipped(FIRST_DAY, last_day(events)))

    def save_names(self, path: Path) -> None:
        """Write the names of all properties to a file, as a JSON list."""
        names = {
            name for day in self.days for line in day.lines.splitlines() for name in json.loads(line)["properties"]
        }
        path.write_text(json.dumps(sorted(names)))

    def compression_ratio(self) -> float:
        """Return the compression ratio of the events."""
        return sum(len(day.lines) for day in self.days) / sum(len(day.compressed) for day in self.days)

    def event_bytes(self) -> float:
        """Return the average size of an event in bytes."""
        return sum(len(day.lines) for day in self.days) / (len(self.days) * EVENTS_PER_DAY)


def last_day(events: int) -> date:
    """Return the last day of a number of events.

    Raises:
        ValueError: The number is not a multiple of `EVENTS_PER_DAY`.
    """
    days, rest = divmod(events, EVENTS_PER_DAY)
    if rest or not days:
        raise ValueError(f"{events} is not a positive multiple of {EVENTS_PER_DAY} events")
    return FIRST_DAY + timedelta(days=days - 1)


def _days(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def _compress(lines: bytes) -> Day:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW_DEFLATE)
    # A full flush ends at a byte boundary and makes the following data independent of the previous data.
    return Day(lines, packer.compress(lines) + packer.flush(zlib.Z_FULL_FLUSH))
