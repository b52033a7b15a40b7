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
    """A converter that writes lines in upper case and counts them. Some lines raise or kill the process."""

    rejected: bytes = b"rejected\n"
    killing: bytes = b"killing\n"

    def __call__(self, blocks: Iterable[bytes], chunk: SpooledChunk) -> None:
        for block in blocks:
            if block == self.rejected:
                raise BadBlockError("rejected", os.getpid())
            if block == self.killing:
                os.kill(os.getpid(), signal.SIGKILL)
            (chunk.rejected_lines if block == b"bad\n" else chunk.lines).write(block.upper())
            chunk.records += block.count(b"\n")
            chunk.decompressed_bytes += len(block)


def children() -> set[str]:
    found: set[str] = set()
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # The thread has ended.
            found.update((task / "children").read_text().split())
    return found


@pytest.fixture(autouse=True)
def before() -> Iterator[set[str]]:
    """Return the child processes before the test, and check that no others are left after it."""
    children_before = children()
    yield children_before
    assert children() == children_before


def fill(workers: Workers, blocks: Iterable[bytes]) -> SpooledChunk:
    with contextlib.ExitStack() as unless_filled:
        chunk = unless_filled.enter_context(SpooledChunk())
        workers.fill(Upper(), blocks, chunk)
        unless_filled.pop_all()
    return chunk


def test_a_worker_fills_a_chunk_like_this_process() -> None:
    """A chunk filled in a worker process equals one filled in this process."""
    with Workers(1) as workers, SpooledChunk() as here:
        Upper()(BLOCKS, here)
        with fill(workers, BLOCKS) as there:
            assert b"".join(there.lines.blocks()) == b"".join(here.lines.blocks())
            assert b"".join(there.rejected_lines.blocks()) == b"BAD\n"
            assert there.counts == here.counts


def test_workers_are_reused(before: set[str]) -> None:
    """Workers start on demand and are reused: four bodies in sequence need one process."""
    with Workers(3) as workers:
        for _ in range(4):
            fill(workers, BLOCKS).close()
        assert len(children() - before) == 1


def test_bodies_at_once_are_limited_by_workers() -> None:
    """No more bodies are converted at once than there are workers."""
    gate, begun = threading.Event(), []

    def waiting(number: int) -> Iterator[bytes]:
        begun.append(number)
        yield b"one\n"
        gate.wait(10)

    with Workers(2) as workers:
        threads = [threading.Thread(target=lambda n=n: fill(workers, waiting(n)).close()) for n in range(4)]
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


def test_an_error_in_a_worker_is_raised_at_once() -> None:
    """An error in a worker is raised here before the body ends, and the next body gets a new worker."""

    def endless() -> Iterator[bytes]:
        yield b"rejected\n"
        while True:
            yield b"x" * 100_000 + b"\n"

    with Workers(1) as workers:
        with pytest.raises(BadBlockError) as raised:
            fill(workers, endless())
        assert raised.value.args[1] != os.getpid()
        with fill(workers, BLOCKS) as chunk:
            assert chunk.records == 4


def test_a_worker_with_a_truncated_body_is_not_reused() -> None:
    """After a truncated body the next one is converted correctly."""

    def truncated() -> Iterator[bytes]:
        yield b"one\n"
        raise ConnectionAbortedError("cut")

    with Workers(1) as workers:
        with pytest.raises(ConnectionAbortedError):
            fill(workers, truncated())
        with fill(workers, BLOCKS) as chunk:
            assert chunk.records == 4


def test_the_error_for_a_killed_worker_names_the_signal() -> None:
    """The error for a killed worker names the signal and `worker_processes`."""
    with Workers(1) as workers, pytest.raises(WorkerLostError, match=r"SIGKILL.*worker_processes"):
        fill(workers, [b"one\n", b"killing\n"] + [b"x" * 100_000 + b"\n"] * 20)


def test_a_worker_ends_with_its_parent() -> None:
    """A worker ends when its parent process is killed."""
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


def test_stop_kills_busy_workers() -> None:
    """A thread that waits for a worker gets an error at once, whatever the worker is doing."""
    with Workers(1) as workers:
        timer = threading.Timer(1.0, workers.stop)
        timer.start()
        with pytest.raises(WorkerLostError, match="SIGKILL"), SpooledChunk() as chunk:
            workers.fill(Forever(), iter([b"one\n"]), chunk)
        timer.join()


@dataclass(frozen=True)
class Forever:
    """A converter that hangs after its input."""

    def __call__(self, blocks: Iterable[bytes], chunk: SpooledChunk) -> None:
        for block in blocks:
            chunk.lines.write(block)
        time.sleep(60)


# --- The conversion lock ----------------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1), max_size=5 * BLOCKS_PER_HOLD))
def test_the_lock_passes_blocks_unchanged(blocks: list[bytes]) -> None:
    """The conversion lock returns the blocks unchanged and in order."""
    assert list(ConversionLock().blocks(iter(blocks))) == blocks


def test_one_thread_converts_at_a_time() -> None:
    """Only one thread at a time processes blocks."""
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


def test_waiting_for_the_network_releases_the_lock() -> None:
    """While one thread waits for its next block, others convert theirs."""
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


def test_leaving_early_releases_the_lock() -> None:
    """A thread that stops reading early releases the lock."""
    conversion_lock = ConversionLock()
    with pytest.raises(ZeroDivisionError), closing(conversion_lock.blocks(iter([b"x", b"y"]))) as blocks:
        for _ in blocks:
            raise ZeroDivisionError
    assert list(conversion_lock.blocks(iter([b"z"]))) == [b"z"]


def test_a_fetch_error_releases_the_lock() -> None:
    """An error while fetching is raised and releases the lock."""

    def broken() -> Iterator[bytes]:
        yield b"x"
        raise ConnectionError

    conversion_lock = ConversionLock()
    with pytest.raises(ConnectionError):
        list(conversion_lock.blocks(broken()))
    assert list(conversion_lock.blocks(iter([b"z"]))) == [b"z"]
