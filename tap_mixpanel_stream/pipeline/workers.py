"""Where bodies are converted: in worker processes, or in the threads that fetch, one thread at a time.

With worker processes, this process reads the network and writes to stdout, and a worker decompresses and converts. A
body goes to it in blocks, as sent, over a socket; its records go straight into the chunk's unnamed files, whose
descriptors it was handed.

A worker that meets an error, or is left in the middle of a body, is not used again. Workers end when their socket does,
so none outlives this process, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from itertools import islice
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Protocol, Self

from ..delivery.spool import Spool, SpooledChunk, temporary_folder
from .errors import WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from types import TracebackType

_BEGIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from tap_mixpanel_stream.pipeline.workers import serve; serve(int(sys.argv[2]), sys.argv[3])"
)
_ENVIRONMENT = {"LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONTZPATH"}
"""Variables that a worker needs to start and to know the time zones. All others stay out: some hold credentials."""

_END = b""
"""Marks the end of a whole body; no block of one is empty."""

BLOCKS_PER_HOLD = 8
"""Blocks that are fetched before the conversion lock is taken: at 64 KiB each, some ten milliseconds' work."""


class ConversionLock:
    """Lets one thread at a time convert what it has fetched.

    The GIL lets one thread compute at a time. Two threads that both could would pass it to each other at every read and
    write, some thousand times a second. Measured with two windows on two cores: the lock saves a sixth of the CPU and a
    tenth of the time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def blocks(self, blocks: Iterator[bytes]) -> Generator[bytes, None, None]:
        """Fetch some blocks without the lock, and yield them with it, until the last one.

        Close the generator if it may be left early.
        """
        while some := list(islice(blocks, BLOCKS_PER_HOLD)):
            with self._lock:
                yield from some


class BodyConversion(Protocol):
    """Converts a body into a chunk. Can be pickled, and so can the errors it raises."""

    def __call__(self, blocks: Iterable[bytes], chunk: SpooledChunk) -> None:
        """Read the blocks to their end, which comes only if the body is whole."""


class Workers:
    """Worker processes, each started when it is first needed.

    Args:
        most: How many, at most.
    """

    def __init__(self, most: int) -> None:
        self._places = threading.Semaphore(most)
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()

    def fill(self, conversion: BodyConversion, blocks: Iterable[bytes], chunk: SpooledChunk) -> None:
        """Run `conversion(blocks, chunk)` in a worker process; waits while all are busy.

        Raises:
            WorkerLostError: The worker ended.
            SpoolError: No file could be created for the chunk.
            Exception: Whatever `conversion` or `blocks` raises.
        """
        files = [chunk.lines.fileno(), chunk.rejected_lines.fileno()]
        with self._places:
            worker = self._idle.pop() if self._idle else _Worker()
            self._busy.add(worker)
            try:
                chunk.counts = worker.fill(conversion, blocks, files)
            except BaseException:
                worker.end()
                raise
            finally:
                self._busy.discard(worker)
            self._idle.append(worker)

    def stop(self) -> None:
        """End the workers that are busy: their threads get `WorkerLostError`."""
        for worker in list(self._busy):
            worker.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._idle:
            worker.end()


class _Worker:
    """One worker process, seen from this one."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                # -P: without it, modules in the working directory would come before Python's own.
                [sys.executable, "-P", "-c", _BEGIN, json.dumps(sys.path), str(theirs.fileno()), temporary_folder()],
                stdin=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if name in _ENVIRONMENT},
                # The target must see the end of our output when we end, and not wait for a worker's.
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._socket = ours
        self._connection = Connection(os.dup(ours.fileno()))

    def fill(self, conversion: BodyConversion, blocks: Iterable[bytes], files: list[int]) -> dict[str, Any]:
        """Fill a chunk's files, and return what was counted."""
        with self._translate_lost_connection():
            self._connection.send(conversion)
            socket.send_fds(self._socket, [b"f"], files)
        for block in blocks:
            with self._translate_lost_connection():
                # An early reply is an error: the rest of the body is not needed.
                if self._connection.poll():
                    break
                self._connection.send_bytes(block)
        else:
            with self._translate_lost_connection():
                self._connection.send_bytes(_END)
        with self._translate_lost_connection():
            reply: dict[str, Any] | Exception = self._connection.recv()
        if isinstance(reply, Exception):
            raise reply
        return reply

    @contextlib.contextmanager
    def _translate_lost_connection(self) -> Iterator[None]:
        """Raise `WorkerLostError` if the worker has closed its side of the socket."""
        try:
            yield
        except (EOFError, ConnectionError):
            code = self._process.wait()
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            raise WorkerLostError(
                f"a worker process {how}: if memory is short, lower worker_processes or concurrent_exports"
            ) from None

    def kill(self) -> None:
        """Kill the process; the thread that uses it gets `WorkerLostError`."""
        self._process.kill()

    def end(self) -> None:
        """Kill the process, and close its socket."""
        self._connection.close()
        self._socket.close()
        self._process.kill()
        self._process.wait()


def serve(descriptor: int, folder: str) -> None:
    """Run as a worker process: convert bodies until the other side closes the socket.

    Args:
        descriptor: The socket to the process that sends the bodies.
        folder: The folder of its temporary files. A new search for one would fail on a full disk.
    """
    tempfile.tempdir = folder
    # A terminal sends its signals to all of a job's processes: the parent decides when its workers end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    connection = Connection(descriptor)
    try:
        while _serve_one(connection, descriptor):
            pass
    except (EOFError, ConnectionError):
        pass


def _serve_one(connection: Connection, descriptor: int) -> bool:
    """Convert one body; return whether the worker can be used again."""
    conversion: BodyConversion = connection.recv()
    with socket.socket(fileno=os.dup(descriptor)) as other_side:
        _, (lines, rejected_lines), _, _ = socket.recv_fds(other_side, 1, 2)
    with SpooledChunk(Spool.in_file(lines), Spool.in_file(rejected_lines)) as chunk:
        blocks = iter(connection.recv_bytes, _END)
        try:
            conversion(blocks, chunk)
            chunk.complete()
        except EOFError:
            raise
        except Exception as error:  # noqa: BLE001 - raised in the process that waits
            connection.send(error)
            _drain(blocks)
            return False
        connection.send(chunk.counts)
    return True


def _drain(blocks: Iterator[bytes]) -> None:
    # The other side may be in the middle of sending, and must not wait for a reader that has gone.
    for _ in blocks:
        pass
