"""Other Mixpanel clients, unchanged except for the host, read the same from the emulator as the tap.

Each client runs in its environment of the benchmarks, with its driver in `benchmarks/peers`. The tests compare
everything that a client keeps:

* mixpanel-utils writes events and profiles unchanged: all of both.
* mixpanel-headless writes the columns of the tap's normalized records: all of them, except made insert ids.
* tap-mixpanel turns values into text and drops the fraction of a time: the events and profiles, and the time of each
  event in whole seconds. Its discovery requests the names and types of properties, which the emulator does not serve,
  since one of those endpoints is not documented; the driver provides them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.virtualenvs import PEER_FOLDER, NotInstalledError, python_with
from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.harness import ENVIRONMENT, catalog_of, run_tap

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

FIRST, LAST = date(2024, 1, 1), date(2024, 1, 3)
# More profiles than a page of any client has, and enough days for every kind of unusual event.
PROJECT = SyntheticProject(first_day=FIRST, last_day=LAST, events_per_day=700, profiles=1200)
TYPES = {bool: "boolean", int: "number", float: "number", list: "list", dict: "object", str: "string"}

Row = dict[str, Any]


@dataclass
class Read:
    """The tap's records, raw and normalized."""

    emulator: Emulator
    raw_events: list[Row]
    raw_profiles: list[Row]
    events: list[Row]
    profiles: list[Row]


@pytest.fixture(scope="module")
def read() -> Iterator[Read]:
    with Emulator(PROJECT) as emulator:
        config = {**emulator.settings, "start_date": str(FIRST), "end_date": str(LAST)}
        raw, normalized = (
            run_tap({**config, "raw": raw}, catalog=catalog_of("events", "profiles", raw=raw)).well()
            for raw in (True, False)
        )
        found = Read(
            emulator,
            raw.records("events"),
            raw.records("profiles"),
            normalized.records("events"),
            normalized.records("profiles"),
        )
        assert len(found.raw_events) == len(found.events) == 3 * PROJECT.events_per_day
        assert len(found.raw_profiles) == len(found.profiles) == PROJECT.users
        yield found


def run_client(read: Read, folder: Path, name: str, *stream: str) -> bytes:
    """Return a client's output; without its package the test is skipped, except in CI."""
    try:
        python = python_with(name)
    except NotInstalledError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    types = {name: TYPES[type(value)] for row in read.raw_profiles for name, value in row["$properties"].items()}
    names = types if stream else sorted({name for row in read.raw_events for name in row["properties"]})
    (folder / "names.json").write_text(json.dumps(names))
    driver = PEER_FOLDER / f"{name.replace('-', '_')}.py"
    base = read.emulator.api_url.removesuffix("/api")
    command = [str(python), str(driver), base, str(FIRST), str(LAST), str(folder / "names.json"), *stream]
    done = subprocess.run(command, capture_output=True, env=ENVIRONMENT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return done.stdout


def multiset(rows: Iterable[object]) -> Counter[str]:
    return Counter(json.dumps(row, sort_keys=True) for row in rows)


def lines(output: bytes) -> list[Row]:
    return [json.loads(line) for line in output.split(b"\n")[:-1]]


def test_mixpanel_utils_reads_the_same(read: Read, tmp_path: Path) -> None:
    """mixpanel-utils reads the same events and profiles, value for value."""
    assert multiset(json.loads(run_client(read, tmp_path, "mixpanel-utils"))) == multiset(read.raw_events)
    profiles = json.loads(run_client(read, tmp_path, "mixpanel-utils", "profiles"))
    assert multiset(profiles) == multiset(read.raw_profiles)


def test_mixpanel_headless_reads_the_same(read: Read, tmp_path: Path) -> None:
    """mixpanel-headless reads the same events and profiles in the same columns."""
    given = {row["properties"].get("$insert_id") for row in read.raw_events}

    def event(row: Row) -> Row:
        return {
            **row,
            "event_time": datetime.fromisoformat(row["event_time"]).timestamp(),
            "distinct_id": str(row["distinct_id"]),
            "insert_id": row["insert_id"] if row["insert_id"] in given else None,
        }

    def profile(row: Row) -> Row:
        last_seen = row["last_seen"]
        # Either ISO text with a zone, or the text as sent.
        moment = last_seen and datetime.fromisoformat(last_seen).replace(tzinfo=UTC).isoformat()
        return {**row, "distinct_id": str(row["distinct_id"]), "last_seen": moment}

    received = lines(run_client(read, tmp_path, "mixpanel-headless"))
    assert multiset(map(event, received)) == multiset(map(event, read.events))
    received = lines(run_client(read, tmp_path, "mixpanel-headless", "profiles"))
    assert multiset(map(profile, received)) == multiset(map(profile, read.profiles))


def test_tap_mixpanel_reads_the_same(read: Read, tmp_path: Path) -> None:
    """tap-mixpanel reads the same events and profiles."""

    def records(*stream: str) -> list[Row]:
        messages = lines(run_client(read, tmp_path, "tap-mixpanel", *stream))
        return [message["record"] for message in messages if message["type"] == "RECORD"]

    def event(row: Row) -> list[object]:
        properties = row["properties"]
        moment = datetime.fromtimestamp(int(properties["time"]), UTC)
        return [row["event"], str(properties.get("distinct_id")), properties["trace_id"], moment.isoformat()]

    def event_there(row: Row) -> list[object]:
        moment = datetime.fromisoformat(row["time"])
        return [row["event"], str(row.get("distinct_id")), row["trace_id"], moment.isoformat()]

    assert multiset(map(event_there, records())) == multiset(map(event, read.raw_events))
    received = [[str(row["distinct_id"]), row["mp_reserved_email"]] for row in records("profiles")]
    assert multiset(received) == multiset(
        [str(row["$distinct_id"]), row["$properties"]["$email"]] for row in read.raw_profiles
    )
