from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from tap_mixpanel_stream.delivery.spool import SpooledChunk
from tap_mixpanel_stream.pipeline.errors import WorkerLostError
from tap_mixpanel_stream.pipeline.workers import BLOCKS_PER_HOLD, ConversionLock, Workers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCKS = [b"one\ntwo\n", b"x" * 200_000 + b"\n", b"bad\n"]


class BadBlockError(Exception):
    pass


@dataclass(frozen=True)
class Upper:
    """Keeps lines in upper case, and counts. Some lines raise or kill."""

    refused: bytes = b"refused\n"
    deadly: bytes = b"deadly\n"

    def __call__(self, blocks: Iterable[bytes], chunk: SpooledChunk) -> None:
        for block in blocks:
            if block == self.refused:
                raise BadBlockError("refused", os.getpid())
            if block == self.deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            (chunk.rejected_lines if block == b"bad\n" else chunk.lines).write(block.upper())
            chunk.records += block.count(b"\n")
            chunk.decompressed_bytes += len(block)


def children() -> set[str]:
    found: set[str] = set()
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended meanwhile
            found.update((task / "children").read_text().split())
    return found


@pytest.fixture(autouse=True)
def before() -> Iterator[set[str]]:
    """The processes that there are already; in the end there must be no others."""
    children_before = children()
    yield children_before
    assert children() == children_before


def filled(workers: Workers, blocks: Iterable[bytes]) -> SpooledChunk:
    with contextlib.ExitStack() as unless_filled:
        chunk = unless_filled.enter_context(SpooledChunk())
        workers.fill(Upper(), blocks, chunk)
        unless_filled.pop_all()
    return chunk


def test_a_worker_fills_a_chunk_like_this_process() -> None:
    with Workers(1) as workers, SpooledChunk() as here:
        Upper()(BLOCKS, here)
        with filled(workers, BLOCKS) as there:
            assert b"".join(there.lines.blocks()) == b"".join(here.lines.blocks())
            assert b"".join(there.rejected_lines.blocks()) == b"BAD\n"
            assert there.counts == here.counts


def test_a_worker_is_used_again_and_only_as_many_as_are_needed_are_started(before: set[str]) -> None:
    with Workers(3) as workers:
        for _ in range(4):
            filled(workers, BLOCKS).close()
        assert len(children() - before) == 1


def test_no_more_bodies_than_workers_are_worked_on_at_once() -> None:
    gate, begun = threading.Event(), []

    def waiting(number: int) -> Iterator[bytes]:
        begun.append(number)
        yield b"one\n"
        gate.wait(10)

    with Workers(2) as workers:
        threads = [threading.Thread(target=lambda n=n: filled(workers, waiting(n)).close()) for n in range(4)]
        for thread in threads:
            thread.start()
        while len(begun) < 2:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(begun) == 2
        gate.set()
        for thread in threads:
            thread.join()
    assert len(begun) == 4


def test_an_error_in_a_worker_is_raised_here_at_once_and_the_next_body_gets_another_worker() -> None:
    def endless() -> Iterator[bytes]:
        yield b"refused\n"
        while True:
            yield b"x" * 100_000 + b"\n"

    with Workers(1) as workers:
        with pytest.raises(BadBlockError) as raised:
            filled(workers, endless())
        assert raised.value.args[1] != os.getpid()
        with filled(workers, BLOCKS) as chunk:
            assert chunk.records == 4


def test_a_body_that_breaks_off_leaves_no_worker_that_takes_its_rest_for_another() -> None:
    def breaks_off() -> Iterator[bytes]:
        yield b"one\n"
        raise ConnectionAbortedError("cut")

    with Workers(1) as workers:
        with pytest.raises(ConnectionAbortedError):
            filled(workers, breaks_off())
        with filled(workers, BLOCKS) as chunk:
            assert chunk.records == 4


def test_a_worker_that_dies_is_an_error_that_says_how() -> None:
    with Workers(1) as workers, pytest.raises(WorkerLostError, match=r"SIGKILL.*worker_processes"):
        filled(workers, [b"one\n", b"deadly\n"] + [b"x" * 100_000 + b"\n"] * 20)


def test_a_worker_ends_when_the_process_that_has_it_is_killed() -> None:
    script = (
        "import time; from tap_mixpanel_stream.pipeline.workers import _Worker; "
        "worker = _Worker(); print(worker._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()


def test_stop_ends_the_workers_that_are_busy() -> None:
    """A thread that waits for a worker gets an error at once, whatever the worker is doing."""
    with Workers(1) as workers:
        timer = threading.Timer(1.0, workers.stop)
        timer.start()
        with pytest.raises(WorkerLostError, match="SIGKILL"), SpooledChunk() as chunk:
            workers.fill(Forever(), iter([b"one\n"]), chunk)
        timer.join()


@dataclass(frozen=True)
class Forever:
    """Never comes to an end."""

    def __call__(self, blocks: Iterable[bytes], chunk: SpooledChunk) -> None:
        for block in blocks:
            chunk.lines.write(block)
        time.sleep(60)


# --- The conversion lock ----------------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1), max_size=5 * BLOCKS_PER_HOLD))
def test_the_blocks_come_as_they_are(blocks: list[bytes]) -> None:
    assert list(ConversionLock().blocks(iter(blocks))) == blocks


def test_one_thread_at_a_time_has_blocks_in_hand() -> None:
    conversion_lock, at_work, most = ConversionLock(), [0], [0]
    started = threading.Barrier(3)

    def work() -> None:
        started.wait()
        for _ in conversion_lock.blocks(iter([b"x"] * 10 * BLOCKS_PER_HOLD)):
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
            threading.Event().wait(0.001)
            at_work[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_while_a_thread_waits_for_its_network_the_others_work() -> None:
    conversion_lock, more = ConversionLock(), threading.Event()

    def slow() -> Iterator[bytes]:
        yield from [b"x"] * BLOCKS_PER_HOLD
        assert more.wait(10)
        yield b"y"

    waiting: list[bytes] = []
    thread = threading.Thread(target=lambda: waiting.extend(conversion_lock.blocks(slow())))
    thread.start()
    assert len(list(conversion_lock.blocks(iter([b"z"] * 3 * BLOCKS_PER_HOLD)))) == 3 * BLOCKS_PER_HOLD
    more.set()
    thread.join()
    assert waiting == [b"x"] * BLOCKS_PER_HOLD + [b"y"]


def test_whoever_leaves_early_lets_the_next_one_go_on() -> None:
    conversion_lock = ConversionLock()
    with pytest.raises(ZeroDivisionError), closing(conversion_lock.blocks(iter([b"x", b"y"]))) as blocks:
        for _ in blocks:
            raise ZeroDivisionError
    assert list(conversion_lock.blocks(iter([b"z"]))) == [b"z"]


def test_what_goes_wrong_in_fetching_is_told_and_holds_up_nobody() -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise ConnectionError

    conversion_lock = ConversionLock()
    with pytest.raises(ConnectionError):
        list(conversion_lock.blocks(broken()))
    assert list(conversion_lock.blocks(iter([b"z"]))) == [b"z"]
