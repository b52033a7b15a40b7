"""However a run is ended: whole lines on stdout, a state that loses nothing, an exit code that tells."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, SyntheticProject
from tests.pipeline import ENVIRONMENT, command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST, LAST = dt.date(2024, 1, 1), dt.date(2024, 1, 12)
BEGIN = b'{"type":"RECORD","stream":"events","record":'


def project() -> SyntheticProject:
    return SyntheticProject(first_day=FIRST, last_day=LAST, events_per_day=400)


@contextlib.contextmanager
def running(
    folder: Path, settings: dict[str, Any], catalog: dict[str, Any], state: dict[str, Any] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    config = settings | {"start_date": str(FIRST), "end_date": str(LAST), "lookback_days": 0, "raw": True}
    line = command(folder, config, catalog=catalog, state=state)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as tap:
        try:
            yield tap
        finally:
            if tap.poll() is None:
                tap.kill()


def read_some(tap: subprocess.Popen[bytes], least: int) -> bytes:
    """Read like a slow target: no more than asked for, so that the pipe is full."""
    assert tap.stdout is not None
    taken = b""
    while len(taken) < least and (piece := os.read(tap.stdout.fileno(), min(4096, least - len(taken)))):
        taken += piece
    return taken


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("least", [1, 200_000, 1_500_000])
def test_a_signal_in_the_middle_ends_in_a_whole_line_and_128_plus_its_number(
    number: signal.Signals, least: int, only_raw_events: dict[str, Any], tmp_path: Path
) -> None:
    with Emulator(project()) as emulator, running(tmp_path, emulator.settings, only_raw_events) as tap:
        out = read_some(tap, least)
        time.sleep(0.2)  # now it writes into a full pipe
        tap.send_signal(number)
        time.sleep(0.1)
        more, errors = rest(tap)
        assert tap.wait(20) == 128 + number
    out += more
    assert out.endswith(b"\n")
    for line in out.split(b"\n")[:-1]:
        json.loads(line)
    assert f"ended by {number.name}" in errors
    assert "Traceback" not in errors


def test_a_signal_while_mixpanel_is_silent_ends_the_run_at_once(
    only_raw_events: dict[str, Any], tmp_path: Path
) -> None:
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


def test_a_target_that_dies_ends_the_tap_with_one_line_and_a_code(
    only_raw_events: dict[str, Any], tmp_path: Path
) -> None:
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


def test_a_target_that_dies_while_mixpanel_is_silent_is_noticed(
    only_raw_events: dict[str, Any], tmp_path: Path
) -> None:
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


def test_killed_at_any_moment_and_resumed_nothing_is_lost(only_raw_events: dict[str, Any], tmp_path: Path) -> None:
    """The target keeps the last state it saw and every whole line; the union over all runs is the source."""
    rng = random.Random(20240101)
    held = Counter(project().lines(FIRST, LAST, now=dt.datetime.now(dt.UTC)))
    with Emulator(project()) as emulator:
        for _ in range(4):
            state: dict[str, Any] | None = None
            arrived: Counter[bytes] = Counter()
            kills = 0
            while True:
                with running(tmp_path, emulator.settings, only_raw_events, state) as tap:
                    out = read_some(tap, rng.randrange(1, 1_500_000))
                    if kills < 6:
                        tap.kill()
                        kills += 1
                    more, errors = rest(tap)
                    out += more
                    code = tap.wait(30)
                state = last_state(out) or state
                arrived |= lines(out)
                if code == 0:
                    break
                assert code == -signal.SIGKILL, errors
            assert arrived == held
