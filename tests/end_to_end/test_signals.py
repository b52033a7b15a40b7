"""Signals and kills: complete lines on stdout, a state that loses nothing, a meaningful exit code."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject, SyntheticProject
from tests.harness import ENVIRONMENT, TAP, command

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST, LAST = dt.date(2024, 1, 1), dt.date(2024, 1, 12)
BEGIN = b'{"type":"RECORD","stream":"events","record":'


def project() -> SyntheticProject:
    return SyntheticProject(first_day=FIRST, last_day=LAST, events_per_day=400)


@contextlib.contextmanager
def running(
    folder: Path,
    settings: dict[str, Any],
    catalog: dict[str, Any],
    state: dict[str, Any] | None = None,
    **environment: str,
) -> Iterator[subprocess.Popen[bytes]]:
    config = settings | {
        "project_timezone": "UTC",
        "start_date": str(FIRST),
        "end_date": str(LAST),
        "lookback_days": 0,
        "raw": True,
    }
    line = command(folder, config, catalog=catalog, state=state)
    environment = ENVIRONMENT | environment
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as tap:
        try:
            yield tap
        finally:
            if tap.poll() is None:
                tap.kill()


def read_some(tap: subprocess.Popen[bytes], least: int) -> bytes:
    """Read at least `least` bytes like a slow target, so that the pipe stays full."""
    assert tap.stdout is not None
    received = b""
    while len(received) < least and (piece := os.read(tap.stdout.fileno(), min(4096, least - len(received)))):
        received += piece
    return received


def rest(tap: subprocess.Popen[bytes]) -> tuple[bytes, str]:
    assert tap.stdout is not None
    assert tap.stderr is not None
    out = tap.stdout.read()
    return out, tap.stderr.read().decode()


def last_state(out: bytes) -> dict[str, Any] | None:
    states = [json.loads(line)["value"] for line in out.split(b"\n")[:-1] if line.startswith(b'{"type":"STATE"')]
    return states[-1] if states else None


def lines(out: bytes) -> Counter[bytes]:
    found = (line for line in out.split(b"\n")[:-1] if line.startswith(BEGIN))
    return Counter(line.removeprefix(BEGIN).rpartition(b',"time_extracted"')[0] for line in found)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("least", [1, 200_000, 1_500_000])
def test_a_signal_ends_with_a_complete_line(
    number: signal.Signals, least: int, only_raw_events: dict[str, Any], tmp_path: Path
) -> None:
    """A signal ends the run with a complete line and exit code 128 plus its number."""
    with Emulator(project()) as emulator, running(tmp_path, emulator.settings, only_raw_events) as tap:
        out = read_some(tap, least)
        time.sleep(0.2)  # Now the tap writes to a full pipe.
        tap.send_signal(number)
        time.sleep(0.1)
        more, errors = rest(tap)
        assert tap.wait(20) == 128 + number
    out += more
    assert out.endswith(b"\n")
    for line in out.split(b"\n")[:-1]:
        json.loads(line)
    assert f"interrupted by {number.name}" in errors
    assert "Traceback" not in errors


def test_a_signal_ends_a_silent_request_at_once(only_raw_events: dict[str, Any], tmp_path: Path) -> None:
    """A signal ends the run at once while Mixpanel sends nothing."""
    silence = Fault("export", None, "silence", value=60)
    with (
        Emulator(project(), faults=[silence]) as emulator,
        running(tmp_path, emulator.settings, only_raw_events) as tap,
    ):
        while not emulator.requests:
            time.sleep(0.05)
        begin = time.monotonic()
        tap.send_signal(signal.SIGTERM)
        assert tap.wait(20) == 143
        assert time.monotonic() - begin < 5
        _, errors = rest(tap)
    assert "Traceback" not in errors


@pytest.mark.parametrize("way", ["mapped", "batches"])
def test_a_signal_ends_stream_maps_and_batches(way: str, only_raw_events: dict[str, Any], tmp_path: Path) -> None:
    """A signal also ends runs with stream maps or batch files with a complete line."""
    storage = {"encoding": {"format": "jsonl"}, "storage": {"root": tmp_path.as_uri()}}
    ways = {"mapped": {"stream_maps": {"events": {"event": "event"}}}, "batches": {"batch_config": storage}}
    with (
        Emulator(project(), faults=[Fault("export", 2, "silence", value=60)]) as emulator,
        running(tmp_path, emulator.settings | ways[way] | {"concurrent_exports": 1}, only_raw_events) as tap,
    ):
        while len(emulator.requests) < 2:
            time.sleep(0.05)
        tap.send_signal(signal.SIGTERM)
        out, errors = rest(tap)
        assert tap.wait(20) == 143
    assert out.endswith(b"\n")
    assert {json.loads(line)["type"] for line in out.split(b"\n")[:-1]} >= {"SCHEMA"}
    assert "Traceback" not in errors


def test_a_signal_before_the_run_has_no_traceback(tmp_path: Path) -> None:
    """A signal while the settings are read ends the tap without a traceback."""
    fifo = tmp_path / "config.json"
    os.mkfifo(fifo)
    line = [str(TAP), "--config", str(fifo)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as tap:
        writing = fifo.open("wb")  # opened once the tap reads its settings
        tap.send_signal(signal.SIGINT)
        assert tap.wait(20) == -signal.SIGINT
        writing.close()
        assert tap.stderr is not None
        assert b"Traceback" not in tap.stderr.read()


def test_a_signal_during_imports_has_no_traceback(tmp_path: Path) -> None:
    """Python's default handler would print a traceback during the first third of a second."""
    environment = ENVIRONMENT | {"PYTHONPROFILEIMPORTTIME": "1"}
    line = [sys.executable, "-m", "tap_mixpanel_stream", *command(tmp_path, {})[1:]]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as tap:
        assert tap.stderr is not None
        while b" click" not in tap.stderr.readline():
            assert tap.poll() is None
        tap.send_signal(signal.SIGINT)
        assert tap.wait(20) == -signal.SIGINT
        assert b"Traceback" not in tap.stderr.read()


