"""Failures under Meltano are as in a shell: other streams are loaded, states are checked, exit codes passed."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, SyntheticProject
from tests.meltano.project import STATE_ID

if TYPE_CHECKING:
    from tests.meltano.project import Project

MIXPANEL = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 2), events_per_day=5, profiles=4)
DAYS = {"start_date": "2024-01-01", "end_date": "2024-01-02", "max_retries": "0"}


def test_other_streams_are_loaded_after_a_failure(project: Project) -> None:
    """If profiles fail, events are loaded and their state is stored."""
    with Emulator(MIXPANEL, faults=[Fault("engage", None, "status:500")]) as emulator:
        project.fill_in(emulator.settings | DAYS)
        failed = project.run()
        assert failed.code == 1
        assert "profiles page 0: HTTP 500" in failed.out
        assert "run: streams 1 done (events), 1 failed (profiles)" in failed.out
        assert len(project.loaded("events")) == 10
        assert project.state() == "2024-01-03T00:00:00+00:00"


@pytest.mark.parametrize(
    ("stream", "value", "code", "says"),
    [
        ("events", "2099-01-01T00:00:00+00:00", 1, "the bookmark of events is in the future"),
        ("export", "2024-01-01T00:00:00+00:00", 0, "unknown stream 'export'"),
    ],
)
def test_a_state_set_in_meltano_is_checked(stream: str, value: str, code: int, says: str, project: Project) -> None:
    """A future bookmark is rejected, an unknown stream is a warning."""
    state = {"singer_state": {"bookmarks": {stream: {"replication_key_value": value}}}}
    with Emulator(MIXPANEL) as emulator:
        project.fill_in(emulator.settings | DAYS)
        project.shell(f"meltano state set --force {STATE_ID} '{json.dumps(state)}'").well()
        done = project.run()
        assert done.code == code, done.out
        assert says in done.out
        assert bool(emulator.requests) == (code == 0)
