"""Worker processes: the output is the same as with one process, and no process is left."""

from __future__ import annotations

import datetime as dt
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, SyntheticProject
from tests.harness import ENVIRONMENT, Run, command, run_tap

DAYS = {
    "project_timezone": "UTC",
    "start_date": "2024-01-01",
    "end_date": "2024-01-06",
    "window_days": 1,
    "concurrent_exports": 3,
}
TWO = {"worker_processes": 2}


def project() -> SyntheticProject:
    return SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 6), events_per_day=150)


def without_clock(run: Run) -> list[bytes]:
    return [re.sub(rb',"time_extracted":"[^"]+"', b"", line) for line in run.stdout.splitlines()]


@pytest.mark.parametrize("raw", [False, True])
def test_worker_processes_keep_the_messages(
    raw: bool, only_events: dict[str, Any], only_raw_events: dict[str, Any]
) -> None:
    """The messages with worker processes are those of one process."""
    catalog = only_raw_events if raw else only_events
    with Emulator(project()) as emulator:
        settings = emulator.settings | DAYS | {"raw": raw, "project_timezone": "Europe/Berlin", "strip_nul": True}
        one = run_tap(settings, catalog=catalog).well()
        several = run_tap(settings | TWO, catalog=catalog).well()
    assert without_clock(several) == without_clock(one)
    assert len(one.records()) == 900


@pytest.mark.parametrize(
    "name", ["gzip-cut", "gzip-trailer", "chunk-cut", "sentinel:terminated early", "half-line", "bad-line", "reset"]
)
def test_faults_with_worker_processes(name: str, only_events: dict[str, Any]) -> None:
    """A fault in one request is retried; in all requests it fails the run."""
    with Emulator(project(), faults=[Fault("export", 2, name)]) as emulator:
        settings = emulator.settings | DAYS | TWO
        passed = run_tap(settings | {"max_retries": 1}, catalog=only_events).well()
        emulator.faults = [Fault("export", None, name)]
        ended = run_tap(settings | {"max_retries": 0}, catalog=only_events)
    assert len(passed.records()) == 900
    assert passed.bookmark == "2024-01-07T00:00:00+00:00"
    assert ended.exit_code == 1
    assert len(ended.errors) == 1
    assert ended.errors[0].startswith("events 2024-01-01: ")
    assert ended.records() == []
    assert not any("Traceback" in line for line in ended.stderr)


def test_worker_processes_keep_rejected_lines(only_events: dict[str, Any], tmp_path: Path) -> None:
    """Malformed lines are written to the file with worker processes too."""
    skip = {"bad_lines": "skip", "bad_lines_path": str(tmp_path / "rejected")}
    with Emulator(project(), faults=[Fault("export", None, "bad-line")]) as emulator:
        run = run_tap(emulator.settings | DAYS | TWO | skip, catalog=only_events).well()
    assert len(run.records()) == 900
    assert (tmp_path / "rejected").read_bytes() == b"this line is no JSON\n" * 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_run(number: signal.Signals, only_events: dict[str, Any], tmp_path: Path) -> None:
    """No worker process is left after SIGTERM or SIGKILL."""
    stall = Fault("export", None, "stall", value=60)
    with Emulator(project(), faults=[stall]) as emulator:
        line = command(tmp_path, emulator.settings | DAYS | TWO, catalog=only_events)
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as tap:
            children = Path(f"/proc/{tap.pid}/task")
            workers: set[str] = set()
            while len(workers) < 2:
                time.sleep(0.05)
                workers = {child for task in children.iterdir() for child in (task / "children").read_text().split()}
            begin = time.monotonic()
            tap.send_signal(number)
            assert tap.wait(20) in {128 + number, -number}
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() - begin < 10, "a worker is left"
        time.sleep(0.05)


def test_workers_ignore_the_working_directory(only_events: dict[str, Any], tmp_path: Path) -> None:
    """A module in the working directory with the name of a standard module is not imported."""
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong module')\n")
    with Emulator(project()) as emulator:
        run = run_tap(emulator.settings | DAYS | TWO, catalog=only_events, within=["env", "-C", str(tmp_path)]).well()
    assert len(run.records()) == 900


def test_a_workers_environment_has_no_secret(only_events: dict[str, Any], tmp_path: Path) -> None:
    """Neither settings nor a proxy's password are in a worker's environment."""
    stall = Fault("export", None, "stall", value=60)
    secrets = {"TAP_MIXPANEL_STREAM_API_SECRET": "very-s3cret", "HTTPS_PROXY": "http://user:very-s3cret@127.0.0.1:9"}
    with Emulator(project(), faults=[stall]) as emulator:
        line = command(tmp_path, emulator.settings | DAYS | TWO, catalog=only_events)
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT | secrets) as tap:
            children = Path(f"/proc/{tap.pid}/task")
            workers: set[str] = set()
            while len(workers) < 2:
                assert tap.poll() is None
                time.sleep(0.05)
                started = {child for task in children.iterdir() for child in (task / "children").read_text().split()}
                # Until it runs its own program, a child has its parent's environment.
                workers = {each for each in started if b"serve" in Path(f"/proc/{each}/cmdline").read_bytes()}
            seen = [Path(f"/proc/{worker}/environ").read_bytes() for worker in workers]
            tap.terminate()
            tap.communicate(timeout=20)
    assert not any(b"s3cret" in environment for environment in seen)
