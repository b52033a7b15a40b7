"""docs/is-everything-there.md: Mixpanel's own counts show a truncated day."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, SyntheticProject
from tests.docs.pages import blocks, marked, text_of
from tests.doctor.test_docs import shown
from tests.examples.dbt_databases import Database, DuckDB, PostgreSQL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.targets.postgresql import Server

PAGE = text_of("docs/is-everything-there.md")
TEST = "loaded_events_match_mixpanel_counts"
BOTH = {"streams": ["events", "event_counts"]}


def compare(database: Database, **variables: object) -> str:
    """Build the model `completeness` and its tests."""
    values = json.dumps({"event_counts_loaded": True, **variables})
    return database.build(f"--vars '{values}'", "--select +completeness", "--indirect-selection cautious")


def test_page_finds_and_repairs_a_truncated_day(tmp_path: Path, renew: bool) -> None:
    """The page's commands find the day and repair it. The dbt test fails before and passes after the repair."""
    mark = "checked by test_page_finds_and_repairs_a_truncated_day"
    begin, query, repair, dbt = (block.text for block in marked(PAGE, mark))
    database = DuckDB(tmp_path)
    done = database.shell(
        f"trap 'kill $(jobs -p)' EXIT\n{begin}{query}echo ===\nmkdir before; cp warehouse.duckdb before\n{repair}"
    )
    found, repaired = done.split("===\n")
    for name, output in (("found", found), ("repaired", repaired)):
        printed = output.strip("\n") + "\n"
        assert printed == shown("is-everything-there.md", name, printed, renew=renew), "run pytest with --renew"
    days = {line.split("│")[1].strip() for line in found.splitlines() if line.startswith("│ 2024")}
    assert days == {"2024-01-10"}
    with pytest.raises(AssertionError, match=rf"FAIL \d+ {TEST}"):
        compare(DuckDB(tmp_path / "before"))
    assert f"PASS {TEST}" in database.shell(dbt)


def test_postgresql_is_compared_every_night(warehouse: Server, tmp_path: Path) -> None:
    """The line for cron fails with the names of a truncated day, and passes after the day was read again."""
    write, cron = (block.text for block in marked(PAGE, "checked by test_postgresql_is_compared_every_night"))
    [nightly] = [each.text for each in blocks(text_of("docs/getting-started.md")) if "> nightly.sh" in each.text]
    database = PostgreSQL(tmp_path / "mixpanel", warehouse)
    database.folder.mkdir()

    def shell(script: str) -> str:
        return database.shell(f'export HOME="{tmp_path}" PATH="$PATH:{warehouse.programs}"\n{script}')

    truncated = Fault("export", 5, "short-body", 0.7)
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), events_per_day=200, profiles=5)
    with Emulator(project, faults=[truncated]) as emulator:
        days = {"start_date": "2024-01-01", "end_date": "2024-01-14", "window_days": 1, "concurrent_exports": 1}
        for name, content in (
            ("config", emulator.settings | BOTH | days),
            ("target", database.target_settings()),
            ("day", {"streams": ["events"], "start_date": "2024-01-05", "end_date": "2024-01-05"}),
        ):
            (database.folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        shell(nightly + write)
        every_night = cron.removeprefix("0 3 * * * ")
        with pytest.raises(AssertionError):
            shell(every_night)
        log = (database.folder / "nightly.log").read_text(encoding="utf-8")
        assert "\n2024-01-05,Page View," in log
        assert set(re.findall(r"^2024-..-..(?=,)", log, re.MULTILINE)) == {"2024-01-05"}
        shell("tap-mixpanel-stream --config config.json --config day.json | target-postgres --config target.json")
        shell(every_night)


def test_days_are_in_the_project_time_zone(tmp_path: Path) -> None:
    """With the project's time zone every count is equal. With UTC the comparison fails."""
    zone = "America/Los_Angeles"
    project = SyntheticProject(
        first_day=dt.date(2022, 3, 8), last_day=dt.date(2022, 3, 16), events_per_day=100, zone=zone
    )
    database = DuckDB(tmp_path)
    with Emulator(project, now=lambda: dt.datetime(2022, 3, 18, tzinfo=dt.UTC)) as emulator:
        days = {"start_date": "2022-03-08", "end_date": "2022-03-16", "project_timezone": zone}
        database.load(emulator.settings | days | BOTH)
    assert f"PASS {TEST}" in compare(database, project_timezone=zone, count_tolerance=0, last_days_left_out=0)
    [row] = database.query(
        "SELECT sum(loaded) AS loaded, sum(counted) AS counted, count(DISTINCT day) AS days FROM analytics.completeness"
    )
    assert (row["loaded"], row["days"]) == (row["counted"], 9)
    with pytest.raises(AssertionError, match=rf"FAIL \d+ {TEST}"):
        compare(database)