def test_nohup_ignores_sighup(only_raw_events: dict[str, Any], tmp_path: Path) -> None:
    """Started by nohup, the tap ignores SIGHUP."""
    with Emulator(project(), faults=[Fault("export", 1, "silence", value=2)]) as emulator:
        config = emulator.settings | {"start_date": str(FIRST), "end_date": str(FIRST), "raw": True}
        line = ["nohup", *command(tmp_path, config, catalog=only_raw_events)]
        with subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
        ) as tap:
            while not emulator.requests:
                assert tap.poll() is None
                time.sleep(0.05)
            tap.send_signal(signal.SIGHUP)
            tap.communicate(timeout=60)
        assert tap.returncode == 0


@pytest.mark.parametrize("least", [1, 200_000])
def test_ctrl_c_on_a_pipeline_is_an_interrupt(least: int, only_raw_events: dict[str, Any], tmp_path: Path) -> None:
    """A terminal interrupts target and tap together: the tap reports SIGINT, not a closed pipe."""
    with Emulator(project()) as emulator:
        config = emulator.settings | {"start_date": str(FIRST), "end_date": str(LAST), "raw": True}
        target = f"{sys.executable} -c 'import sys, time; sys.stdin.buffer.read({least}); time.sleep(60)'"
        tap_line = shlex.join(command(tmp_path, config, catalog=only_raw_events))
        code, log = tmp_path / "code", tmp_path / "log"
        script = f"trap : INT; {{ {tap_line} 2> {log}; echo $? > {code}; }} | {target}"
        with subprocess.Popen(["/bin/bash", "-c", script], env=ENVIRONMENT, start_new_session=True) as pipeline:
            while len(emulator.requests) < 2:
                time.sleep(0.05)
            time.sleep(1)  # Now the tap writes to a full pipe.
            os.killpg(pipeline.pid, signal.SIGINT)
            pipeline.wait(20)
        assert code.read_text().strip() == "130", log.read_text()
        assert "interrupted by SIGINT" in log.read_text()
        assert "closed the pipe" not in log.read_text()
        assert "exit code 130" in log.read_text().splitlines()[-1]


def test_sigterm_lets_the_target_finish(only_raw_events: dict[str, Any], tmp_path: Path) -> None:
    """Stdout ends with a state that covers the windows before it, and no resource is left open."""
    faults = [Fault("export", {3, 4, 5}, "silence", value=60)]
    read: list[tuple[bytes, str]] = []
    settings = {"concurrent_exports": 2, "window_days": 1}
    with (
        Emulator(project(), faults=faults) as emulator,
        running(tmp_path, emulator.settings | settings, only_raw_events, PYTHONWARNINGS="always") as tap,
    ):
        target = threading.Thread(target=lambda: read.append(rest(tap)))
        target.start()
        while len(emulator.requests) < 4:
            time.sleep(0.05)
        tap.send_signal(signal.SIGTERM)
        target.join(20)
        assert tap.wait(20) == 143
    [(out, errors)] = read
    state = last_state(out)
    assert state is not None
    assert sum(lines(out).values()) == 400 * (dt.date.fromisoformat(bookmark_day(state)) - FIRST).days
    assert "ResourceWarning" not in errors
    assert "exit code 143" in errors.splitlines()[-1]


