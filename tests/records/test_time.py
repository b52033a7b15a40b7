from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, strategies as st

from tap_mixpanel_stream.records.event_time import (
    EventClock,
    UnusableTime,
    _constant_offset,
    _hour_text,
    instant_text,
)
from tests.records.reference import InvalidEvent, instant_text as reference_text, milliseconds

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [
    None,
    BERLIN,
    *map(
        ZoneInfo,
        (
            "UTC",
            "America/New_York",
            "Asia/Kolkata",
            "Asia/Kathmandu",
            "Australia/Lord_Howe",
            "Pacific/Apia",
            "Africa/Monrovia",
        ),
    ),
]


def read(value: str, received: str | None = None, zone: ZoneInfo | None = None, processed: str | None = None) -> str:
    return instant_text(EventClock(zone).instant(value.encode(), times_at_mixpanel(received, processed)))


def times_at_mixpanel(received: str | None, processed: str | None) -> dict[str, msgspec.Raw]:
    times = {"$mp_api_timestamp_ms": received, "mp_processing_time_ms": processed}
    return {name: msgspec.Raw(text) for name, text in times.items() if text is not None}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1705328400", "2024-01-15T14:20:00+00:00"),
        ("1705328400000", "2024-01-15T14:20:00+00:00"),
        ("1705328400007", "2024-01-15T14:20:00.007+00:00"),
        ("1705328400.0", "2024-01-15T14:20:00+00:00"),
        ("1705328400.1234", "2024-01-15T14:20:00.123+00:00"),
        ("1705328400.9999", "2024-01-15T14:20:01+00:00"),
        ("1705328400123.4", "2024-01-15T14:20:00.123+00:00"),
        ("1.7053284e9", "2024-01-15T14:20:00+00:00"),
        ('"1705328400"', "2024-01-15T14:20:00+00:00"),
        ('" 1705328400.5 "', "2024-01-15T14:20:00.500+00:00"),
        ('"1705328400000"', "2024-01-15T14:20:00+00:00"),
        ('"\\u0031705328400"', "2024-01-15T14:20:00+00:00"),
        ("0", "1970-01-01T00:00:00+00:00"),
        ("-0.0", "1970-01-01T00:00:00+00:00"),
        ("1e-400", "1970-01-01T00:00:00+00:00"),
        ("-1", "1969-12-31T23:59:59+00:00"),
        ("-0.001", "1969-12-31T23:59:59.999+00:00"),
        ("99999999999", "5138-11-16T09:46:39+00:00"),
        ("100000000000", "1973-03-03T09:46:40+00:00"),
        ("-100000000000", "1966-10-31T14:13:20+00:00"),
        ("-62135596800", "0001-01-01T00:00:00+00:00"),
        ("253402300799999", "9999-12-31T23:59:59.999+00:00"),
    ],
)
def test_time_formats(value: str, text: str) -> None:
    """`time` may be seconds or milliseconds, as an integer, float or numeric string."""
    assert read(value) == text


@pytest.mark.parametrize(
    "value",
    [
        *(
            "null",
            "true",
            "false",
            "[]",
            "[1705328400]",
            "{}",
            '""',
            '"x"',
            '"2024-01-15T14:20:00"',
            '"NaN"',
            '"Infinity"',
        ),
        *('"1_000"', '"0x10"', '"١٧٠٥٣٢٨٤٠٠"', '"1705328400 s"', '"1e99999999999999999999"'),
    ],
)
def test_time_must_be_a_number(value: str) -> None:
    """A `time` that is not a number is malformed."""
    with pytest.raises(UnusableTime, match="not a number"):
        read(value)


@pytest.mark.parametrize(
    "value", ["-62135596801", "253402300800000", "1e400", "-1e400", "1e99999", str(2**70), "9" * 5000, f'"{2**70}"']
)
@pytest.mark.parametrize("zone", [None, BERLIN])
def test_time_must_be_in_the_years_1_to_9999(value: str, zone: ZoneInfo | None) -> None:
    """A `time` outside the years 1 to 9999 is malformed."""
    with pytest.raises(UnusableTime, match="years 1 to 9999"):
        read(value, zone=zone)


def test_time_in_utc_must_be_in_the_years_1_to_9999() -> None:
    """A time that the time zone moves out of the years 1 to 9999 is malformed."""
    with pytest.raises(UnusableTime, match="years 1 to 9999"):
        read("-62135596800", zone=ZoneInfo("Asia/Tokyo"))
    with pytest.raises(UnusableTime, match="years 1 to 9999"):
        read("253402300799999", zone=ZoneInfo("America/New_York"))


def wall(clock: str) -> str:
    return str(int(datetime.fromisoformat(clock).replace(tzinfo=UTC).timestamp()))


def at(instant: str) -> str:
    return str(int(datetime.fromisoformat(instant).timestamp() * 1000))


def test_local_time_is_converted_to_utc() -> None:
    """A local time of the project is converted to UTC, in winter and in summer."""
    assert read(wall("2022-01-15T14:20:00"), zone=BERLIN) == "2022-01-15T13:20:00+00:00"
    assert read(wall("2022-07-15T14:20:00"), zone=BERLIN) == "2022-07-15T12:20:00+00:00"
    assert read(wall("2022-07-15T14:20:00"), zone=ZoneInfo("Asia/Kathmandu")) == "2022-07-15T08:35:00+00:00"


