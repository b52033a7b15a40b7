"""Real targets, loaded twice in both shapes: what arrives is what Mixpanel holds, value by value."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault
from tests.docs import pages
from tests.targets.loading import KEYS, PAGE, Target, each_target, new_target
from tests.targets.source import BOOKMARKS, EVENINGS, FIRST_DAY, Reading, Row, Source, rows_found

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

STREAMS = ("events", "profiles")


@pytest.fixture(params=each_target())
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    """A target with nothing in it."""
    name: str = request.param
    return new_target(name, request, tmp_path)


@pytest.mark.parametrize("raw", [False, True], ids=["normalized", "raw"])
def test_two_runs_load_what_mixpanel_holds_value_by_value(target: Target, raw: bool) -> None:
    """A target that takes one shape only rejects the other."""
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
            expected = rows_found(source, stream, target.reading, raw=raw)
            key = target.key(stream, raw=raw)
            same(target.rows(stream, raw=raw), newest(expected, key) if key else expected)
        source.change()
    query = pages.named(PAGE)[f"{target.environment}: query of {'raw ' if raw else ''}events"]
    assert target.ask(query) == purchases(source)


def test_a_run_that_fails_and_the_next_one_load_all_of_it(target: Target) -> None:
    """The tap fails at the fifth of eight days, and goes on from what the target handed on."""
    source = Source.new()
    with Emulator(source.project(), faults=[Fault("export", 5, "status:402")]) as emulator:
        days = {"start_date": str(FIRST_DAY), "end_date": str(EVENINGS[0]), "window_days": 1, "concurrent_exports": 1}
        settings = emulator.settings | days | {"lookback_days": 1} | target.tap_settings()
        failed = target.load(settings)
        assert failed.codes == (1, 0), failed.log
        state = failed.states[-1]
        assert state["bookmarks"]["events"]["replication_key_value"] == "2024-01-05T00:00:00+00:00"
        asked = len(emulator.requests)
        assert target.load(settings, state).codes == (0, 0)
        first = min(seen.query["from_date"] for seen in emulator.requests[asked:] if seen.kind == "export")
    assert first == "2024-01-04"
    expected = list(rows_found(source, "events", target.reading, raw=False))
    if key := target.key("events", raw=False):
        same(target.rows("events", raw=False), newest(expected, key))
    else:
        again = [row for row in expected if str(row["event_time"]).startswith("2024-01-04")]
        same(target.rows("events", raw=False), [*expected, *again])


def newest(rows: Iterable[Row], key: tuple[str, ...]) -> list[Row]:
    """Of the rows that share a key the last one."""
    return list({tuple(row[column] for column in key): row for row in rows}.values())


def same(arrived: Iterable[Row], expected: Iterable[Row]) -> None:
    """Fail where two heaps of rows differ, and show the first that do."""
    left, right = (Counter(json.dumps(row, sort_keys=True) for row in rows) for rows in (arrived, expected))
    different = [
        *(f"missing: {row:.600}" for row in (right - left).elements()),
        *(f"not expected: {row:.600}" for row in (left - right).elements()),
    ]
    assert not different, "\n".join([f"{right.total()} rows expected, {left.total()} there", *different[:6]])


def purchases(source: Source) -> list[dict[str, Any]]:
    """What the page's queries ask: by city, how many purchases and how much in all, each event counted once."""
    found: dict[str, dict[str, Any]] = {}
    for row in newest(rows_found(source, "events", Reading(), raw=False), KEYS["events", False]):
        if row["event_name"] == "Purchase":
            properties = json.loads(row["properties"] or "")
            city = properties["$city"]
            of_city = found.setdefault(city, {"city": city, "purchases": 0, "total": 0})
            of_city["purchases"] += 1
            of_city["total"] += int(properties["total"]["number"])
    assert len(found) > 5
    return [found[city] for city in sorted(found)]


def test_a_row_that_is_missing_or_changed_is_noticed() -> None:
    source = Source.new()
    source.project()
    rows = list(rows_found(source, "events", Reading(), raw=True))
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