def bookmark_day(state: dict[str, Any]) -> str:
    return str(state["bookmarks"]["events"]["replication_key_value"])[:10]


def test_sigterm_ends_a_run_with_stopped_workers(only_raw_events: dict[str, Any], tmp_path: Path) -> None:
    """The run ends within 5 seconds even if its worker processes hang."""
    settings = {"concurrent_exports": 4, "worker_processes": 3, "window_days": 1}
    stalls = [Fault("export", None, "stall", value=60)]
    with (
        Emulator(project(), faults=stalls) as emulator,
        running(tmp_path, emulator.settings | settings, only_raw_events) as tap,
    ):
        while len(workers := worker_ids(tap.pid)) < 3:
            time.sleep(0.05)
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        begin = time.monotonic()
        tap.send_signal(signal.SIGTERM)
        assert tap.wait(20) == 143
        assert time.monotonic() - begin < 5


def worker_ids(parent: int) -> list[int]:
    """Return the child processes of a process."""
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def test_a_target_that_dies_is_one_error_line(only_raw_events: dict[str, Any], tmp_path: Path) -> None:
    """If the target dies, the tap ends with one error line and exit code 1."""
    with Emulator(project()) as emulator, running(tmp_path, emulator.settings, only_raw_events) as tap:
        read_some(tap, 1000)
        assert tap.stdout is not None
        tap.stdout.close()
        assert tap.wait(20) == 1
        assert tap.stderr is not None
        errors = tap.stderr.read().decode()
    assert errors.count("| ERROR ") == 1
    assert "the target closed the pipe" in errors
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


def test_a_dead_target_is_noticed_without_data(only_raw_events: dict[str, Any], tmp_path: Path) -> None:
    """A dead target ends the tap even while Mixpanel sends nothing."""
    silence = Fault("export", None, "silence", value=60)
    with (
        Emulator(project(), faults=[silence]) as emulator,
        running(tmp_path, emulator.settings, only_raw_events) as tap,
    ):
        while not emulator.requests:
            time.sleep(0.05)
        assert tap.stdout is not None
        tap.stdout.close()
        assert tap.wait(10) == 1


def with_bad_lines() -> FixedProject:
    """Return the project with two malformed lines added to each day."""
    days = [FIRST + dt.timedelta(days=number) for number in range((LAST - FIRST).days + 1)]
    now = dt.datetime.now(dt.UTC)
    return FixedProject(
        {day: [*project().lines(day, day, now=now), b"no event of %d" % day.day, b"{}"] for day in days}
    )


@pytest.mark.seeds(4)
def test_a_killed_run_loses_nothing_when_continued(seed: int, only_raw_events: dict[str, Any], tmp_path: Path) -> None:
    """After kills at random moments, the runs together deliver every event and malformed line."""
    rng = random.Random(seed)
    expected = Counter(project().lines(FIRST, LAST, now=dt.datetime.now(dt.UTC)))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    rejected = tmp_path / "rejected"
    extra = {"bad_lines": "skip", "bad_lines_path": str(rejected), **({"worker_processes": 2} if seed % 2 else {})}
    state: dict[str, Any] | None = None
    arrived: Counter[bytes] = Counter()
    kills = 0
    with Emulator(with_bad_lines()) as emulator:
        while True:
            with running(tmp_path, emulator.settings | extra, only_raw_events, state, TMPDIR=str(temporary)) as tap:
                out = read_some(tap, rng.randrange(1, 1_500_000))
                if kills < 6:
                    tap.kill()
                    kills += 1
                more, errors = rest(tap)
                out += more
                code = tap.wait(30)
            assert list(temporary.iterdir()) == [], "no temporary file outlives the run"
            state = last_state(out) or state
            arrived |= lines(out)
            if code == 0:
                break
            assert code == -signal.SIGKILL, errors
    assert arrived == expected
    bad = {line for day in with_bad_lines().events.values() for line in day[-2:]}
    rejected_lines = set(rejected.read_bytes().split(b"\n")) - {b""}
    assert rejected_lines >= bad
    assert all(any(line.startswith(start) for line in bad) for start in rejected_lines), (
        "at most a truncated copy of a line is left"
    )
