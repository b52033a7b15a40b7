"""The check that finds a wrong time zone in the data, without false alarms."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from tap_mixpanel_stream.records.timezone_check import MIN_EVENTS, TimezoneCheck, TimezoneFinding, offset_text

WINTER, SUMMER = datetime(2022, 1, 12, tzinfo=UTC), datetime(2022, 7, 13, tzinfo=UTC)
UTC_ZONE = ZoneInfo("UTC")
HOUR = 3_600_000
# Zones with quarter and half hours, with and without summer time, on both sides of UTC, and UTC itself.
ZONES = st.sampled_from(
    [
        *("UTC", "Europe/Berlin", "Europe/London", "America/New_York", "America/St_Johns", "Asia/Kolkata"),
        *("Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Chatham", "Africa/Lagos", "Asia/Tokyo"),
    ]
).map(ZoneInfo)


def event(time: object, received: object, **properties: object) -> bytes:
    return json.dumps(
        {"event": "E", "properties": {"time": time, "$mp_api_timestamp_ms": received, **properties}}
    ).encode()


def processed(time: object, at: object, **properties: object) -> bytes:
    """Return an event like those of 2020, without a receipt time."""
    return json.dumps({"event": "E", "properties": {"time": time, "mp_processing_time_ms": at, **properties}}).encode()


def prompt(rng: random.Random, begin: datetime, stored_in: ZoneInfo, *, in_ms: bool = False) -> bytes:
    """Return an event stored in a project's zone, received within 2 minutes or up to 30 s before its time."""
    received = int(begin.timestamp() * 1000) + rng.randrange(36 * HOUR)
    moment = received + rng.randrange(-120_000, 30_000)
    offset = datetime.fromtimestamp(moment / 1000, stored_in).utcoffset()
    assert offset is not None
    time = moment + offset // timedelta(milliseconds=1)
    if time % 60_000 < 1000:
        time += 1000
    return event(time if in_ms else time // 1000, received)


def late(rng: random.Random, begin: datetime) -> bytes:
    """Return an event of a UTC project that a device sent hours or days later."""
    received = int(begin.timestamp() * 1000) + rng.randrange(36 * HOUR)
    return event((received - rng.randrange(HOUR // 4, 120 * HOUR)) // 1000, received)


def skewed(rng: random.Random, begin: datetime) -> bytes:
    """Return an event from a device whose clock is wrong by up to 26 hours."""
    received = int(begin.timestamp() * 1000) + rng.randrange(36 * HOUR)
    return event((received + rng.randrange(-26 * HOUR, 26 * HOUR)) // 1000, received)


def judged(setting: ZoneInfo, lines: list[bytes]) -> TimezoneFinding:
    check = TimezoneCheck()
    check.add(lines)
    return check.finding(setting)


def wrong_at(setting: ZoneInfo, stored_in: ZoneInfo, at: datetime) -> bool:
    return at.astimezone(setting).utcoffset() != at.astimezone(stored_in).utcoffset()


@given(ZONES, ZONES, st.integers(0, 2**32), st.sampled_from([(WINTER,), (SUMMER,), (WINTER, SUMMER)]), st.booleans())
def test_a_wrong_zone_is_found_if_offsets_differ(
    setting: ZoneInfo, stored_in: ZoneInfo, seed: int, seasons: tuple[datetime, ...], in_ms: bool
) -> None:
    """A setting is wrong exactly if its offset differs from the project's in a sampled season."""
    rng = random.Random(seed)
    lines = [prompt(rng, begin, stored_in, in_ms=in_ms) for begin in seasons for _ in range(MIN_EVENTS)]
    noise = [make(rng, begin) for begin in seasons for make in (late, skewed) for _ in range(MIN_EVENTS // 6)]
    lines += noise
    rng.shuffle(lines)
    finding = judged(setting, lines)
    assert finding.fits is (not any(wrong_at(setting, stored_in, begin) for begin in seasons))
    assert {month.offset for month in finding.offsets} == {begin.astimezone(stored_in).utcoffset() for begin in seasons}
    for name in finding.matching_zones():
        assert not any(wrong_at(ZoneInfo(name), stored_in, begin) for begin in seasons)


@given(ZONES, st.integers(0, 2**32), st.integers(0, 2000), st.booleans())
def test_late_and_skewed_events_are_no_evidence(setting: ZoneInfo, seed: int, rows: int, are_late: bool) -> None:
    """Late events and wrong device clocks alone never contradict a setting."""
    rng = random.Random(seed)
    make = late if are_late else skewed
    assert judged(setting, [make(rng, WINTER) for _ in range(rows)]).fits is None


@given(ZONES, st.integers(0, 2**32))
def test_half_of_the_events_late_is_inconclusive(stored_in: ZoneInfo, seed: int) -> None:
    """With every second event late the check reaches no conclusion."""
    rng = random.Random(seed)
    lines = [line for _ in range(200) for line in (prompt(rng, WINTER, stored_in), late(rng, WINTER))]
    assert judged(UTC_ZONE, lines).fits is None


@given(st.lists(st.binary(max_size=30)))
def test_malformed_lines_are_no_evidence(lines: list[bytes]) -> None:
    """Lines that are not events are ignored."""
    check = TimezoneCheck()
    check.add(lines)
    assert check.finding(UTC_ZONE) == TimezoneFinding(UTC_ZONE, 0, (), None)


@pytest.mark.parametrize(
    "line",
    [
        event("soon", 1641988800000),
        event(None, 1641988800000),
        event(1641992405, "x"),
        b'{"event":"E","properties":{"time":1641992405}}',
        event(1641992405, 1641988800000, **{"$import": True}),
        # An hourly count, sent two minutes after the hour.
        event(1641992400, 1641988920000),
        b'{"event":"E","properties":' + b"[" * 100_000,
    ],
)
def test_rows_without_usable_times_are_ignored(line: bytes) -> None:
    """Rows without usable times, imports and hourly counts are ignored."""
    assert judged(UTC_ZONE, [line] * 60).events == 0


@pytest.mark.parametrize("time", [1641992405, 1641992405.25, "1641992405", 1641992405250, "1641992405250.0"])
def test_the_check_reads_time_like_the_records(time: object) -> None:
    """The check accepts every format of `time` that records accept."""
    finding = judged(UTC_ZONE, [event(time, 1641988800000)] * MIN_EVENTS)
    assert [month.offset for month in finding.offsets] == [timedelta(hours=1)]


def test_too_few_events_are_inconclusive() -> None:
    """Below `MIN_EVENTS` events the check reaches no conclusion."""
    line = event(1641992405, 1641988800000)
    assert judged(UTC_ZONE, [line] * (MIN_EVENTS - 1)).fits is None
    assert judged(UTC_ZONE, [line] * MIN_EVENTS).fits is False


def test_a_constant_delay_is_no_offset() -> None:
    """A constant delay that is no zone's offset is no evidence."""
    lines = [event((1641988800000 - 15 * HOUR) // 1000 + 5, 1641988800000)] * 200
    assert judged(UTC_ZONE, lines).fits is None


def test_a_month_with_a_clock_change() -> None:
    """In a month with a clock change, the offset of most of its days counts."""
    rng = random.Random(1)
    berlin = ZoneInfo("Europe/Berlin")
    lines = [prompt(rng, datetime(2022, 3, day, tzinfo=UTC), berlin) for day in range(1, 31) for _ in range(10)]
    finding = judged(UTC_ZONE, lines)
    assert finding.fits is False
    assert "Europe/Berlin" in finding.matching_zones()
    assert judged(berlin, lines).fits is True


def test_a_wrong_zone_is_reported_once() -> None:
    """A wrong zone is reported once."""
    check = TimezoneCheck()
    assert check.report_mismatch(UTC_ZONE) is None
    check.add([event(1641992405, 1641988800000)])
    assert check.report_mismatch(UTC_ZONE) is None
    check.add([event(1641992405, 1641988800000)] * MIN_EVENTS)
    assert check.report_mismatch(UTC_ZONE) is not None
    assert check.report_mismatch(UTC_ZONE) is None


def test_rows_without_a_receipt_use_processing_time() -> None:
    """Rows of 2020 can have only `mp_processing_time_ms`, which is then used."""
    lines = [processed(1580552525 + n - 8 * 3600, 1580552526000 + 1000 * n) for n in range(MIN_EVENTS)]
    finding = judged(UTC_ZONE, lines)
    assert [month.offset for month in finding.offsets] == [timedelta(hours=-8)]
    assert finding.fits is False
    assert judged(ZoneInfo("America/Los_Angeles"), lines).fits is True


def test_receipt_time_is_used_before_processing_time() -> None:
    """The receipt time is used if there is one, else the processing time."""
    line = event(1641992405, 1641988800000, mp_processing_time_ms=1641992405000)
    assert judged(UTC_ZONE, [line] * MIN_EVENTS).fits is False
    unread = event(1641992405, None, mp_processing_time_ms=1641988800000)
    assert judged(UTC_ZONE, [unread] * MIN_EVENTS).fits is False


@given(st.integers(0, 2**32), st.sampled_from([WINTER, SUMMER]))
def test_imported_rows_are_ignored(seed: int, begin: datetime) -> None:
    """Imported events are processed long after they happened and are no evidence."""
    rng = random.Random(seed)
    at = int(begin.timestamp() * 1000) + 30 * 24 * HOUR
    imported = [processed((at - rng.randrange(24 * HOUR, 900 * 24 * HOUR)) // 1000, at + n) for n in range(200)]
    assert judged(UTC_ZONE, imported).events == 0
    prompt_rows = [prompt(rng, begin, ZoneInfo("Asia/Tokyo")) for _ in range(MIN_EVENTS)]
    assert judged(UTC_ZONE, imported + prompt_rows).fits is False


def test_an_unset_zone_is_reported_as_not_set() -> None:
    """Without `project_timezone` the message says that it is not set."""
    line = event(1641992405, 1641988800000)
    check = TimezoneCheck()
    check.add([line] * MIN_EVENTS)
    text = str(check.finding(None))
    assert text.startswith("project_timezone is not set, but 50 of 50")
    assert "or to UTC" in text
    assert check.lines == MIN_EVENTS


@pytest.mark.parametrize(
    ("minutes", "text"), [(0, "UTC"), (330, "UTC+05:30"), (-210, "UTC-03:30"), (-720, "UTC-12:00"), (845, "UTC+14:05")]
)
def test_an_offset_is_formatted_with_its_sign(minutes: int, text: str) -> None:
    """An offset is written like UTC+05:30; zero is UTC."""
    assert offset_text(timedelta(minutes=minutes)) == text


@pytest.mark.parametrize(
    ("setting", "stored_in", "seasons", "says"),
    [
        ("UTC", "Europe/Berlin", [WINTER], ["project_timezone is UTC", "UTC+01:00 in 2022-01", "Europe/Berlin"]),
        (
            "UTC",
            "Europe/Berlin",
            [WINTER, SUMMER],
            ["UTC+01:00 in 2022-01 and UTC+02:00 in 2022-07", "Project Settings", "Europe/Berlin"],
        ),
        (
            "Europe/Berlin",
            "UTC",
            [SUMMER],
            ["project_timezone is Europe/Berlin", "UTC in 2022-07", "remove project_time"],
        ),
        ("UTC", "Europe/London", [WINTER, SUMMER], ["UTC in 2022-01 and UTC+01:00 in 2022-07", "Europe/London"]),
        ("Europe/Berlin", "Asia/Kolkata", [WINTER], ["UTC+05:30 in 2022-01", "Asia/Kolkata"]),
    ],
)
def test_the_message_names_setting_offsets_and_remedy(
    setting: str, stored_in: str, seasons: list[datetime], says: list[str]
) -> None:
    """The message names the setting, the offsets seen and the remedy, on one line."""
    rng = random.Random(2)
    lines = [prompt(rng, begin, ZoneInfo(stored_in)) for begin in seasons for _ in range(60)]
    text = str(judged(ZoneInfo(setting), lines))
    assert [words for words in says if words not in text] == []
    assert "\n" not in text


def test_offsets_of_no_single_zone() -> None:
    """Offsets that no zone combines mean that the project's zone was probably changed."""
    rng = random.Random(3)
    lines = [prompt(rng, WINTER, ZoneInfo("Asia/Tokyo")) for _ in range(60)]
    lines += [prompt(rng, SUMMER, ZoneInfo("America/New_York")) for _ in range(60)]
    finding = judged(UTC_ZONE, lines)
    assert finding.matching_zones() == []
    assert "was probably changed" in str(finding)


def test_a_few_contradicting_events_are_inconclusive() -> None:
    """A few events against a confirmed setting make the result inconclusive."""
    rng = random.Random(4)
    berlin = ZoneInfo("Europe/Berlin")
    lines = [prompt(rng, WINTER, UTC_ZONE) for _ in range(200)]
    few = [prompt(rng, SUMMER, berlin) for _ in range(MIN_EVENTS - 1)]
    assert judged(UTC_ZONE, lines).fits is True
    assert judged(UTC_ZONE, lines + few).fits is None
    assert judged(UTC_ZONE, [*lines, *few, prompt(rng, SUMMER, berlin)]).fits is False
