from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.delivery.stdout import Interrupted, Stdout, StdoutError, TargetGoneError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Stdout, int]]:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as out:
        monkeypatch.setattr("sys.stdout", out)
        yield Stdout(), reading


def test_a_signal_between_blocks_exits_with_128_plus_n() -> None:
    """A signal between blocks ends the run with exit code 128 plus its number."""
    with pytest.raises(Interrupted) as stop:
        Stdout().interrupt(signal.SIGTERM)
    assert stop.value.code == 143
    assert stop.value.signal is signal.SIGTERM


def test_a_signal_within_a_block_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal during a write takes effect after the whole block is written."""
    lines = b"x" * 99 + b"\n"
    block = lines * 10_000  # larger than a pipe's buffer: the write is not finished when the signal arrives
    received = bytearray()
    with piped(monkeypatch) as (stdout, reading):
        previous = signal.signal(signal.SIGTERM, lambda number, _: stdout.interrupt(number))

        def slow_target() -> None:
            received.extend(os.read(reading, 1000))
            os.kill(os.getpid(), signal.SIGTERM)
            while len(received) < len(block):
                received.extend(os.read(reading, 65536))

        target = threading.Thread(target=slow_target)
        target.start()
        try:
            with pytest.raises(Interrupted):
                stdout.write(block)
        finally:
            signal.signal(signal.SIGTERM, previous)
            target.join()
            os.close(reading)
    assert bytes(received) == block


def test_a_non_blocking_pipe_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write to a full non-blocking pipe waits and loses no byte."""
    block = b"x" * 999_999 + b"\n"
    received = bytearray()
    with piped(monkeypatch) as (stdout, reading):
        os.set_blocking(sys.stdout.fileno(), False)

        def slow_target() -> None:
            while len(received) < len(block) and (piece := os.read(reading, 65536)):
                received.extend(piece)
                time.sleep(0.01)  # time enough to find the pipe full

        target = threading.Thread(target=slow_target, daemon=True)
        target.start()
        stdout.write(block)
        target.join()
        os.close(reading)
    assert bytes(received) == block


def test_a_full_disk_behind_stdout_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says that stdout cannot be written, and why."""
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        with pytest.raises(StdoutError, match="stdout cannot be written: No space left on device"):
            Stdout().write(b"line\n")


def test_a_closed_pipe_fails_on_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write to a pipe that the target has closed raises `TargetGoneError`."""
    with piped(monkeypatch) as (stdout, reading):
        os.close(reading)
        with pytest.raises(TargetGoneError, match="target closed the pipe"):
            stdout.write(b"line\n")


def test_a_closed_pipe_is_noticed_without_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check_reader` raises `TargetGoneError` once the target has closed the pipe."""
    with piped(monkeypatch) as (stdout, reading):
        stdout.check_reader()
        os.close(reading)
        with pytest.raises(TargetGoneError):
            stdout.check_reader()


def test_stdout_may_be_in_memory(capsys: pytest.CaptureFixture[str]) -> None:
    """`sys.stdout` may be an object without a file descriptor."""
    stdout = Stdout()
    stdout.write('{"type":"STATE","value":"Zürich"}\n'.encode())
    stdout.check_reader()
    assert capsys.readouterr().out == '{"type":"STATE","value":"Zürich"}\n'
