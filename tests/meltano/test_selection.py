"""Selection, stream maps and mistakes in them, with Meltano."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.docs import pages

if TYPE_CHECKING:
    from tests.meltano.project import Project

MIXPANEL = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 31), events_per_day=20, profiles=5)
DAYS = {"start_date": "2024-01-01", "end_date": "2024-01-02"}
MAPS = "TAP_MIXPANEL_STREAM_STREAM_MAPS"
FILTER = "TAP_MIXPANEL_STREAM__SELECT_FILTER"
SURROGATE_RECIPE = json.loads(pages.named("docs/targets.md")["unpaired surrogate: config.json"])["stream_maps"]


def test_nothing_selected_fails_the_pipeline(project: Project) -> None:
    """A selection without a stream fails the pipeline with the reason in the log."""
    with Emulator(MIXPANEL) as emulator:
        project.fill_in(emulator.settings | DAYS)
        ended = project.run(environment={FILTER: '["no_such_stream"]'})
        assert emulator.requests == []
    assert ended.code == 1
    assert "the catalog selects no stream" in ended.out


@pytest.mark.parametrize("maps", [SURROGATE_RECIPE, {"*": {"loaded_by": "'x'"}}], ids=["recipe", "wildcard"])
def test_maps_do_not_affect_unselected_streams(maps: dict[str, object], project: Project) -> None:
    """The recipe in docs/targets.md and a wildcard work with SELECT_FILTER."""
    with Emulator(MIXPANEL) as emulator:
        project.fill_in(emulator.settings | DAYS)
        project.run(environment={MAPS: json.dumps(maps), FILTER: '["profiles"]'}).well()
    profiles = [json.loads(line) for line in project.loaded("profiles")]
    assert len(profiles) == 5
    assert all(("loaded_by" in profile) == ("*" in maps) for profile in profiles)
    assert project.loaded("events") == []


@pytest.mark.parametrize(
    ("maps", "says"),
    [
        ({"exports": {"a": "'x'"}}, "stream_maps: unknown stream exports: did you mean events?"),
        ({"events": {"a": "properties['$no_such']"}}, "failed on a record: there is no key '$no_such'"),
    ],
)
def test_an_invalid_map_fails_the_pipeline(maps: dict[str, object], says: str, project: Project) -> None:
    """The pipeline fails, and the log names the mistake."""
    with Emulator(MIXPANEL) as emulator:
        project.fill_in(emulator.settings | DAYS)
        ended = project.run(environment={MAPS: json.dumps(maps)})
    assert ended.code == 1
    assert says in ended.out


def test_meltanos_selection_overrides_streams(project: Project) -> None:
    """Meltano always passes a catalog, so `streams` is ignored with a warning."""
    with Emulator(MIXPANEL) as emulator:
        project.fill_in(emulator.settings | DAYS | {"streams": '["cohorts"]'})
        out = project.run().well()
        assert {seen.kind for seen in emulator.requests} == {"export", "engage"}
    assert "streams is ignored, since the catalog selects events, profiles" in out


def test_meltano_test_reads_objects_of_meltano_yml(project: Project) -> None:
    """`meltano test` passes objects of meltano.yml flattened in variables."""
    project.shell("meltano config set tap-mixpanel-stream stream_maps.events.copy insert_id").well()
    with Emulator(MIXPANEL) as emulator:
        project.fill_in(emulator.settings | DAYS)
        assert "1 test(s) successful" in project.shell("meltano test tap-mixpanel-stream").well()
        project.fill_in(emulator.settings | DAYS | {"lookbak_days": "3"})
        rejected = project.shell("meltano test tap-mixpanel-stream")
    assert rejected.code == 1
    assert "did you mean TAP_MIXPANEL_STREAM_LOOKBACK_DAYS?" in rejected.out
