"""Convert an event's `time` to an instant in UTC.

Mixpanel sends seconds, or milliseconds on request. Projects created before 2023 store local wall-clock time in the
project's time zone as if it were UTC, so their events need that zone to be converted.

When the clocks go back, an hour occurs twice. The converter then uses the instant closer to the time at which Mixpanel
received the event. Events without that time (some from 2020) have a processing time, which is used instead. When the
clocks go forward, a time in the skipped hour moves forward with them.

The text of each hour and the offset of each quarter of an hour are cached, since many events share them.
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
"""An absolute `time` of at least this is in milliseconds; in seconds it would be after the year 5138."""

_FIRST_USUAL, _LAST_USUAL = 10**12, 10**13
"""The milliseconds of the years 2001 to 2286, for which a float is exact enough to round."""

_BELOW_A_HALF = 0.49

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # Naive, as wall-clock time is.
_MILLISECOND = timedelta(milliseconds=1)
_FIRST_INSTANT = (datetime.min - _EPOCH) // _MILLISECOND  # noqa: DTZ901
_LAST_INSTANT = (datetime.max - _EPOCH) // _MILLISECOND  # noqa: DTZ901
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_MAX_DIGITS = 18
_DAY = 24 * 3600 * 1000
_QUARTER_HOUR = 900 * 1000
"""In milliseconds."""
_CACHE_SIZE = 20_000
"""Number of hours whose text, or quarters of an hour whose offset, is cached."""
_MAX_PROCESSING_DELAY = 24 * 3600 * 1000
"""How far the processing time may be from an event, in milliseconds, to resolve a repeated hour.

An imported event can be processed at any later time.
"""
_TWO_DIGITS = [f"{number:02}" for number in range(60)]
_FRACTIONS = ["", *(f".{milliseconds:03}" for milliseconds in range(1, 1000))]


class UnusableTime(NotARecord):
    """`time` is missing or is not an instant. The message gives the reason."""


def instant_text(instant: int) -> str:
    """Format an instant for a record.

    Args:
        instant: Milliseconds since 1970 in UTC, within the years 1 to 9999.

    Returns:
        ISO 8601 text such as `2024-01-15T14:20:00+00:00`, or `2024-01-15T14:20:00.123+00:00` with milliseconds.
    """
    seconds = instant // 1000
    hour, minute, second = _hour_text(seconds // 3600), _TWO_DIGITS[seconds // 60 % 60], _TWO_DIGITS[seconds % 60]
    return f"{hour}{minute}:{second}{_FRACTIONS[instant % 1000]}+00:00"


@lru_cache(_CACHE_SIZE)
def _hour_text(hour: int) -> str:
    return (_EPOCH + timedelta(hours=hour)).isoformat(timespec="hours") + ":"


def stored_day(value: bytes) -> int:
    """Return the day of a stored `time`, without time zone conversion, in days since 1970.

    Args:
        value: The JSON text of `time`.

    Raises:
        UnusableTime: `time` is neither a number nor a string with one.
    """
    return _milliseconds(value) // _DAY


class EventClock:
    """Converts the `time` of the events of one project.

    Args:
        zone: The time zone in which the project stores `time`; None for UTC.
    """

    def __init__(self, zone: ZoneInfo | None = None) -> None:
        self._zone = None if zone is None or zone.key in {"UTC", "Etc/UTC"} else zone

    def instant(self, value: bytes, others: Members | None = None) -> int:
        """Convert a `time` to an instant.

        Args:
            value: The JSON text of `time`.
            others: The other properties of the event. `$mp_api_timestamp_ms`, or else `mp_processing_time_ms`,
                resolves an hour that occurs twice.

        Returns:
            Milliseconds since 1970 in UTC.

        Raises:
            UnusableTime: `time` is neither a number nor a string with one, or is outside the years 1 to 9999.
        """
        instant = _milliseconds(value)
        if self._zone is not None and _FIRST_INSTANT <= instant <= _LAST_INSTANT:
            offset = _constant_offset(self._zone, instant // _QUARTER_HOUR)
            instant -= self._offset(self._zone, instant, others or {}) if offset is None else offset
        if not _FIRST_INSTANT <= instant <= _LAST_INSTANT:
            raise UnusableTime("`time` is outside the years 1 to 9999")
        return instant

    def _offset(self, zone: ZoneInfo, wall: int, others: Members) -> int:
        """Return the zone's UTC offset at a wall-clock time, both in milliseconds."""
        clock = _EPOCH + wall * _MILLISECOND
        first, second = (_offset_at(zone, clock, fold) // _MILLISECOND for fold in (0, 1))
        if first <= second:
            # The time occurs once, or is skipped. A skipped time takes the offset from before the clock change, which
            # moves it forward.
            return first
        earlier, later = wall - first, wall - second
        at = _number_in(others, "$mp_api_timestamp_ms")
        if at is None:
            at = _number_in(others, "mp_processing_time_ms")
            if at is not None and not earlier - _MAX_PROCESSING_DELAY <= at <= later + _MAX_PROCESSING_DELAY:
                at = None
        # If there is no time to compare with, use the earlier instant.
        return first if at is None or abs(at - earlier) <= abs(at - later) else second


@lru_cache(_CACHE_SIZE)
def _constant_offset(zone: ZoneInfo, quarter: int) -> int | None:
    """Return a zone's UTC offset throughout a quarter of an hour of wall-clock time, in milliseconds.

    None if the offset changes in that quarter, or if any of it is repeated or skipped.
    """
    first = _EPOCH + quarter * _QUARTER_HOUR * _MILLISECOND
    last = first + (_QUARTER_HOUR - 1) * _MILLISECOND
    offsets = {_offset_at(zone, clock, fold) for clock in (first, last) for fold in (0, 1)}
    return offsets.pop() // _MILLISECOND if len(offsets) == 1 else None


def _offset_at(zone: ZoneInfo, clock: datetime, fold: int) -> timedelta:
    offset = zone.utcoffset(clock.replace(fold=fold))
    return offset if offset is not None else timedelta()


def _milliseconds(value: bytes) -> int:
    if value.isdigit() and len(value) <= _MAX_DIGITS:
        whole = int(value)
        return whole if whole >= MILLISECONDS_FROM else whole * 1000
    try:
        number = float(value) * 1000
    except ValueError:
        return _exact_milliseconds(value)
    if _FIRST_USUAL <= number < _LAST_USUAL:
        nearest = round(number)
        # A float of this size is exact to about a thousandth: enough to round, except near one half.
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
    """Return the exact value of a JSON number, or of a string with a number; None for other values.

    A number too large for any valid time becomes 10**18, and a tiny one 0, because expanding a huge exponent would use
    up memory.
    """
    text = read_string(value).strip() if value.startswith(b'"') else value.decode()
    if not _NUMBER.fullmatch(text):
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:  # The exponent exceeds the limits of `Decimal`.
        return None
    if number.is_zero() or number.adjusted() < -_MAX_DIGITS:
        return Fraction(0)
    if number.adjusted() > _MAX_DIGITS:
        return Fraction(10**_MAX_DIGITS)
    return Fraction(number)
