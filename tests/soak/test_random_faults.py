"""Random faults over thousands of windows and pages: only complete windows and pages are delivered, and all of them.

`make soak SEEDS=100-400` uses other seeds.
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
# Content of lines that a fault changed and that are delivered.
ALTERED = re.compile(rb'"(?:nul|surrogate|twice|separators|big|long)":|"time":null')
# Sizes that suffice with the limits lowered by `lower_bomb_limit`.
SIZES: Mapping[str, object] = {"bomb": 24 << 20, "endless-line": 2 << 20, "long-line": 100_000, "trickle": 0.05}


@dataclass
class Tally:
    """Counts over the runs of a storm.

    Attributes:
        delivered: Windows or pages delivered.
        applied: Number of requests with each fault.
    """

    delivered: int = 0
    applied: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.delivered + other.delivered, self.applied + other.applied)


def faults(rng: random.Random, kind: str, share: float) -> list[Fault]:
    """Return random faults for a share of all requests."""
    chosen = []
    for number in range(1, 4000):
        if rng.random() < share:
            name = rng.choice(STORMS[kind])
            value = SIZES.get(name, "http://127.0.0.1:9/")
            if name in {"stall", "silence"}:
                # Sometimes longer than the run's timeout.
                value = rng.choice([0.02] * 9 + [1.2])
            chosen.append(Fault(kind, number, name, rng.random(), value))
    return chosen


def lower_bomb_limit() -> Any:
    """Lower the size from which the compression ratio is checked."""
    return mock.patch.object(decompression, "_UNCHECKED_BYTES", 1 << 20)


def events(rng: random.Random) -> FixedProject:
    """Return a project with few events on most days, none on some and many on others."""
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
    """Read a project's history with random faults, and check after each run that windows are complete."""
    rng = random.Random(seed)
    source = events(rng)
    source_lines = set(source.lines(FIRST, FIRST + dt.timedelta(days=DAYS), now=NOW))
    expected = {_insert_id(line): _time(line) for line in source_lines}
    raw = rng.random() < 0.7
    state: dict[str, Any] | None = None
    written: Counter[str] = Counter()
    tally = Tally()
    with lower_bomb_limit(), Emulator(source, faults=faults(rng, "export", 0.3)) as emulator:
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
            # The records are exactly the events between the old and the new bookmark.
            assert new == Counter(name for name, time in expected.items() if before <= time < _bookmark(state))
            assert not raw or all(line in source_lines or ALTERED.search(line) for line in result.records())
            written += new
            tally.delivered += result.stdout.count(b'{"type":"STATE"') - (before > 0)
            if result.error is None:
                break
            _check_error(result.error, "events 20")
        else:
            pytest.fail("no run succeeded")
        tally.applied.update(name for seen in emulator.requests for name in seen.faults)
    assert written == Counter(expected.keys())
    return tally


@cache
def storm_of_profiles(seed: int) -> Tally:
    """Read all profiles with random faults until a run succeeds, and check that pages are complete."""
    rng = random.Random(seed)
    expected = [
        {"$distinct_id": f"u{number}", "$properties": {"n": number}}
        for number in range(rng.choice([1, PAGE, PROFILES, rng.randint(1, PROFILES)]))
    ]
    raw = rng.random() < 0.5
    tally = Tally()
    with (
        lower_bomb_limit(),
        Emulator(FixedProject(profiles=expected), faults=faults(rng, "engage", 0.3), max_page_size=PAGE) as emulator,
    ):
        config = emulator.settings | {
            "raw": raw,
            "max_retries": rng.randint(1, 3),
            "request_timeout": 1,
            "max_quota_wait": 10**7,
        }
        for _ in range(400):
            result = run_here(config, FakeClock(NOW), catalog=_catalog("profiles", raw=raw))
            received = [_distinct_id(record) for record in result.records("profiles")]
            parts = _parts(received)
            ends = [0, *(part[-1] + 1 for part in parts)]
            # Complete pages in order. A restarted session continues from a page already delivered.
            assert all(part == list(range(part[0], part[-1] + 1)) for part in parts)
            assert all(part[0] % PAGE == 0 and part[0] <= end for part, end in zip(parts, ends, strict=False))
            tally.delivered += sum(-(-len(part) // PAGE) for part in parts)
            # The same few profiles missing twice count as a wrong total.
            if result.error is None and not any("twice; accepted" in warning for warning in result.warnings):
                assert set(received) == set(range(len(expected)))
                assert ends[-1] == len(expected)
                break
            if result.error is None:
                continue
            assert all(end % PAGE == 0 for end in ends)
            _check_error(result.error, "profiles page ")
        else:
            pytest.fail("no run succeeded")
        tally.applied.update(name for seen in emulator.requests for name in seen.faults)
    return tally


@pytest.mark.seeds(SEEDS)
def test_random_faults_lose_no_event(seed: int) -> None:
    """Random faults lose no event and deliver no partial window."""
    assert storm_of_events(seed).delivered > 0


@pytest.mark.seeds(SEEDS)
def test_random_faults_lose_no_profile(seed: int) -> None:
    """Random faults lose no profile and deliver no partial page."""
    assert storm_of_profiles(seed).delivered > 0


@pytest.mark.seeds(SEEDS)
@pytest.mark.parametrize(("kind", "storm"), [("export", storm_of_events), ("engage", storm_of_profiles)])
def test_each_fault_occurs_often(kind: str, storm: Callable[[int], Tally], seeds: range) -> None:
    """Over all seeds each fault occurs several times."""
    if len(seeds) < SEEDS:
        pytest.skip(f"fewer than {SEEDS} seeds need not have all kinds")
    tally = sum(map(storm, seeds), Tally())
    assert set(tally.applied) == set(STORMS[kind])
    assert min(tally.applied.values()) >= len(seeds) // 3


def test_the_number_of_faults_in_the_readme_is_true() -> None:
    """README and errors page have every fault, and only those that no client can detect are undetected."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    [count] = re.findall(r"inject (\d+) kinds of \[fault\]", readme)
    rows = re.findall(r"^\| `[^`]+` \|(?: [^|]+ \|){5}$", page, re.MULTILINE)
    assert int(count) == len(rows) == len(FAULT_DESCRIPTIONS)
    assert [row.split("`")[1] for row in rows if "undetected" in row] == sorted(UNNOTICED, reverse=True)


def _check_error(error: str, beginning: str) -> None:
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


def _parts(received: list[int]) -> list[list[int]]:
    """Split profile numbers where they go back."""
    backs = [place for place, (one, other) in enumerate(pairwise(received), start=1) if other <= one]
    return [received[start:end] for start, end in pairwise([0, *backs, len(received)]) if start < end]


def _bookmark(state: Mapping[str, Any] | None) -> float:
    value = ((state or {}).get("bookmarks") or {}).get("events", {}).get("replication_key_value")
    return dt.datetime.fromisoformat(value).timestamp() if value else 0.0


@cache
def _catalog(stream: str, *, raw: bool) -> dict[str, Any]:
    return catalog_of(stream, raw=raw)


RAW_EVENTS = _catalog("events", raw=True)
