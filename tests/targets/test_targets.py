"""Real targets, loaded twice in both shapes: the rows are Mixpanel's, value by value."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault
from tests.docs import pages
from tests.targets.loading import KEYS, PAGE, Target, each_target, new_target
from tests.targets.source import BOOKMARKS, EVENINGS, FIRST_DAY, Reading, Row, Source, expected_rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

STREAMS = ("events", "profiles")


@pytest.fixture(params=each_target())
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    """Return an empty target."""
    name: str = request.param
    return new_target(name, request, tmp_path)


@pytest.mark.parametrize("raw", [False, True], ids=["normalized", "raw"])
def test_two_runs_load_every_value_into_a_target(target: Target, raw: bool) -> None:
    """Two runs load every value; a target that supports one shape rejects the other."""
    source = Source.new()
    state: dict[str, Any] | None = None
    for bookmark, evening in zip(BOOKMARKS, EVENINGS, strict=True):
        days = {"start_date": str(FIRST_DAY), "end_date": str(evening)}
        with Emulator(source.project()) as emulator:
            loaded = target.load(emulator.settings | days | {"raw": raw} | target.tap_settings(), state)
        if raw not in target.shapes:
            assert loaded.codes[1] != 0
            return
        assert loaded.codes == (0, 0), loaded.log
        state = loaded.states[-1]
        assert state["bookmarks"]["events"]["replication_key_value"] == bookmark
        for stream in STREAMS:
            expected = expected_rows(source, stream, target.reading, raw=raw)
            key = target.key(stream, raw=raw)
            same(target.rows(stream, raw=raw), newest(expected, key) if key else expected)
        source.change()
    query = pages.named(PAGE)[f"{target.environment}: query of {'raw ' if raw else ''}events"]
    assert target.ask(query) == purchases(source)


def test_a_failed_run_and_the_next_load_everything(target: Target) -> None:
    """The tap fails at the fifth of eight days, and the next run continues from the target's state."""
    source = Source.new()
    with Emulator(source.project(), faults=[Fault("export", 5, "status:402")]) as emulator:
        days = {"start_date": str(FIRST_DAY), "end_date": str(EVENINGS[0]), "window_days": 1, "concurrent_exports": 1}
        settings = emulator.settings | days | {"lookback_days": 1} | target.tap_settings()
        failed = target.load(settings)
        assert failed.codes == (1, 0), failed.log
        state = failed.states[-1]
        assert state["bookmarks"]["events"]["replication_key_value"] == "2024-01-05T00:00:00+00:00"
        requested = len(emulator.requests)
        assert target.load(settings, state).codes == (0, 0)
        first = min(seen.query["from_date"] for seen in emulator.requests[requested:] if seen.kind == "export")
    assert first == "2024-01-04"
    expected = list(expected_rows(source, "events", target.reading, raw=False))
    if key := target.key("events", raw=False):
        same(target.rows("events", raw=False), newest(expected, key))
    else:
        again = [row for row in expected if str(row["event_time"]).startswith("2024-01-04")]
        same(target.rows("events", raw=False), [*expected, *again])


def newest(rows: Iterable[Row], key: tuple[str, ...]) -> list[Row]:
    """Return the last of the rows with the same key."""
    return list({tuple(row[column] for column in key): row for row in rows}.values())


def same(arrived: Iterable[Row], expected: Iterable[Row]) -> None:
    """Check that two multisets of rows are equal, and show the first differences."""
    left, right = (Counter(json.dumps(row, sort_keys=True) for row in rows) for rows in (arrived, expected))
    different = [
        *(f"missing: {row:.600}" for row in (right - left).elements()),
        *(f"not expected: {row:.600}" for row in (left - right).elements()),
    ]
    assert not different, "\n".join([f"{right.total()} rows expected, {left.total()} there", *different[:6]])


def purchases(source: Source) -> list[dict[str, Any]]:
    """Return the result of the page's queries: purchases and their total by city, each event once."""
    found: dict[str, dict[str, Any]] = {}
    for row in newest(expected_rows(source, "events", Reading(), raw=False), KEYS["events", False]):
        if row["event_name"] == "Purchase":
            properties = json.loads(row["properties"] or "")
            city = properties["$city"]
            of_city = found.setdefault(city, {"city": city, "purchases": 0, "total": 0})
            of_city["purchases"] += 1
            of_city["total"] += int(properties["total"]["number"])
    assert len(found) > 5
    return [found[city] for city in sorted(found)]


def test_same_detects_missing_and_changed_rows() -> None:
    """The comparison of rows detects missing, additional and changed rows."""
    source = Source.new()
    source.project()
    rows = list(expected_rows(source, "events", Reading(), raw=True))
    same(rows, reversed(rows))
    with pytest.raises(AssertionError, match="missing"):
        same(rows[1:], rows)
    with pytest.raises(AssertionError, match="not expected"):
        same([rows[0], *rows], rows)
    with pytest.raises(AssertionError, match="5/2"):
        same(
            [{**rows[0], "properties": Reading().json('{"a":2}')}],
            [{**rows[0], "properties": Reading().json('{"a":2.5}')}],
        )
