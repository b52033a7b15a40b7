"""Seeded storms of faults over thousands of windows and pages: what was written is what the project holds, each whole.

`make soak SEEDS=100-400` lets other seeds storm.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from tap_mixpanel_stream.emulator import FAULT_DESCRIPTIONS, Emulator, Fault, FixedProject
from tap_mixpanel_stream.emulator.faults import ENGAGE_FAULTS, EXPORT_FAULTS
from tap_mixpanel_stream.mixpanel import decompression
from tests.harness import catalog_of
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import run_here

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SEEDS = 30
ROOT = Path(__file__).parents[2]
FIRST = dt.date(2023, 1, 1)
DAYS = 240
MIDNIGHT = int(dt.datetime.combine(FIRST, dt.time(), dt.UTC).timestamp())
PROFILES = 400
PAGE = 9
NOW = dt.datetime(2024, 1, 16, 9, 30, tzinfo=dt.UTC)

SENTINELS = {"sentinel:terminated early", "sentinel:export terminated early", "sentinel:[terminated early]"}
ALL = (set(FAULT_DESCRIPTIONS) | SENTINELS) - {"sentinel:TEXT"}
UNNOTICED = {"short-body", "empty-body"}
STORMS: Mapping[str, list[str]] = {
    "export": sorted(ALL - ENGAGE_FAULTS - UNNOTICED),
    "engage": sorted(ALL - EXPORT_FAULTS),
}
# What a line holds that a fault struck and that is delivered as it came.
ALTERED = re.compile(rb'"(?:nul|surrogate|twice|separators|big|long)":|"time":null')
# Sizes that are enough where `a_bomb` says what is a bomb.
SIZES: Mapping[str, object] = {"bomb": 24 << 20, "endless-line": 2 << 20, "long-line": 100_000, "trickle": 0.05}


@dataclass
class Tally:
    """What a storm has seen.

    Attributes:
        wholes: Windows or pages that were delivered.
        struck: How often each fault struck a request.
    """

    wholes: int = 0
    struck: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.wholes + other.wholes, self.struck + other.struck)


def faults(rng: random.Random, kind: str, share: float) -> list[Fault]:
    """Faults at a share of all requests."""
    chosen = []
    for number in range(1, 4000):
        if rng.random() < share:
            name = rng.choice(STORMS[kind])
            value = SIZES.get(name, "http://127.0.0.1:9/")
            if name in {"stall", "silence"}:
                # Now and then for longer than the run allows.
                value = rng.choice([0.02] * 9 + [1.2])
            chosen.append(Fault(kind, number, name, rng.random(), value))
    return chosen


def a_bomb() -> Any:
    """Make a bomb of what a test can afford."""
    return mock.patch.object(decompression, "_UNCHECKED_BYTES", 1 << 20)


def events(rng: random.Random) -> FixedProject:
    """A few events on most days, none on others, some days with many."""
    days: dict[dt.date, list[bytes]] = {}
    for number in range(DAYS):
        day = FIRST + dt.timedelta(days=number)
        events = rng.choice([0, 1, 2, 3, 3, 40])
        days[day] = [
            json.dumps(
                {"event": "E", "properties": {"time": MIDNIGHT + number * 86400 + n, "$insert_id": f"{number}-{n}"}}
            ).encode()
            for n in range(events)
        ]
    return FixedProject(days)


@cache
def storm_of_events(seed: int) -> Tally:
    """Read a project's history through a storm, run after run, and see after each run that it left whole windows."""
    rng = random.Random(seed)
    source = events(rng)
    source_lines = set(source.lines(FIRST, FIRST + dt.timedelta(days=DAYS), now=NOW))
    held = {_insert_id(line): _time(line) for line in source_lines}
    raw = rng.random() < 0.7
    state: dict[str, Any] | None = None
    written: Counter[str] = Counter()
    tally = Tally()
    with a_bomb(), Emulator(source, faults=faults(rng, "export", 0.3)) as emulator:
        config = emulator.settings | {
            "project_timezone": "UTC",
            "start_date": str(FIRST),
            "end_date": str(FIRST + dt.timedelta(days=DAYS - 1)),
            "lookback_days": 0,
            "raw": raw,
            "concurrent_exports": rng.randint(1, 4),
            "max_retries": rng.randint(0, 3),
            "request_timeout": 1,
            "max_quota_wait": 10**7,
        }
        if days := rng.choice([1, 2, 7, None]):
            config["window_days"] = days
        for _ in range(400):
            result = run_here(config, FakeClock(NOW), catalog=_catalog("events", raw=raw), state=state)
            before = _bookmark(state)
            state = result.state or state
            new = Counter(map(_insert_id, result.records()))
            # What came is exactly what lies between the old bookmark and the new one: whole windows, each once.
            assert new == Counter(name for name, time in held.items() if before <= time < _bookmark(state))
            assert not raw or all(line in source_lines or ALTERED.search(line) for line in result.records())
            written += new
            tally.wholes += result.stdout.count(b'{"type":"STATE"') - (before > 0)
            if result.error is None:
                break
            _is_telling(result.error, "events 20")
        else:
            pytest.fail("never through")
        tally.struck.update(name for seen in emulator.requests for name in seen.faults)
    assert written == Counter(held.keys())
    return tally


