"""Whether `project_timezone` is the zone that a project's events are stored in, found out from some lines of them.

In a project from before 2023 `time` is the wall clock of the project's zone, written as if it were UTC. Mixpanel's own
`$mp_api_timestamp_ms`, when it received the event, is UTC in every project, and so is `mp_processing_time_ms`, which
stands in where a row lacks the former, as rows of 2020 do. Most events arrive within minutes, so between the two lies
the zone's offset from UTC, to within minutes, and nothing in a project that stores UTC.

One event proves nothing: it may have been kept on a device for days, or the device's clock may be wrong. Such delays
differ from event to event; a zone's offset is the same for all events of a season. So a month's events count only where
two thirds of them show one and the same offset.
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date

LINES = 100
"""Lines of a window that are looked at, at the most."""

ENOUGH_ROWS = 50
"""Events that must show an offset before anything is said."""

ENOUGH_IN_A_MONTH = 10
"""Events a month must have before its majority counts."""

MAJORITY = 2 / 3
"""The share of a month's events that must show the same offset."""

_UTC = ZoneInfo("UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_QUARTER = 900_000
_MINUTE = 60_000
_PROMPT = 5 * _MINUTE
"""Milliseconds around an offset within which an event shows it."""

_EARLIEST, _LATEST = -12 * 4, 14 * 4
"""Quarters of an hour that a zone is from UTC, at the least and at the most."""

_EXAMPLES = 3

# Asked before all the others, of which there are 600: names that most people can place.
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

_NOTHING = msgspec.Raw(b"null")


_NAMES = {"received": "$mp_api_timestamp_ms", "processed": "mp_processing_time_ms", "imported": "$import"}


class _Times(msgspec.Struct, gc=False, rename=_NAMES):
    time: msgspec.Raw
    received: msgspec.Raw = _NOTHING
    processed: msgspec.Raw = _NOTHING
    imported: msgspec.Raw = _NOTHING


class _Event(msgspec.Struct, gc=False):
    properties: _Times


_read = msgspec.json.Decoder(_Event).decode
_utc = EventClock()


@dataclass(frozen=True, slots=True)
class Sighting:
    """An offset from UTC that a month's events show.

    Attributes:
        offset: How far `time` is ahead of UTC.
        at: About the middle of these events, UTC.
        rows: How many events show it.
    """

    offset: timedelta
    at: datetime
    rows: int

    def __str__(self) -> str:
        return f"{offset_text(self.offset)} in {self.at:%Y-%m}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the events looked at say about the setting.

    Attributes:
        zone: The setting's zone; None where it is not set, which means UTC.
        rows: Events looked at that could say something.
        sightings: The offsets seen, by month.
        fits: Whether the setting is right; None while too few events agree to say so.
    """

    zone: ZoneInfo | None
    rows: int
    sightings: tuple[Sighting, ...]
    fits: bool | None

    @property
    def agreeing(self) -> int:
        """How many of the events show the offset that most of their month show."""
        return sum(seen.rows for seen in self.sightings)

    def zones(self) -> list[str]:
        """Name up to three zones that had each of the offsets when it was seen. An offset alone names none."""
        others = (name for name in sorted(available_timezones()) if "/" in name and not name.startswith("Etc/"))
        found: dict[str, None] = {}
        for name in (*_WELL_KNOWN, *others):
            zone = ZoneInfo(name)
            if all(_offset(zone, seen.at) == seen.offset for seen in self.sightings):
                found[name] = None
            if len(found) == _EXAMPLES:
                break
        return list(found)

    def __str__(self) -> str:
        """Say what does not fit and what to do about it, in one line."""
        clearest = {seen.offset: seen for seen in sorted(self.sightings, key=lambda seen: seen.rows)}
        offsets = " and ".join(str(seen) for seen in sorted(clearest.values(), key=lambda seen: seen.at))
        setting = f"is {self.zone.key}" if self.zone else "is not set"
        return (
            f"project_timezone {setting}, but {self.agreeing:,} of {self.rows:,} sampled events have a "
            f"`time` at {offsets}: {self._remedy(is_utc=clearest.keys() == {timedelta()})}. "
            "Otherwise days and event_time are wrong (docs/time-zones.md)"
        )

    def _remedy(self, *, is_utc: bool) -> str:
        shown = "Mixpanel shows in Project Settings > Overview"
        zones = " or ".join(self.zones())
        if is_utc:
            return (
                f"remove project_timezone (in a project created before 2023, set the zone that {shown}, if it was at "
                "UTC then, as Europe/London is in winter)"
            )
        as_it_is = "" if self.zone else "; or to UTC, to keep the times unchanged"
        if not zones:
            return (
                "no time zone has all of these offsets, so the project's zone was probably changed: set "
                f"project_timezone to the zone that {shown}, which fits the latest events only{as_it_is}"
            )
        return f"set project_timezone to the zone that {shown}, such as {zones}{as_it_is}"


class TimezoneCheck:
    """Collects what some events of each window show. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = False
        self._lines = 0
        # By month, then by quarters of an hour (None: no offset): events, and the sum of their times of receipt in ms.
        self._counts: defaultdict[str, Counter[int | None]] = defaultdict(Counter)
        self._received: Counter[tuple[str, int | None]] = Counter()

    @property
    def lines(self) -> int:
        """How many lines were looked at so far, whatever they showed."""
        return self._lines

    def look(self, lines: Iterable[bytes]) -> None:
        """Look at some lines, none of which need be an event."""
        if self._told:
            return
        looked = list(lines)
        seen = [each for line in looked if (each := _shown_by(line)) is not None]
        with self._lock:
            self._lines += len(looked)
            for quarters, received in seen:
                month = f"{_EPOCH + timedelta(milliseconds=received):%Y-%m}"
                self._counts[month][quarters] += 1
                self._received[month, quarters] += received

    def judgement(self, zone: ZoneInfo | None) -> Judgement:
        """Judge the setting's zone, None for a setting that is not set, by what was seen so far."""
        with self._lock:
            sightings = tuple(self._sightings())
            rows = sum(counts.total() for counts in self._counts.values())
        against = sum(seen.rows for seen in sightings if _offset(zone or _UTC, seen.at) != seen.offset)
        fits = None
        if against >= ENOUGH_ROWS:
            fits = False
        elif not against and sum(seen.rows for seen in sightings) >= ENOUGH_ROWS:
            fits = True
        return Judgement(zone, rows, sightings, fits)

    def news(self, zone: ZoneInfo | None) -> Judgement | None:
        """Return a judgement once: the first time that the setting's zone is seen not to fit."""
        if self._told:
            return None
        judgement = self.judgement(zone)
        with self._lock:
            if judgement.fits is not False or self._told:
                return None
            self._told = True
        return judgement

    def _sightings(self) -> Iterator[Sighting]:
        for month in sorted(self._counts):
            counts = self._counts[month]
            [(quarters, rows)] = counts.most_common(1)
            if quarters is not None and counts.total() >= ENOUGH_IN_A_MONTH and rows >= MAJORITY * counts.total():
                # Their middle lies in the season that they belong to, also where the clock changes in this month.
                middle = _EPOCH + timedelta(milliseconds=self._received[month, quarters] // rows)
                yield Sighting(timedelta(minutes=15 * quarters), middle, rows)


def stored_days(lines: Iterable[bytes]) -> set[date]:
    """Return the days of the stored wall clock in some lines; lines without a time are ignored."""
    days = set()
    for line in lines:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError, UnusableTime):
            days.add((_EPOCH + timedelta(milliseconds=_utc.instant(bytes(_read(line).properties.time)))).date())
    return days


def offset_text(offset: timedelta) -> str:
    """Spell an offset as `UTC+05:30`, none as `UTC`."""
    if not offset:
        return "UTC"
    hours, minutes = divmod(abs(offset) // timedelta(minutes=1), 60)
    return f"UTC{'-' if offset < timedelta() else '+'}{hours:02}:{minutes:02}"


def _shown_by(line: bytes) -> tuple[int | None, int] | None:
    """Return what one line shows of the offset.

    Returns:
        How many quarters of an hour `time` is ahead of the receipt, None for no such number, and the receipt in ms; or
        None for a line that shows nothing: no event, imported, or dated by a clock that knows whole minutes only, as
        counts for an hour are, which are sent when it is over.
    """
    try:
        times = _read(line).properties
        time = _utc.instant(bytes(times.time))
        received, is_receipt = _seen_by_mixpanel(times)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, UnusableTime):
        return None
    if time % _MINUTE == 0 or bytes(times.imported) == b"true":
        return None
    quarters = round((time - received) / _QUARTER)
    is_offset = _EARLIEST <= quarters <= _LATEST
    # An old event that was imported need not say so: then it was processed long after its time.
    if not is_receipt and not is_offset:
        return None
    is_prompt = abs(time - received - quarters * _QUARTER) <= _PROMPT
    return quarters if is_prompt and is_offset else None, received


def _seen_by_mixpanel(times: _Times) -> tuple[int, bool]:
    """Return when Mixpanel received an event, or else processed it, in ms; and whether it is the receipt."""
    try:
        return _utc.instant(bytes(times.received)), True
    except UnusableTime:
        return _utc.instant(bytes(times.processed)), False


def _offset(zone: ZoneInfo, at: datetime) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()
