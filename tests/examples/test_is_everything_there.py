"""docs/is-everything-there.md: a day that was cut short without a trace is found by Mixpanel's own counts."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.docs.pages import marked, text_of
from tests.doctor.test_docs import shown
from tests.examples.test_dbt import MODELS, ask, shell

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "docs/is-everything-there.md"
TEST = "loaded_events_are_those_that_mixpanel_counts"
BOTH = {"streams": ["events", "event_counts"]}


def compare(folder: Path, **variables: object) -> str:
    """Build what the comparison needs, and run its test."""
    where = f'--project-dir "{MODELS}" --profiles-dir "{MODELS}" --target-path "{folder}/dbt" --log-path "{folder}/dbt"'
    values = json.dumps({"event_counts_loaded": True, **variables})
    command = (
        f"dbt --no-use-colors build {where} --vars '{values}' --select +completeness --indirect-selection cautious"
    )
    return shell(command, folder, MIXPANEL_DUCKDB=str(folder / "warehouse.duckdb"))


def test_a_day_cut_short_is_found_and_read_again(tmp_path: Path, renew: bool) -> None:
    """The commands of the page find the day, repair it, and have dbt say so before and after."""
    mark = "checked by test_a_day_cut_short_is_found_and_read_again"
    begin, query, repair, dbt = (block.text for block in marked(text_of(PAGE), mark))
    done = shell(
        f"trap 'kill $(jobs -p)' EXIT\n{begin}{query}echo ===\nmkdir before; cp warehouse.duckdb before\n{repair}",
        tmp_path,
    )
    found, repaired = done.split("===\n")
    for name, output in (("found", found), ("repaired", repaired)):
        told = output.strip("\n") + "\n"
        assert told == shown("is-everything-there.md", name, told, renew=renew), "run pytest with --renew"
    days = {line.split("│")[1].strip() for line in found.splitlines() if line.startswith("│ 2024")}
    assert days == {"2024-01-10"}
    with pytest.raises(AssertionError, match=rf"FAIL \d+ {TEST}"):
        compare(tmp_path / "before")
    assert f"PASS {TEST}" in shell(dbt, tmp_path)


def test_days_of_an_older_project_are_compared_in_its_own_zone(tmp_path: Path) -> None:
    """With the project's zone all days agree to the event; by days of UTC none does."""
    zone = "America/Los_Angeles"
    project = SyntheticProject(
        first_day=dt.date(2022, 3, 8), last_day=dt.date(2022, 3, 16), events_per_day=100, zone=zone
    )
    with Emulator(project, now=lambda: dt.datetime(2022, 3, 18, tzinfo=dt.UTC)) as emulator:
        days = {"start_date": "2022-03-08", "end_date": "2022-03-16", "project_timezone": zone}
        (tmp_path / "config.json").write_text(json.dumps(emulator.settings | days | BOTH))
        (tmp_path / "target.json").write_text('{"path": "warehouse.duckdb", "default_target_schema": "mixpanel"}')
        shell("tap-mixpanel-stream --config config.json | target-duckdb --config target.json", tmp_path)
    assert f"PASS {TEST}" in compare(tmp_path, project_timezone=zone, count_tolerance=0, last_days_left_out=0)
    [[loaded, counted, days_compared]] = ask(
        tmp_path, "SELECT sum(loaded), sum(counted), count(DISTINCT day) FROM analytics.completeness"
    )
    assert (loaded, days_compared) == (counted, 9)
    with pytest.raises(AssertionError, match=rf"FAIL \d+ {TEST}"):
        compare(tmp_path)
