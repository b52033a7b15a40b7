"""The tables and examples in docs/streams.md match the tap."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject, SyntheticProject
from tests.docs import pages
from tests.docs.programs import COMMANDS, ENVIRONMENT, ROOT
from tests.harness import catalog_of, run_tap
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import run_here

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "streams.md").read_text(encoding="utf-8")
SMALL = ("cohorts", "cohort_members", "annotations", "funnels", "event_counts", "lexicon_schemas", "insights")


@cache
def discovered() -> dict[str, dict[str, Any]]:
    catalog = json.loads(run_tap({}, "--discover").well().stdout)
    return {stream["tap_stream_id"]: stream for stream in catalog["streams"]}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def examples(title: str) -> list[dict[str, Any]]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section(title), re.DOTALL)]


@pytest.mark.parametrize("stream", SMALL)
def test_columns_types_and_keys_match_the_catalog(stream: str) -> None:
    """The tables have the columns, types and keys of the catalog."""
    table = section(stream).split("| column | type | |\n|---|---|---|\n")[1].split("\n\n")[0]
    shown: dict[str, str] = {}
    for row in table.splitlines():
        names, types = row.strip("|").split("|")[:2]
        columns, kinds = re.findall(r"`(\w+)`", names), types.strip().split(", ")
        # One type for all of them, or one for each.
        shown |= dict(zip(columns, kinds if len(kinds) > 1 else kinds * len(columns), strict=True))
    properties = discovered()[stream]["schema"]["properties"]
    assert list(shown) == list(properties)
    for column, kind in shown.items():
        spec = properties[column]
        [type_] = {spec["type"]} if isinstance(spec["type"], str) else set(spec["type"]) - {"null"}
        assert kind == spec.get("format", type_), column
    [keys] = re.findall(r"^\| key \| (.*) \|$", section(stream), re.MULTILINE)
    assert re.findall(r"`(\w+)`", keys) == discovered()[stream]["key_properties"]


def test_the_overview_has_the_default_selection() -> None:
    """The overview says which streams are selected by default."""
    rows = dict(re.findall(r"^\| \[`(\w+)`\]\(#\w+\) \| (yes|no) \|", PAGE, re.MULTILINE))
    assert set(rows) == set(discovered())
    for stream, entry in discovered().items():
        [root] = [each["metadata"] for each in entry["metadata"] if not each["breadcrumb"]]
        assert rows[stream] == ("yes" if root["selected"] else "no")


def test_the_states_shown_are_continued() -> None:
    """Runs continue from the states shown for profiles and funnels."""
    [behaviors, *_, profiles] = examples("profiles")
    [funnels] = examples("funnels")
    now = dt.datetime(2024, 1, 21, 9, tzinfo=dt.UTC)
    ids = funnels["bookmarks"]["funnels"]["by_funnel"]
    project = FixedProject(funnels=[{"funnel_id": int(number), "name": "", "days": {}} for number in ids])
    with Emulator(project, now=lambda: now) as emulator:
        config = {**emulator.settings, "start_date": "2024-01-01", "profiles_incremental": True}
        state = {"bookmarks": {**profiles["bookmarks"], **funnels["bookmarks"]}}
        result = run_here(config, FakeClock(now), catalog=catalog_of("profiles", "funnels"), state=state)
        [engage] = [seen for seen in emulator.requests if seen.kind == "engage"]
        requested = [seen for seen in emulator.requests if "funnel_id" in seen.query]
    assert result.error is None
    assert [seen.query["from_date"] for seen in requested] == ["2024-01-15"] * len(ids)
    assert engage.form["where"] == 'properties["$last_seen"] >= "2024-01-20T08:00:00"'
    assert result.state is not None
    for stream in ("profiles", "funnels"):
        assert set(result.state["bookmarks"][stream]) == set(state["bookmarks"][stream])
    assert "behaviors" in behaviors


def test_the_next_run_reads_the_other_cohorts() -> None:
    """A run with the state shown skips the finished cohorts."""
    [state] = examples("cohort_members")
    cohorts = [{"id": number, "name": "", "members": [f"u{number}"]} for number in (1000, 1001, 1002)]
    with Emulator(FixedProject(cohorts=cohorts)) as emulator:
        result = run_here(emulator.settings, FakeClock(), catalog=catalog_of("cohort_members"), state=state)
    assert [json.loads(record)["cohort_id"] for record in result.records("cohort_members")] == [1002]
    assert result.state == {"bookmarks": {"cohort_members": {}}}


def test_the_behaviors_example_filters_profiles() -> None:
    """The `behaviors` shown find the user with two purchases."""
    behaviors, *_ = examples("profiles")
    now = dt.datetime(2024, 1, 21, 9, tzinfo=dt.UTC)
    line = b'{"event":"Purchase","properties":{"distinct_id":"twice"}}'
    once = b'{"event":"Purchase","properties":{"distinct_id":"once"}}'
    people: list[dict[str, Any]] = [{"$distinct_id": name, "$properties": {}} for name in ("once", "twice", "never")]
    with Emulator(FixedProject({dt.date(2024, 1, 10): [line, once, line]}, people), now=lambda: now) as emulator:
        result = run_here({**emulator.settings, **behaviors}, FakeClock(now), catalog=catalog_of("profiles"))
    assert result.error is None
    assert [name for name in ("once", "twice", "never") if f'"{name}"'.encode() in result.stdout] == ["twice"]


def test_the_insights_example_is_read() -> None:
    """The configuration shown reads its report."""
    [shown] = examples("insights")
    [report] = shown["insights_reports"]
    answer = {"headers": ["$event"], "series": {"A": {"2024-01-01T00:00:00+00:00": 1}}}
    with Emulator(FixedProject(insights={report["bookmark_id"]: answer})) as emulator:
        run = run_tap({**emulator.settings, **shown, "start_date": "2024-01-01"}).well()
    assert [record["report_name"] for record in run.records("insights")] == [report["name"]]


def test_the_group_example_becomes_a_stream() -> None:
    """The group shown is a stream in the catalog."""
    [group] = examples("Group profiles")
    catalog = json.loads(run_tap(group, "--discover").well().stdout)
    assert group["group_profiles"][0]["name"] in {stream["tap_stream_id"] for stream in catalog["streams"]}


def test_the_catalog_example_adds_cohorts(tmp_path: Path) -> None:
    """The commands of the page add cohorts to the selection."""
    mark = "checked by test_the_catalog_example_adds_cohorts"
    [script] = [block.text for block in pages.marked(PAGE, mark)]
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), events_per_day=2, profiles=2)
    with Emulator(project) as emulator:
        days = {"start_date": "2024-01-01", "end_date": "2024-01-02"}
        (tmp_path / "config.json").write_text(json.dumps(emulator.settings | days))
        subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=ENVIRONMENT | {"PATH": f"{COMMANDS}:{ENVIRONMENT['PATH']}"},
            check=True,
        )
    messages = [json.loads(line) for line in (tmp_path / "messages.jsonl").read_bytes().splitlines()]
    read = {message["stream"] for message in messages if message["type"] == "RECORD"}
    assert read == {"events", "profiles", "cohorts", "cohort_members"}
