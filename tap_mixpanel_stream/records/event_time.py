"""`time`, whatever it came as, as an instant in UTC.

Mixpanel writes seconds, milliseconds where asked to, and in projects from before 2023 the wall clock of the project's
zone as if it were UTC. The events of such a project need that zone: a wall clock is then put back to UTC. In the hour
that the clock shows twice, the instant nearest to Mixpanel's own time of receipt is taken, or of processing where a row
lacks that one, as rows of 2020 do; in the hour that the clock leaves out, it moves forward.

The exact way is for any value. The quick one is a table look-up: the text of a whole second is the text of its quarter
of an hour and of its place in it, in every zone whose offset is a number of quarters, which since 1972 is every zone.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

from .members import read_string

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

MILLISECONDS_FROM = 100_000_000_000
"""A `time` this large, either side of zero, counts milliseconds; as seconds it would lie past the year 5138."""

QUARTER = 900
"""Seconds in a quarter of an hour."""

QUARTERS_A_DAY = 96

Quarter = tuple[int, bytes, list[bytes]]
"""A quarter of an hour: when it began, in seconds since 1970 in UTC; its text up to `T14:`; `MM:SS` for its seconds."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # A wall clock: the zone is what has to be found.
_MILLISECOND = timedelta(milliseconds=1)
_FIRST_INSTANT = (datetime.min - _EPOCH) // _MILLISECOND  # noqa: DTZ901
_LAST_INSTANT = (datetime.max - _EPOCH) // _MILLISECOND  # noqa: DTZ901
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_DIGITS_WITHIN_REASON = 18
MOST_QUARTERS = 20_000
"""Quarters of an hour whose spelling is kept, about 200 days."""
_PROCESSED_WITHIN = 24 * 3600 * 1000
"""Milliseconds from an event within which its processing settles the doubled hour. An import comes any time later."""
_SECONDS = [[b"%02d:%02d" % divmod(second, 60) for second in range(of, of + QUARTER)] for of in range(0, 3600, QUARTER)]


class UnusableTime(ValueError):  # noqa: N818  # The errors of this package are named after what they are about.
    """A `time` that is no instant; the message says why."""


def instant_text(instant: int) -> bytes:
    """Spell an instant the one way this tap writes it.

    Args:
        instant: milliseconds since 1970 in UTC, within the years 1 to 9999.

    Returns:
        Such as `2024-01-15T14:20:00+00:00`, with `.123` behind the seconds where they are not whole.
    """
    seconds, milliseconds = divmod(instant, 1000)
    number, second = divmod(seconds, QUARTER)
    _, until_hour, of_quarter = _utc_quarter(number)
    return b"%b%b%b+00:00" % (until_hour, of_quarter[second], b".%03d" % milliseconds if milliseconds else b"")


@lru_cache(MOST_QUARTERS)
def _utc_quarter(number: int) -> Quarter:
    start = _EPOCH + timedelta(seconds=number * QUARTER)
    spelled = start.isoformat(timespec="hours").encode() + b":"
    return number * QUARTER, spelled, _SECONDS[start.minute * 60 // QUARTER]


def quarter_of(value: bytes) -> int:
    """The quarter of an hour since 1970 that the stored clock shows.

    Args:
        value: the JSON text of `time`.

    Raises:
        UnusableTime: it is no number and no text of one.
    """
    return _milliseconds(value) // (1000 * QUARTER)


class EventClock:
    """Reads the `time` of the events of one project.

    Args:
        zone: the zone whose wall clock the project stores; None for UTC.
    """

    def __init__(self, zone: ZoneInfo | None = None) -> None:
        self._zone = None if zone is None or zone.key in {"UTC", "Etc/UTC"} else zone

    def instant(self, value: bytes, received: bytes | None = None, processed: bytes | None = None) -> int:
        """Read a `time` of any kind.

        Args:
            value: the value's JSON text.
            received: the JSON text of `$mp_api_timestamp_ms`, which settles the doubled hour.
            processed: the JSON text of `mp_processing_time_ms`, which settles it where `received` is no number.

        Returns:
            The instant, in milliseconds since 1970 in UTC.

        Raises:
            UnusableTime: it is no number and no text of one, or lies outside the years 1 to 9999.
        """
        instant = _milliseconds(value)
        if _FIRST_INSTANT <= instant <= _LAST_INSTANT and self._zone is not None:
            instant -= self._offset(self._zone, instant, received, processed)
        if not _FIRST_INSTANT <= instant <= _LAST_INSTANT:
            raise UnusableTime("`time` is outside the years 1 to 9999")
        return instant

    def quarter(self, number: int) -> Quarter | None:
        """Spell a quarter of an hour, or None where its seconds have to be read one by one.

        Args:
            number: seconds of the stored clock since 1970, over 900; within the years 2 to 9998.
        """
        if self._zone is None:
            return _utc_quarter(number)
        first = _EPOCH + timedelta(seconds=number * QUARTER)
        last = first + timedelta(seconds=QUARTER - 1)
        offsets = {_offset_at(self._zone, clock, fold) for clock in (first, last) for fold in (0, 1)}
        quarters, beyond = divmod(offsets.pop(), timedelta(seconds=QUARTER))
        # More than one offset: the clock changes here, or shows these minutes twice or not at all.
        return None if offsets or beyond else _utc_quarter(number - quarters)

    def _offset(self, zone: ZoneInfo, wall: int, received: bytes | None, processed: bytes | None) -> int:
        """Milliseconds the zone was ahead of UTC when its clock showed this."""
        clock = _EPOCH + wall * _MILLISECOND
        first, second = (_offset_at(zone, clock, fold) // _MILLISECOND for fold in (0, 1))
        if first <= second:
            # The clock shows this once. Or it leaves this out, and moves forward by the offset that was in force.
            return first
        earlier, later = wall - first, wall - second
        at = None if received is None else _number(received)
        if at is None and processed is not None:
            at = _number(processed)
            if at is not None and not earlier - _PROCESSED_WITHIN <= at <= later + _PROCESSED_WITHIN:
                at = None
        # With nothing to choose by, the earlier one is taken.
        return first if at is None or abs(at - earlier) <= abs(at - later) else second


def _offset_at(zone: ZoneInfo, clock: datetime, fold: int) -> timedelta:
    offset = zone.utcoffset(clock.replace(fold=fold))
    return offset if offset is not None else timedelta()


def _milliseconds(value: bytes) -> int:
    if value.isdigit() and len(value) <= _DIGITS_WITHIN_REASON:
        whole = int(value)
        return whole if whole >= MILLISECONDS_FROM else whole * 1000
    number = _number(value)
    if number is None:
        raise UnusableTime("`time` is no number")
    return round(number if abs(number) >= MILLISECONDS_FROM else number * 1000)


def _number(value: bytes) -> Fraction | None:
    """The number that a JSON text is or spells, exactly; None where it is none.

    What is too large or too small for any clock comes back as a number that is so as well, not digit by digit.
    """
    text = read_string(value).strip() if value.startswith(b'"') else value.decode()
    if not _NUMBER.fullmatch(text):
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:  # An exponent beyond all measure.
        return None
    if number.is_zero() or number.adjusted() < -_DIGITS_WITHIN_REASON:
        return Fraction(0)
    if number.adjusted() > _DIGITS_WITHIN_REASON:
        return Fraction(10**_DIGITS_WITHIN_REASON)
    return Fraction(number)
