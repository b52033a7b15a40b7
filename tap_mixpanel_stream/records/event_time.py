"""`time` in any form -> an instant in UTC.

Mixpanel writes seconds, milliseconds where asked to, and in projects from before 2023 the wall clock of the project's
zone as if it were UTC. The events of such a project need that zone: a wall clock is then put back to UTC. In the hour
that the clock shows twice, the instant nearest to Mixpanel's own time of receipt is taken, or of processing where a row
lacks that one, as rows of 2020 do; in the hour that the clock leaves out, it moves forward.

What an instant is made of repeats: hours and their seconds, and offsets by the quarter of an hour. So these are kept.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

from .json_objects import NotARecord, read_string

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from .json_objects import Members

MILLISECONDS_FROM = 100_000_000_000
"""A `time` this large, either side of zero, counts milliseconds; as seconds it would lie past the year 5138."""

_FIRST_USUAL, _LAST_USUAL = 10**12, 10**13
"""Milliseconds from 2001 to 2286."""

_BELOW_A_HALF = 0.49

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # A wall clock: the zone is what has to be found.
_MILLISECOND = timedelta(milliseconds=1)
_FIRST_INSTANT = (datetime.min - _EPOCH) // _MILLISECOND  # noqa: DTZ901
_LAST_INSTANT = (datetime.max - _EPOCH) // _MILLISECOND  # noqa: DTZ901
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_DIGITS_WITHIN_REASON = 18
_DAY = 24 * 3600 * 1000
_QUARTER = 900 * 1000
"""Milliseconds in a day, and in a quarter of an hour."""
_KEPT = 20_000
"""Hours, or quarters of one, whose text or offset is kept."""
_PROCESSED_WITHIN = 24 * 3600 * 1000
"""Milliseconds from an event within which its processing settles the doubled hour. An import comes any time later."""
_TWO_DIGITS = [f"{number:02}" for number in range(60)]
_FRACTIONS = ["", *(f".{milliseconds:03}" for milliseconds in range(1, 1000))]


class UnusableTime(NotARecord):
    """A `time` that is not an instant; the message says why."""


def instant_text(instant: int) -> str:
    """Spell an instant the one way this tap writes it.

    Args:
        instant: Milliseconds since 1970 in UTC, within the years 1 to 9999.

    Returns:
        Such as `2024-01-15T14:20:00+00:00`, with `.123` behind the seconds where they are not whole.
    """
    seconds = instant // 1000
    hour, minute, second = _until_minute(seconds // 3600), _TWO_DIGITS[seconds // 60 % 60], _TWO_DIGITS[seconds % 60]
    return f"{hour}{minute}:{second}{_FRACTIONS[instant % 1000]}+00:00"


@lru_cache(_KEPT)
def _until_minute(hour: int) -> str:
    return (_EPOCH + timedelta(hours=hour)).isoformat(timespec="hours") + ":"


def stored_day(value: bytes) -> int:
    """Return the day that the stored wall clock shows, in days since 1970.

    Args:
        value: The JSON text of `time`.

    Raises:
        UnusableTime: It is no number and no text of one.
    """
    return _milliseconds(value) // _DAY


class EventClock:
    """Reads the `time` of the events of one project.

    Args:
        zone: The zone whose wall clock the project stores; None for UTC.
    """

    def __init__(self, zone: ZoneInfo | None = None) -> None:
        self._zone = None if zone is None or zone.key in {"UTC", "Etc/UTC"} else zone

    def instant(self, value: bytes, others: Members | None = None) -> int:
        """Read a `time` of any kind.

        Args:
            value: the value's JSON text.
            others: the event's other properties. In the doubled hour `$mp_api_timestamp_ms` settles which it is, and
                `mp_processing_time_ms` where that is no number.

        Returns:
            The instant, in milliseconds since 1970 in UTC.

        Raises:
            UnusableTime: it is no number and no text of one, or lies outside the years 1 to 9999.
        """
        instant = _milliseconds(value)
        if self._zone is not None and _FIRST_INSTANT <= instant <= _LAST_INSTANT:
            offset = _steady_offset(self._zone, instant // _QUARTER)
            instant -= self._offset(self._zone, instant, others or {}) if offset is None else offset
        if not _FIRST_INSTANT <= instant <= _LAST_INSTANT:
            raise UnusableTime("`time` is outside the years 1 to 9999")
        return instant

    def _offset(self, zone: ZoneInfo, wall: int, others: Members) -> int:
        """Return the milliseconds that the zone was ahead of UTC when its clock showed this."""
        clock = _EPOCH + wall * _MILLISECOND
        first, second = (_offset_at(zone, clock, fold) // _MILLISECOND for fold in (0, 1))
        if first <= second:
            # The clock shows this once. Or it leaves this out, and moves forward by the offset that was in force.
            return first
        earlier, later = wall - first, wall - second
        at = _number_in(others, "$mp_api_timestamp_ms")
        if at is None:
            at = _number_in(others, "mp_processing_time_ms")
            if at is not None and not earlier - _PROCESSED_WITHIN <= at <= later + _PROCESSED_WITHIN:
                at = None
        # With nothing to choose by, the earlier one is taken.
        return first if at is None or abs(at - earlier) <= abs(at - later) else second


@lru_cache(_KEPT)
def _steady_offset(zone: ZoneInfo, quarter: int) -> int | None:
    """Return the milliseconds that a zone was ahead of UTC throughout a quarter of an hour of its clock.

    None where the clock changes in it, or shows some of it twice or not at all.
    """
    first = _EPOCH + quarter * _QUARTER * _MILLISECOND
    last = first + (_QUARTER - 1) * _MILLISECOND
    offsets = {_offset_at(zone, clock, fold) for clock in (first, last) for fold in (0, 1)}
    return offsets.pop() // _MILLISECOND if len(offsets) == 1 else None


def _offset_at(zone: ZoneInfo, clock: datetime, fold: int) -> timedelta:
    offset = zone.utcoffset(clock.replace(fold=fold))
    return offset if offset is not None else timedelta()


def _milliseconds(value: bytes) -> int:
    if value.isdigit() and len(value) <= _DIGITS_WITHIN_REASON:
        whole = int(value)
        return whole if whole >= MILLISECONDS_FROM else whole * 1000
    try:
        number = float(value) * 1000
    except ValueError:
        return _exact_milliseconds(value)
    if _FIRST_USUAL <= number < _LAST_USUAL:
        nearest = round(number)
        # Of numbers of this size a float is exact to a thousandth: enough to round by, but about a half.
        if abs(number - nearest) < _BELOW_A_HALF:
            return nearest
    return _exact_milliseconds(value)


def _exact_milliseconds(value: bytes) -> int:
    number = _number(value)
    if number is None:
        raise UnusableTime("`time` is not a number")
    return round(number if abs(number) >= MILLISECONDS_FROM else number * 1000)


def _number_in(members: Members, key: str) -> Fraction | None:
    value = members.get(key)
    return None if value is None else _number(bytes(value))


def _number(value: bytes) -> Fraction | None:
    """Return the exact number that a JSON text is or spells; None where it is not a number.

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
