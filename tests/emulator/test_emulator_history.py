from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import FixedProject, SyntheticProject

DAY = date(2024, 3, 1)
NEXT = date(2024, 3, 2)
LATER = datetime(2025, 1, 1, tzinfo=UTC)


def rows(
    project: SyntheticProject, first: date, last: date | None = None, now: datetime = LATER
) -> list[dict[str, Any]]:
    return [json.loads(line)["properties"] for line in project.lines(first, last or first, now=now)]


def test_a_seed_defines_the_project() -> None:
    """The same seed gives the same lines, another seed gives others."""
    one, same, other = (list(SyntheticProject(seed).lines(DAY, DAY, now=LATER)) for seed in (1, 1, 2))
    assert one == same
    assert not set(one) & set(other)


def test_a_day_is_independent_of_the_window() -> None:
    """The lines of a day are the same in any window."""
    project = SyntheticProject(events_per_day=700)
    alone = [*project.lines(DAY, DAY, now=LATER), *project.lines(NEXT, NEXT, now=LATER)]
    assert list(project.lines(DAY, NEXT, now=LATER)) == alone
    own = set(alone)
    assert [line for line in project.lines(date(2024, 2, 25), date(2024, 3, 5), now=LATER) if line in own] == alone


def test_a_day_has_events_per_day_lines() -> None:
    """A day has exactly `events_per_day` lines."""
    for count in (0, 1, 511, 512, 513, 2000):
        assert len(list(SyntheticProject(events_per_day=count).lines(DAY, DAY, now=LATER))) == count


def test_lines_are_between_first_and_last_day() -> None:
    """There are no lines before the first day and after the last."""
    project = SyntheticProject(first_day=DAY, last_day=NEXT, events_per_day=10)
    assert len(list(project.lines(date(2020, 1, 1), date(2024, 12, 1), now=LATER))) == 20


def test_events_look_like_mixpanel_events() -> None:
    """Size, property count, compression ratio and value types are like Mixpanel's."""
    lines = list(SyntheticProject(events_per_day=6_000).lines(DAY, DAY, now=LATER))
    assert 900 < sum(map(len, lines)) / len(lines) < 1200
    parsed = [json.loads(line) for line in lines]
    assert 25 < sum(len(each["properties"]) for each in parsed) / len(parsed) < 40
    body = b"\n".join(lines)
    assert 5.2 < len(body) / len(gzip.compress(body, 6)) < 6.0
    assert "\u2028".encode() in body
    assert "🎉".encode() in body
    kinds = {type(value) for each in parsed for value in each["properties"].values()}
    assert kinds == {str, int, float, bool, dict, list, type(None)}


def test_lines_of_a_day_are_unsorted() -> None:
    """The lines of a day are not sorted, and all of them are in that day."""
    times = [each["time"] for each in rows(SyntheticProject(), DAY)]
    assert times != sorted(times)
    assert {datetime.fromtimestamp(each, UTC).date() for each in times} == {DAY}


def test_some_events_are_unusual() -> None:
    """A small share of events lacks ids or times, is imported, late or merged."""
    every = rows(SyntheticProject(events_per_day=6_000), DAY)
    shares = {
        "without an id": sum("$insert_id" not in each for each in every),
        "without a user": sum("distinct_id" not in each for each in every),
        "with a fraction in its time": sum(isinstance(each["time"], float) for each in every),
        "with a number for a user": sum(isinstance(each.get("distinct_id"), int) for each in every),
        "imported": sum("$mp_api_timestamp_ms" not in each for each in every),
        "without a time of processing": sum("mp_processing_time_ms" not in each for each in every),
        "late": sum(each.get("mp_processing_time_ms", 0) - each["time"] * 1000 > 3_600_000 for each in every),
        "merged": sum("$distinct_id_before_identity" in each for each in every),
    }
    assert all(2 < count < 1500 for count in shares.values()), shares


def test_some_events_are_duplicated() -> None:
    """A few events occur twice and differ only in their processing time."""

    def identity(each: dict[str, Any]) -> str:
        return json.dumps({key: value for key, value in each.items() if key != "mp_processing_time_ms"})

    every = [each for each in rows(SyntheticProject(), DAY) if "$insert_id" in each]
    twice = [count for count in Counter(map(identity, every)).values() if count > 1]
    assert twice == [2] * len(twice)
    assert 1 <= len(twice) <= 10
    assert max(Counter(each["$insert_id"] for each in every).values()) == 2


def test_an_event_is_visible_after_processing() -> None:
    """An event is visible only after its processing time."""
    project = SyntheticProject()
    now = datetime(2024, 3, 2, 6, tzinfo=UTC)
    early, late = rows(project, DAY, now=now), rows(project, DAY)
    assert len(early) < len(late) == 1000
    edge = now.timestamp() * 1000
    assert all(each.get("mp_processing_time_ms", 0) <= edge for each in early)
    assert len(early) == pytest.approx(980, abs=15)
    assert len(rows(project, DAY, now=now + timedelta(days=6))) > len(early)


