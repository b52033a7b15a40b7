"""A seeded storm of faults over thousands of windows: what was written is what the project holds, each window whole."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections import Counter
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import NAMES, Emulator, Fault, FixedProject
from tests.mixpanel.turned_clock import TurnedClock
from tests.soak.in_process import run_here

FIRST = dt.date(2023, 1, 1)
DAYS = 240
NOW = dt.datetime(2024, 1, 16, 9, 30, tzinfo=dt.UTC)

# All that can strike an export once and leave the tap a way to go on by itself or at the next run.
SENTINELS = {"sentinel:terminated early", "sentinel:export terminated early", "sentinel:[terminated early]"}
STORM = sorted(
    (set(NAMES) | SENTINELS)
    - {"sentinel:TEXT"}
    - {"session-expired", "short-page", "empty-object"}  # of profiles
    - {"bomb", "endless-line"}  # large: they have tests of their own
    - {"nul", "lone-surrogate", "duplicate-keys"}  # they alter an event
)
VALUES: dict[str, object] = {"stall": 0.3, "silence": 0.3, "redirect": "http://127.0.0.1:9/"}


def project(rng: random.Random) -> FixedProject:
    """A few events on most days, none on others, some days with many."""
    days: dict[dt.date, list[bytes]] = {}
    for number in range(DAYS):
        day = FIRST + dt.timedelta(days=number)
        events = rng.choice([0, 1, 2, 3, 3, 40])
        days[day] = [
            json.dumps(
                {"event": "E", "properties": {"time": 1672531200 + number * 86400 + n, "$insert_id": f"{number}-{n}"}}
            ).encode()
            for n in range(events)
        ]
    return FixedProject(days)


@pytest.mark.parametrize("seed", range(12))
def test_a_storm_of_faults_loses_nothing_and_delivers_no_part_of_a_window(seed: int) -> None:
    rng = random.Random(seed)
    source = project(rng)
    held = Counter(source.lines(FIRST, FIRST + dt.timedelta(days=DAYS), now=NOW))
    faults = [
        Fault("export", number, name, at=rng.random(), value=VALUES.get(name))
        for number in range(1, 2000)
        if rng.random() < 0.3
        for name in [rng.choice(STORM)]
    ]
    state: dict[str, Any] | None = None
    written: Counter[bytes] = Counter()
    errors = []
    with Emulator(source, faults=faults) as emulator:
        config = emulator.settings | {
            "start_date": str(FIRST),
            "end_date": str(FIRST + dt.timedelta(days=DAYS - 1)),
            "lookback_days": 0,
            "raw": True,
            "concurrent_exports": rng.randint(1, 4),
            "window_days": rng.choice([1, 2, 7]),
            "max_retries": rng.randint(0, 3),
            "request_timeout": 5,
            "max_quota_wait": 10**7,
        }
        for _ in range(400):
            result = run_here(config, TurnedClock(NOW), catalog=RAW_EVENTS, state=state)
            new = result.lines
            delivered_before = bookmark(state)
            state = result.state or state
            upto = bookmark(state)
            # What came is exactly what lies between the old bookmark and the new one: whole windows, each once.
            assert new == Counter(
                line for line in held.elements() if delivered_before <= json.loads(line)["properties"]["time"] < upto
            )
            written += new
            if result.error is None:
                break
            errors.append(result.error)
    assert written == held
    assert all(error.startswith("events 20") for error in errors)
    assert all("\n" not in error for error in errors)


def bookmark(state: dict[str, Any] | None) -> float:
    value = ((state or {}).get("bookmarks") or {}).get("events", {}).get("replication_key_value")
    return dt.datetime.fromisoformat(value).timestamp() if value else 0.0


RAW_EVENTS: dict[str, Any] = {
    "streams": [
        {
            "tap_stream_id": "events",
            "stream": "events",
            "replication_method": "INCREMENTAL",
            "replication_key": "event_time",
            "key_properties": [],
            "schema": {
                "type": "object",
                "properties": {
                    "event": {"type": "string"},
                    "properties": {"type": ["object", "null"], "additionalProperties": True},
                },
            },
            "metadata": [{"breadcrumb": [], "metadata": {"selected": True, "inclusion": "available"}}],
        }
    ]
}