@cache
def storm_of_profiles(seed: int) -> Tally:
    """Read all profiles through a storm, as often as it takes, and see that each run left whole pages in order."""
    rng = random.Random(seed)
    held = [
        {"$distinct_id": f"u{number}", "$properties": {"n": number}}
        for number in range(rng.choice([1, PAGE, PROFILES, rng.randint(1, PROFILES)]))
    ]
    raw = rng.random() < 0.5
    tally = Tally()
    with (
        a_bomb(),
        Emulator(FixedProject(profiles=held), faults=faults(rng, "engage", 0.3), max_page_size=PAGE) as emulator,
    ):
        config = emulator.settings | {
            "raw": raw,
            "max_retries": rng.randint(1, 3),
            "request_timeout": 1,
            "max_quota_wait": 10**7,
        }
        for _ in range(400):
            result = run_here(config, FakeClock(NOW), catalog=_catalog("profiles", raw=raw))
            came = [_distinct_id(record) for record in result.records("profiles")]
            parts = _parts(came)
            ends = [0, *(part[-1] + 1 for part in parts)]
            # Whole pages come in order. A session that is read again goes on from a page that came before.
            assert all(part == list(range(part[0], part[-1] + 1)) for part in parts)
            assert all(part[0] % PAGE == 0 and part[0] <= end for part, end in zip(parts, ends, strict=False))
            tally.wholes += sum(-(-len(part) // PAGE) for part in parts)
            # Twice the same few missing are taken for a total that is off.
            if result.error is None and not any("twice; accepted" in warning for warning in result.warnings):
                assert set(came) == set(range(len(held)))
                assert ends[-1] == len(held)
                break
            if result.error is None:
                continue
            assert all(end % PAGE == 0 for end in ends)
            _is_telling(result.error, "profiles page ")
        else:
            pytest.fail("never through")
        tally.struck.update(name for seen in emulator.requests for name in seen.faults)
    return tally


@pytest.mark.seeds(SEEDS)
def test_a_storm_of_faults_loses_no_event_and_delivers_no_part_of_a_window(seed: int) -> None:
    assert storm_of_events(seed).wholes > 0


@pytest.mark.seeds(SEEDS)
def test_a_storm_of_faults_loses_no_profile_and_delivers_no_part_of_a_page(seed: int) -> None:
    assert storm_of_profiles(seed).wholes > 0


@pytest.mark.seeds(SEEDS)
@pytest.mark.parametrize(("kind", "storm"), [("export", storm_of_events), ("engage", storm_of_profiles)])
def test_each_fault_strikes_often(kind: str, storm: Callable[[int], Tally], seeds: range) -> None:
    if len(seeds) < SEEDS:
        pytest.skip(f"fewer than {SEEDS} seeds need not have all kinds")
    tally = sum(map(storm, seeds), Tally())
    assert set(tally.struck) == set(STORMS[kind])
    assert min(tally.struck.values()) >= len(seeds) // 3


def test_the_readme_does_not_boast() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    told = re.search(r"(\d+) kinds of fault, .* into ([\d,]+) windows and pages", readme.replace("\n", " "))
    assert told
    rows = re.findall(r"^\| `[^`]+` \|(?: [^|]+ \|){5}$", page, re.MULTILINE)
    assert int(told[1]) == len(rows) == len(FAULT_DESCRIPTIONS)
    assert "except the two faults that no client can detect" in readme
    assert [row.split("`")[1] for row in rows if "undetected" in row] == sorted(UNNOTICED, reverse=True)
    wholes = sum(storm(seed).wholes for storm in (storm_of_events, storm_of_profiles) for seed in range(SEEDS))
    assert wholes >= int(told[2].replace(",", ""))


def _is_telling(error: str, beginning: str) -> None:
    assert error.startswith(beginning)
    assert "\n" not in error


def _insert_id(line: bytes) -> str:
    found = re.search(rb'"\$?insert_id": ?"(.*?)"', line)
    assert found
    return found[1].decode()


def _distinct_id(record: bytes) -> int:
    found = re.search(rb'"\$?distinct_id":"u(\d+)"', record)
    assert found
    return int(found[1])


def _time(line: bytes) -> int:
    time: int = json.loads(line)["properties"]["time"]
    return time


def _parts(came: list[int]) -> list[list[int]]:
    """Profiles, parted where they go back."""
    backs = [place for place, (one, other) in enumerate(pairwise(came), start=1) if other <= one]
    return [came[start:end] for start, end in pairwise([0, *backs, len(came)]) if start < end]


def _bookmark(state: Mapping[str, Any] | None) -> float:
    value = ((state or {}).get("bookmarks") or {}).get("events", {}).get("replication_key_value")
    return dt.datetime.fromisoformat(value).timestamp() if value else 0.0


@cache
def _catalog(stream: str, *, raw: bool) -> dict[str, Any]:
    return catalog_of(stream, raw=raw)


RAW_EVENTS = _catalog("events", raw=True)