def test_today_has_only_past_events() -> None:
    """Today has only events before the current time."""
    noon = datetime(2024, 3, 1, 12, tzinfo=UTC)
    times = [each["time"] for each in rows(SyntheticProject(), DAY, NEXT, now=noon)]
    assert 400 < len(times) < 600
    assert max(times) < noon.timestamp()


def test_visibility_delay_delays_events() -> None:
    """`visibility_delay` delays when events become visible."""
    now = datetime(2024, 3, 1, 12, tzinfo=UTC)
    lagging = SyntheticProject(visibility_delay=timedelta(minutes=45))
    assert rows(lagging, DAY, now=now) == rows(SyntheticProject(), DAY, now=now - timedelta(minutes=45))


def test_a_merge_rewrites_earlier_events() -> None:
    """After an identity merge, earlier events have the new distinct_id and nothing else changes."""
    project = SyntheticProject(events_per_day=3000)

    def by_id(now: datetime) -> dict[str, dict[str, Any]]:
        return {each["$insert_id"]: each for each in rows(project, DAY, now=now) if "$insert_id" in each}

    before, after = by_id(datetime(2024, 3, 2, tzinfo=UTC)), by_id(LATER)
    merged = [
        key for key, each in before.items() if "$distinct_id_before_identity" in after[key] and each != after[key]
    ]
    assert merged
    for key in merged:
        assert before[key]["distinct_id"] == after[key]["$distinct_id_before_identity"]
        assert str(before[key]["distinct_id"]).startswith("$device:")
        assert not str(after[key]["distinct_id"]).startswith("$device:")
        # Nothing else changes, so an id made from the rest stays the same.
        ids = {"distinct_id", "$distinct_id_before_identity"}
        assert {name: value for name, value in before[key].items() if name not in ids} == {
            name: value for name, value in after[key].items() if name not in ids
        }
    anonymous = [each for each in after.values() if str(each.get("distinct_id")).startswith("$device:")]
    assert not anonymous


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Zurich", date(2024, 3, 1), {1.0}),
        ("Europe/Zurich", date(2024, 3, 31), {1.0, 2.0}),
        ("America/New_York", date(2024, 11, 3), {-4.0, -5.0}),
        ("Asia/Kolkata", date(2024, 3, 1), {5.5}),
    ],
)
def test_a_project_before_2023_has_local_times(zone: str, day: date, hours: set[float]) -> None:
    """A project created before 2023 stores local times as if they were UTC."""
    offsets = set()
    for each in rows(SyntheticProject(zone=zone, events_per_day=3000), day):
        local = datetime.fromtimestamp(each["time"], UTC)
        assert local.date() == day
        late = each.get("mp_processing_time_ms", 0) - each.get("$mp_api_timestamp_ms", 0) == 1500
        if "$mp_api_timestamp_ms" in each and not late:
            received = datetime.fromtimestamp(each["$mp_api_timestamp_ms"] / 1000, UTC)
            offsets.add(round((local - received).total_seconds() / 1800) / 2)
    assert offsets == hours


def test_skipped_and_repeated_hours() -> None:
    """No local time is in the skipped hour, and the repeated hour has more events."""
    project = SyntheticProject(zone="Europe/Zurich", events_per_day=4_000)

    def hours(day: date) -> Counter[int]:
        return Counter(datetime.fromtimestamp(each["time"], UTC).hour for each in rows(project, day))

    assert hours(date(2024, 3, 31))[2] == 0
    autumn = hours(date(2024, 10, 27))
    assert autumn[2] > 1.5 * autumn[3]


def test_profiles_are_generated_by_index() -> None:
    """Profiles are generated by index, and some of their properties change with time."""
    project = SyntheticProject(profiles=1_000_000)
    early = project.profiles(None, now=datetime(2024, 2, 1, tzinfo=UTC))
    late = project.profiles(None, now=LATER)
    assert len(late) == 1_000_000
    assert late[999_999] == late[-1]
    assert [each["$distinct_id"] for each in late[:9]] == [each["$distinct_id"] for each in early[:9]]
    assert early[3] != late[3]
    with pytest.raises(IndexError):
        late[1_000_000]


def test_some_profiles_are_unusual() -> None:
    """A few profiles have a numeric id or no `$last_seen`."""
    every = list(SyntheticProject(profiles=200).profiles(None, now=LATER))
    assert sum(isinstance(each["$distinct_id"], int) for each in every) == 1
    assert sum("$last_seen" not in each["$properties"] for each in every) == 5  # type: ignore[operator]


def test_a_fixed_project_serves_its_days_in_order() -> None:
    """A fixed project returns the lines of the requested days in order."""
    project = FixedProject({NEXT: [b"2"], DAY: [b"1", b"0"], date(2024, 3, 3): [b"3"]})
    assert list(project.lines(DAY, NEXT, now=LATER)) == [b"1", b"0", b"2"]
