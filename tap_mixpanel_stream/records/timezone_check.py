"""Check `project_timezone` against a sample of events.

In projects created before 2023, `time` is local wall-clock time in the project's time zone, stored as if it were UTC.
Two properties are in UTC in every project: `$mp_api_timestamp_ms`, when Mixpanel received the event, and
`mp_processing_time_ms`, which the check uses for events without the former (some from 2020). Most events are received
within minutes, so `time` minus the time of receipt is close to the zone's UTC offset, or to zero if the project stores
UTC.

A single event proves nothing: a device can deliver it days later, or have a wrong clock. Such errors differ from event
to event, while the zone's offset is the same for all events until the clocks change. A month is therefore considered
only if two thirds of its events show the same offset.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

import msgspec

from .event_time import EventClock, UnusableTime
from .json_objects import NULL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date

LINES_PER_WINDOW = 100
"""Maximum number of lines to check in each window."""

MIN_EVENTS = 50
"""Number of events that must agree before the check draws a conclusion."""

MIN_EVENTS_PER_MONTH = 10
"""Number of events with a usable offset for a month to be considered."""

MAJORITY = 2 / 3
"""The share of a month's events that must show the same offset."""

_UTC = ZoneInfo("UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_QUARTER_HOUR = 900_000
_MINUTE = 60_000
"""In milliseconds."""

_TOLERANCE = 5 * _MINUTE
"""Milliseconds by which an event may deviate from a multiple of 15 minutes and still show that offset."""

_MIN_OFFSET, _MAX_OFFSET = -12 * 4, 14 * 4
"""The range of UTC offsets, in quarters of an hour."""

_MAX_SUGGESTIONS = 3

# Suggested before the other 600 or so zones, because most people can place them.
_WELL_KNOWN = (
    "Europe/London", "Europe/Lisbon", "Europe/Berlin", "Europe/Paris", "Europe/Madrid", "Europe/Athens",
    "Europe/Helsinki", "Europe/Istanbul", "Europe/Moscow",
    "America/Los_Angeles", "America/Denver", "America/Chicago", "America/New_York", "America/Toronto",
    "America/Halifax", "America/Phoenix", "America/Mexico_City", "America/Bogota", "America/Sao_Paulo",
    "America/Argentina/Buenos_Aires",
    "Asia/Dubai", "Asia/Karachi", "Asia/Kolkata", "Asia/Dhaka", "Asia/Jakarta", "Asia/Shanghai", "Asia/Singapore",
    "Asia/Tokyo", "Australia/Brisbane", "Australia/Sydney", "Australia/Adelaide", "Pacific/Auckland",
    "Africa/Lagos", "Africa/Johannesburg", "Africa/Nairobi", "Africa/Cairo",
)  # fmt: skip

_PROPERTIES = {"received": "$mp_api_timestamp_ms", "processed": "mp_processing_time_ms", "imported": "$import"}


class _Times(msgspec.Struct, gc=False, rename=_PROPERTIES):
    time: msgspec.Raw
    received: msgspec.Raw = NULL
    processed: msgspec.Raw = NULL
    imported: msgspec.Raw = NULL


class _Event(msgspec.Struct, gc=False):
    properties: _Times


_read_event = msgspec.json.Decoder(_Event).decode
_utc_clock = EventClock()


@dataclass(frozen=True, slots=True)
class MonthOffset:
    """The UTC offset that most events of a month show.

    Attributes:
        offset: How far `time` is ahead of UTC.
        at: The mean time of receipt of these events, in UTC.
        events: The number of events that show the offset.
    """

    offset: timedelta
    at: datetime
    events: int

    def __str__(self) -> str:
        return f"{offset_text(self.offset)} in {self.at:%Y-%m}"


@dataclass(frozen=True, slots=True)
class TimezoneFinding:
    """The result of the check.

    Attributes:
        zone: The zone in `project_timezone`; None if it is not set, which means UTC.
        events: The number of events in the sample that can show an offset.
        offsets: The offset of each month that has enough events in agreement.
        fits: Whether `zone` is right; None while too few events agree.
    """

    zone: ZoneInfo | None
    events: int
    offsets: tuple[MonthOffset, ...]
    fits: bool | None

    @property
    def agreeing_events(self) -> int:
        """The number of events that show the offset of their month."""
        return sum(month.events for month in self.offsets)

    def matching_zones(self) -> list[str]:
        """Return up to three time zones with these offsets in these months.

        Several zones can match, since zones share offsets.
        """
        others = (name for name in sorted(available_timezones()) if "/" in name and not name.startswith("Etc/"))
        found: dict[str, None] = {}
        for name in (*_WELL_KNOWN, *others):
            zone = ZoneInfo(name)
            if all(_offset_at(zone, month.at) == month.offset for month in self.offsets):
                found[name] = None
            if len(found) == _MAX_SUGGESTIONS:
                break
        return list(found)

    def __str__(self) -> str:
        """Return the mismatch and its remedy in one line."""
        clearest = {month.offset: month for month in sorted(self.offsets, key=lambda month: month.events)}
        offsets = " and ".join(str(month) for month in sorted(clearest.values(), key=lambda month: month.at))
        setting = f"is {self.zone.key}" if self.zone else "is not set"
        return (
            f"project_timezone {setting}, but {self.agreeing_events:,} of {self.events:,} sampled events have a "
            f"`time` at {offsets}: {self._remedy(is_utc=clearest.keys() == {timedelta()})}. "
            "Otherwise days and event_time are wrong (docs/time-zones.md)"
        )

    def _remedy(self, *, is_utc: bool) -> str:
        zone_in_mixpanel = "the zone that Mixpanel shows in Project Settings > Overview"
        zones = " or ".join(self.matching_zones())
        if is_utc:
            return (
                f"remove project_timezone (in a project created before 2023, set {zone_in_mixpanel}, if it was at "
                "UTC then, as Europe/London is in winter)"
            )
        or_utc = "" if self.zone else "; or to UTC, to keep the times unchanged"
        if not zones:
            return (
                "no time zone has all of these offsets, so the project's zone was probably changed: set "
                f"project_timezone to {zone_in_mixpanel}, which fits the latest events only{or_utc}"
            )
        return f"set project_timezone to {zone_in_mixpanel}, such as {zones}{or_utc}"


class TimezoneCheck:
    """Collects samples of events and compares their UTC offset with the setting. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_reported = False
        self._lines = 0
        # By month, then by offset in quarters of an hour (None: no valid offset): the number of events, and the sum of
        # their times of receipt in milliseconds.
        self._counts: defaultdict[str, Counter[int | None]] = defaultdict(Counter)
        self._received: Counter[tuple[str, int | None]] = Counter()

    @property
    def lines(self) -> int:
        """The number of lines added so far, with or without an offset."""
        return self._lines

    def add(self, lines: Iterable[bytes]) -> None:
        """Add a sample of lines. Lines that are not events are skipped."""
        if self._is_reported:
            return
        sample = list(lines)
        readings = [reading for line in sample if (reading := _read_offset(line)) is not None]
        with self._lock:
            self._lines += len(sample)
            for quarters, received in readings:
                month = f"{_EPOCH + timedelta(milliseconds=received):%Y-%m}"
                self._counts[month][quarters] += 1
                self._received[month, quarters] += received

    def finding(self, zone: ZoneInfo | None) -> TimezoneFinding:
        """Return the result for the events added so far.

        Args:
            zone: The zone in `project_timezone`; None if it is not set.
        """
        with self._lock:
            offsets = tuple(self._month_offsets())
            events = sum(counts.total() for counts in self._counts.values())
        contradicting_events = sum(
            month.events for month in offsets if _offset_at(zone or _UTC, month.at) != month.offset
        )
        fits = None
        if contradicting_events >= MIN_EVENTS:
            fits = False
        elif not contradicting_events and sum(month.events for month in offsets) >= MIN_EVENTS:
            fits = True
        return TimezoneFinding(zone, events, offsets, fits)

    def report_mismatch(self, zone: ZoneInfo | None) -> TimezoneFinding | None:
        """Return the finding the first time that the zone does not fit; otherwise None.

        Args:
            zone: The zone in `project_timezone`; None if it is not set.
        """
        if self._is_reported:
            return None
        finding = self.finding(zone)
        with self._lock:
            if finding.fits is not False or self._is_reported:
                return None
            self._is_reported = True
        return finding

    def _month_offsets(self) -> Iterator[MonthOffset]:
        for month in sorted(self._counts):
            counts = self._counts[month]
            [(quarters, events)] = counts.most_common(1)
            if quarters is not None and counts.total() >= MIN_EVENTS_PER_MONTH and events >= MAJORITY * counts.total():
                # The mean is on the right side of a clock change within the month: most of these events are.
                mean = _EPOCH + timedelta(milliseconds=self._received[month, quarters] // events)
                yield MonthOffset(timedelta(minutes=15 * quarters), mean, events)


def stored_days(lines: Iterable[bytes]) -> set[date]:
    """Return the days of the stored `time` of events, without time zone conversion. Lines without it are skipped."""
    days = set()
    for line in lines:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError, UnusableTime):
            time = _utc_clock.instant(bytes(_read_event(line).properties.time))
            days.add((_EPOCH + timedelta(milliseconds=time)).date())
    return days


def offset_text(offset: timedelta) -> str:
    """Return an offset such as `UTC+05:30`; `UTC` if it is zero."""
    if not offset:
        return "UTC"
    hours, minutes = divmod(abs(offset) // timedelta(minutes=1), 60)
    return f"UTC{'-' if offset < timedelta() else '+'}{hours:02}:{minutes:02}"


def _read_offset(line: bytes) -> tuple[int | None, int] | None:
    """Return the UTC offset of one event.

    Returns:
        The offset in quarters of an hour, None if the difference is not a valid offset; and the time of receipt in
        milliseconds. None if the line is not an event, is an imported event, or has a `time` in whole minutes, which
        can be that of an hourly total sent after the hour.
    """
    try:
        times = _read_event(line).properties
        time = _utc_clock.instant(bytes(times.time))
        received, is_receipt = _receipt_or_processing_time(times)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, UnusableTime):
        return None
    if time % _MINUTE == 0 or bytes(times.imported) == b"true":
        return None
    quarters = round((time - received) / _QUARTER_HOUR)
    is_in_range = _MIN_OFFSET <= quarters <= _MAX_OFFSET
    # An imported event can lack `$import`. Its processing time is then far from its `time`.
    if not is_receipt and not is_in_range:
        return None
    is_near_quarter = abs(time - received - quarters * _QUARTER_HOUR) <= _TOLERANCE
    return quarters if is_near_quarter and is_in_range else None, received


def _receipt_or_processing_time(times: _Times) -> tuple[int, bool]:
    """Return the time of receipt in milliseconds, or else of processing; and whether it is the time of receipt."""
    try:
        return _utc_clock.instant(bytes(times.received)), True
    except UnusableTime:
        return _utc_clock.instant(bytes(times.processed)), False


def _offset_at(zone: ZoneInfo, at: datetime) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()