@pytest.mark.parametrize(
    ("received", "text"),
    [
        (None, "2022-10-30T00:30:00+00:00"),
        ("null", "2022-10-30T00:30:00+00:00"),
        ('"x"', "2022-10-30T00:30:00+00:00"),
        (at("2022-10-30T00:30:05+00:00"), "2022-10-30T00:30:00+00:00"),
        (at("2022-10-30T01:30:05+00:00"), "2022-10-30T01:30:00+00:00"),
        (at("2022-10-30T01:00:00+00:00"), "2022-10-30T00:30:00+00:00"),
        (f'"{at("2022-10-30T01:30:05+00:00")}"', "2022-10-30T01:30:00+00:00"),
        (at("2022-11-03T01:30:05+00:00"), "2022-10-30T01:30:00+00:00"),
    ],
)
def test_the_repeated_hour_uses_the_receipt_time(received: str | None, text: str) -> None:
    """In the repeated hour the instant nearest to the receipt is used."""
    assert read(wall("2022-10-30T02:30:00"), received, BERLIN) == text


@pytest.mark.parametrize(
    ("received", "processed", "text"),
    [
        (None, at("2020-11-01T08:30:01+00:00"), "2020-11-01T08:30:00+00:00"),
        (None, at("2020-11-01T09:30:01+00:00"), "2020-11-01T09:30:00+00:00"),
        ("null", at("2020-11-01T09:30:01+00:00"), "2020-11-01T09:30:00+00:00"),
        # The receipt time has priority.
        (at("2020-11-01T08:30:01+00:00"), at("2020-11-01T09:40:00+00:00"), "2020-11-01T08:30:00+00:00"),
        # An import shows nothing: the earlier instant is used, as without any other time.
        (None, at("2020-11-20T09:30:01+00:00"), "2020-11-01T08:30:00+00:00"),
        (None, at("2019-11-20T09:30:01+00:00"), "2020-11-01T08:30:00+00:00"),
        (None, '"x"', "2020-11-01T08:30:00+00:00"),
    ],
)
def test_the_repeated_hour_without_a_receipt_time(received: str | None, processed: str, text: str) -> None:
    """Rows of 2020 can have only `mp_processing_time_ms`, which is then used."""
    assert read(wall("2020-11-01T01:30:00"), received, ZoneInfo("America/Los_Angeles"), processed) == text


def test_the_skipped_hour_moves_forward() -> None:
    """A local time in the skipped hour is moved forward."""
    moved = read(wall("2022-03-27T02:30:00"), at("2022-03-27T00:30:00+00:00"), BERLIN)
    assert datetime.fromisoformat(moved).astimezone(BERLIN).isoformat() == "2022-03-27T03:30:00+02:00"


@given(st.integers(-62135596800000, 253402300799999))
def test_an_instant_has_one_format(instant: int) -> None:
    """Any instant is written like by the reference, with milliseconds only if not 0."""
    assert instant_text(instant) == reference_text(instant)


CHANGES = [
    int(wall(day))
    for day in ("2022-10-30T02:00:00", "2022-03-27T02:00:00", "2022-11-06T01:00:00", "2011-12-30T00:00:00")
]


@given(
    st.sampled_from(ZONES),
    st.one_of(
        st.integers(-(10**8), 4 * 10**9),
        st.builds(int.__add__, st.sampled_from(CHANGES), st.integers(-100_000, 100_000)),
    ),
    st.integers(-4_000_000, 4_000_000) | st.none(),
    st.integers(-100_000_000, 100_000_000) | st.none(),
)
def test_any_local_time_matches_the_reference(
    zone: ZoneInfo | None, second: int, lag: int | None, longer: int | None
) -> None:
    """Any local time of any zone is converted as by the naive reference."""
    received, processed = (None if late is None else str(second * 1000 + late) for late in (lag, longer))
    clock = EventClock(zone)
    expected = milliseconds(str(second), received, zone, processed)
    assert clock.instant(b"%d" % second, times_at_mixpanel(received, processed)) == expected


@given(
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.sampled_from(ZONES),
)
def test_any_number_matches_the_reference(value: str, zone: ZoneInfo | None) -> None:
    """Any number is a time or malformed, as by the naive reference."""
    try:
        expected = milliseconds(value, None, zone)
    except InvalidEvent:
        with pytest.raises(UnusableTime):
            EventClock(zone).instant(value.encode())
    else:
        assert EventClock(zone).instant(value.encode()) == expected


@given(st.integers(-62135596800, 253402300799), st.from_regex(r"\.[0-9]{1,20}", fullmatch=True))
def test_fractions_are_rounded_to_milliseconds(second: int, fraction: str) -> None:
    """Half a millisecond is rounded to even, also where a float is not precise enough."""
    for value in (f"{second}{fraction}", f"{second}000{fraction}", f"{second}.0005", f"{second}.00049999999999999"):
        try:
            expected = milliseconds(value, None, None)
        except InvalidEvent:
            continue
        assert EventClock().instant(value.encode()) == expected


def test_time_caches_are_bounded() -> None:
    """The caches of formatted minutes and of offsets are bounded."""
    for kept in (_hour_text, _constant_offset):
        assert kept.cache_info().maxsize == 20_000
