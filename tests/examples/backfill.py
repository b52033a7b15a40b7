"""Shared by the tests of docs/backfill.md: the page, its environment, and comparison of the loaded rows."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from tests.docs.pages import blocks
from tests.docs.programs import COMMANDS, ENVIRONMENT, ROOT, installed
from tests.records.reference import normalized

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
    from tests.targets.postgresql import Server

    Row = dict[str, Any]
    EventsByKey = dict[tuple[Any, ...], list[Row]]

PAGE = (ROOT / "docs" / "backfill.md").read_text(encoding="utf-8")
FIRST_DAY, LAST_DAY = dt.date(2023, 1, 1), dt.date(2024, 1, 31)
MONTHS = [f"{2023 + number // 12}-{1 + number % 12:02}" for number in range(13)]
# The end of the back-fill minus the look-back of five days.
READ_AGAIN_FROM = dt.date(2024, 1, 27)


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def scripts(title: str) -> list[str]:
    """Return the commands of a section, by block."""
    return [block.text for block in blocks(section(title)) if block.language == "sh"]


def orchestrator(name: str, program: str) -> Path:
    """Return a program from one of the orchestrators' environments."""
    path = ROOT / ".venv-tools" / name / "bin" / program
    if not path.exists():
        pytest.skip(f"{name.capitalize()} is not set up: `make test-examples` does that")
    return path


def environment(
    folder: Path, emulator: Emulator, warehouse: Server, sections: Sequence[str] = ("Choose a method", "Dagster")
) -> dict[str, str]:
    """Return the variables of the page's sections, with tap and target on the path."""
    commands = folder / "bin"
    commands.mkdir()
    for program in (COMMANDS / "tap-mixpanel-stream", installed("postgres", "target-postgres")):
        (commands / program.name).symlink_to(program)
    shown = "".join(script for title in sections for script in scripts(title))
    return {
        **ENVIRONMENT,
        **dict(re.findall(r"^(\w+)=(.*)$", shown, re.MULTILINE)),
        **{f"TAP_MIXPANEL_STREAM_{name.upper()}": str(value) for name, value in emulator.settings.items()},
        **{f"TARGET_POSTGRES_{name.upper()}": str(value) for name, value in warehouse.address.items()},
        "MIXPANEL_RETRY_SECONDS": "1",
        "CHECKOUT": str(ROOT),
        "PATH": f"{commands}:{ENVIRONMENT['PATH']}",
    }


def expected_events(project: SyntheticProject, first: dt.date, last: dt.date, now: dt.datetime) -> EventsByKey:
    """Return Mixpanel's events at a time by key. Of duplicates either row may be loaded."""
    rows: EventsByKey = defaultdict(list)
    for line in project.lines(first, last, now=now):
        record: Row = normalized(line)
        record["properties"] = {name: json.loads(text) for name, text in record["properties"].items()}
        rows[record["event_name"], record["event_time"], record["insert_id"]].append(record)
    return rows


def loaded_events(warehouse: Server) -> list[Row]:
    # In the tap's format: with milliseconds only if not zero.
    time = "replace(to_char(event_time, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS'), '.000', '') || '+00:00' AS event_time"
    return warehouse.rows(f"SELECT event_name, {time}, distinct_id, insert_id, properties FROM mixpanel.events")  # noqa: S608


def assert_same(loaded: list[Row], expected: EventsByKey) -> None:
    """Check the loaded rows value by value."""
    assert len(loaded) == len(expected)
    for row in loaded:
        assert row in expected[row["event_name"], row["event_time"], row["insert_id"]]


def assert_same_profiles(warehouse: Server, project: SyntheticProject, now: dt.datetime) -> None:
    """Check the loaded rows value by value."""
    profiles: Row = {str(each["$distinct_id"]): each["$properties"] for each in project.profiles(None, now=now)}
    rows = warehouse.rows("SELECT distinct_id, last_seen, properties FROM mixpanel.profiles")
    assert len(rows) == len(profiles)
    for row in rows:
        assert row["last_seen"] == profiles[row["distinct_id"]].pop("$last_seen", None)
        assert row["properties"] == profiles[row["distinct_id"]]


def exports(emulator: Emulator, begin: int = 0) -> list[tuple[str, str, int]]:
    """Return the days and status of each export from the request number `begin` on."""
    seen = [each for each in emulator.requests if each.kind == "export"]
    return [(each.query["from_date"], each.query["to_date"], each.status) for each in seen[begin:]]
