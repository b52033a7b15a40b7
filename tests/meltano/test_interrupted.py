"""Interrupted runs under Meltano count as failed, and later runs lose nothing."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sqlite3
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, SyntheticProject
from tests.docs.programs import requested_days
from tests.meltano.project import STATE_ID, Project, ended

if TYPE_CHECKING:
    from pathlib import Path

FIRST, LAST = dt.date(2024, 1, 1), dt.date(2024, 1, 10)
MIXPANEL = SyntheticProject(first_day=FIRST, last_day=LAST, events_per_day=20, profiles=5)
# Raw, so that records are the lines, and one day a request, so that the fourth is for the fourth day.
SETTINGS = {
    "project_timezone": "UTC",
    "start_date": str(FIRST),
    "end_date": str(LAST),
    "window_days": "1",
    "concurrent_exports": "1",
    "raw": "true",
}


def all_lines() -> Counter[str]:
    lines = MIXPANEL.lines(FIRST, LAST, now=dt.datetime.now(dt.UTC))
    return Counter(json.dumps(json.loads(line), sort_keys=True) for line in lines)


def loaded(project: Project) -> Counter[str]:
    return Counter(json.dumps(json.loads(line), sort_keys=True) for line in project.loaded("events"))


def query_database(project: Project, query: str) -> list[str]:
    """Query Meltano's database about the pipeline, which is faster than a Meltano command."""
    with sqlite3.connect(project.folder / ".meltano" / "meltano.db") as database:
        return [text for (text,) in database.execute(query, [STATE_ID])]


def outcomes(project: Project) -> list[str]:
    """Return the outcomes of the runs so far in Meltano's database."""
    return query_database(project, "SELECT state FROM runs WHERE job_name = ? ORDER BY started_at")


def stored_bookmark(project: Project) -> str | None:
    """Return the bookmark in the state that Meltano stores."""
    for text in query_database(project, "SELECT completed_state FROM state WHERE state_id = ?"):
        state = json.loads(text).get("singer_state", {})
        return str(state["bookmarks"]["events"]["replication_key_value"]) if state else None
    return None


def record_process_id(project: Project) -> Path:
    """Make the tap write its process id to a file, and return the file."""
    program = project.folder / "bin" / "tap-mixpanel-stream"
    number = project.folder / "tap.pid"
    own = program.readlink()
    program.unlink()
    program.write_text(f'#!/bin/sh\necho $$ > "{number}"\nexec "{own}" "$@"\n')
    program.chmod(0o755)
    return number


def interrupted(project: Project, emulator: Emulator, how: str) -> tuple[int, str]:
    """Run until the emulator stalls at the fourth day, then interrupt the run."""
    number = record_process_id(project)
    running = project.start("exec meltano run tap-mixpanel-stream target-jsonl")
    while sum(seen.kind == "export" for seen in emulator.requests) < 4:
        assert running.poll() is None, ended(running).out
        time.sleep(0.05)
    while len(project.loaded("events")) < 3 * 20:
        time.sleep(0.05)
    if how == "tap":
        os.kill(int(number.read_text()), signal.SIGTERM)
    elif how == "Ctrl-C":
        os.killpg(running.pid, signal.SIGINT)
    else:
        os.kill(running.pid, signal.Signals[how])
    done = ended(running)
    return done.code, done.out


@pytest.mark.parametrize(
    ("how", "code", "outcome", "bookmark"),
    [
        ("tap", 1, "FAIL", "2024-01-04T00:00:00+00:00"),
        ("SIGTERM", 143, "FAIL", None),
        ("Ctrl-C", 1, "FAIL", None),
        ("SIGKILL", 137, "RUNNING", None),
    ],
)
def test_an_interrupted_run_loses_nothing(
    how: str, code: int, outcome: str, bookmark: str | None, project: Project
) -> None:
    """An interrupted run counts as failed, and with the next run every event is loaded."""
    silence = Fault("export", 4, "silence", value=60)
    with Emulator(MIXPANEL, faults=[silence]) as emulator:
        project.fill_in(emulator.settings | SETTINGS)
        exit_code, log = interrupted(project, emulator, how)
        assert exit_code == code, log
        assert "the target closed the pipe" not in log
        assert outcomes(project) == [outcome]
        assert stored_bookmark(project) == bookmark
        if outcome == "RUNNING":
            rejected = project.run()
            assert rejected.code == 1
            assert "already running" in rejected.out
        project.run(*(["--force"] if outcome == "RUNNING" else [])).well()
    assert all_lines() - loaded(project) == Counter()
    assert outcomes(project)[-1] == "SUCCESS"


def test_a_failed_tap_keeps_the_days_before(project: Project) -> None:
    """The state covers the days before the failure, and the next run continues."""
    settings = SETTINGS | {"lookback_days": "1", "max_retries": "0"}
    with Emulator(MIXPANEL, faults=[Fault("export", {6}, "status:402")]) as emulator:
        project.fill_in(emulator.settings | settings)
        failed = project.run()
        assert failed.code == 1
        assert "events 2024-01-06: HTTP 402" in failed.out
        assert outcomes(project) == ["FAIL"]
        assert stored_bookmark(project) == "2024-01-06T00:00:00+00:00"
        begin = len(emulator.requests)
        project.run().well()
        assert requested_days(emulator.requests[begin:]) == ("2024-01-05", str(LAST))
    assert all_lines() - loaded(project) == Counter()
    assert sum((loaded(project) - all_lines()).values()) == 20  # the day of the look-back


def test_a_failed_target_fails_the_run(project: Project, tmp_path: Path) -> None:
    """A failed target fails the run and stores no state."""
    (tmp_path / "output").write_text("a file instead of the folder")
    with Emulator(MIXPANEL) as emulator:
        project.fill_in(emulator.settings | SETTINGS)
        failed = project.run()
        assert failed.code == 1
        assert outcomes(project) == ["FAIL"]
        assert stored_bookmark(project) is None
        (tmp_path / "output").unlink()
        project.run().well()
    assert loaded(project) == all_lines()
