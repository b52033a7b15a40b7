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


def test_a_signal_between_blocks_ends_the_run_with_128_plus_its_number() -> None:
    with pytest.raises(Interrupted) as stop:
        Stdout().interrupt(signal.SIGTERM)
    assert stop.value.code == 143
    assert stop.value.signal is signal.SIGTERM


def test_a_signal_within_a_block_waits_until_the_block_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b"x" * 99 + b"\n"
    block = lines * 10_000  # more than a pipe holds: the write is still going on when the signal comes
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


def test_a_pipe_that_does_not_wait_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_file_on_a_full_disk_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        with pytest.raises(StdoutError, match="stdout cannot be written: No space left on device"):
            Stdout().write(b"line\n")


def test_a_target_that_is_gone_is_said_so_when_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    with piped(monkeypatch) as (stdout, reading):
        os.close(reading)
        with pytest.raises(TargetGoneError, match="target closed the pipe"):
            stdout.write(b"line\n")


def test_a_target_that_is_gone_is_noticed_while_there_is_nothing_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    with piped(monkeypatch) as (stdout, reading):
        stdout.check_reader()
        os.close(reading)
        with pytest.raises(TargetGoneError):
            stdout.check_reader()


def test_stdout_may_be_an_object_in_memory(capsys: pytest.CaptureFixture[str]) -> None:
    stdout = Stdout()
    stdout.write('{"type":"STATE","value":"Zürich"}\n'.encode())
    stdout.check_reader()
    assert capsys.readouterr().out == '{"type":"STATE","value":"Zürich"}\n'
