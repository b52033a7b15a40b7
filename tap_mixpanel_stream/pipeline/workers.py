"""Convert response bodies in worker processes, or in the fetching threads one at a time.

With worker processes, the main process reads from the network and writes to stdout, and the workers decompress and
convert. A worker receives the compressed body in blocks over a socket, and writes the records directly to the chunk's
unnamed files, whose descriptors it receives with the body.

A worker is not used again after an error or an interrupted body. Workers end when their socket is closed, so they never
outlive the main process.
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

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from tap_mixpanel_stream.pipeline.workers import serve; serve(int(sys.argv[2]), sys.argv[3])"
)
_WORKER_VARIABLES = {"LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONTZPATH"}
"""The environment variables that a worker needs to start and to find time zones. Others can contain credentials."""

_END_OF_BODY = b""
"""Marks the end of a complete body. The blocks of a body are never empty."""

BLOCKS_PER_HOLD = 8
"""Blocks to convert each time the conversion lock is held: about ten milliseconds of work at 64 KiB each."""


class ConversionLock:
    """Lets one thread at a time convert the blocks that it has fetched.

    Only one thread can hold the GIL. Without this lock, two converting threads would switch at every read and write,
    about a thousand times a second. Measured with two windows on two cores, the lock saves a sixth of the CPU time and
    a tenth of the elapsed time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def blocks(self, blocks: Iterator[bytes]) -> Generator[bytes, None, None]:
        """Fetch a few blocks without the lock, then yield them while holding it, and so on.

        Close the generator unless it is exhausted: it may hold the lock.
        """
        while fetched := list(islice(blocks, BLOCKS_PER_HOLD)):
            with self._lock:
                yield from fetched


class BodyConversion(Protocol):
    """Converts a body into a chunk. It can be pickled, and so can the errors that it raises."""

    def __call__(self, blocks: Iterable[bytes], chunk: SpooledChunk) -> None:
        """Convert all blocks. The iterator raises unless the body is complete."""


class Workers:
    """A pool of worker processes, each started when it is first needed.

    Args:
        size: The maximum number of processes.
    """

    def __init__(self, size: int) -> None:
        self._free_slots = threading.Semaphore(size)
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()

    def fill(self, conversion: BodyConversion, blocks: Iterable[bytes], chunk: SpooledChunk) -> None:
        """Run `conversion(blocks, chunk)` in a worker process. Wait while all workers are busy.

        Raises:
            WorkerLostError: The worker ended unexpectedly.
            SpoolError: The chunk's files could not be created.
            Exception: Any exception that `conversion` or `blocks` raises.
        """
        files = [chunk.lines.fileno(), chunk.rejected_lines.fileno()]
        with self._free_slots:
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
        """Kill the busy workers. Their threads get `WorkerLostError`."""
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
    """The main process's handle for one worker process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                # -P: do not import modules from the working directory.
                [sys.executable, "-P", "-c", _PROGRAM, json.dumps(sys.path), str(theirs.fileno()), temporary_folder()],
                stdin=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if name in _WORKER_VARIABLES},
                # If the workers inherited stdout, the target would wait for them to close it.
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._socket = ours
        self._connection = Connection(os.dup(ours.fileno()))

    def fill(self, conversion: BodyConversion, blocks: Iterable[bytes], files: list[int]) -> dict[str, Any]:
        """Fill a chunk's files, and return the counts of the conversion (`SpooledChunk.counts`)."""
        with self._translate_lost_connection():
            self._connection.send(conversion)
            socket.send_fds(self._socket, [b"f"], files)
        for block in blocks:
            with self._translate_lost_connection():
                # An early reply is an error, so the rest of the body is not needed.
                if self._connection.poll():
                    break
                self._connection.send_bytes(block)
        else:
            with self._translate_lost_connection():
                self._connection.send_bytes(_END_OF_BODY)
        with self._translate_lost_connection():
            reply: dict[str, Any] | Exception = self._connection.recv()
        if isinstance(reply, Exception):
            raise reply
        return reply

    @contextlib.contextmanager
    def _translate_lost_connection(self) -> Iterator[None]:
        """Raise `WorkerLostError` if the worker has closed its end of the socket."""
        try:
            yield
        except (EOFError, ConnectionError):
            code = self._process.wait()
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            raise WorkerLostError(
                f"a worker process {how}: if memory is short, lower worker_processes or concurrent_exports"
            ) from None

    def kill(self) -> None:
        """Kill the process. The thread that uses it gets `WorkerLostError`."""
        self._process.kill()

    def end(self) -> None:
        """Kill the process and close its socket."""
        self._connection.close()
        self._socket.close()
        self._process.kill()
        self._process.wait()


def serve(descriptor: int, folder: str) -> None:
    """Run a worker process: convert bodies until the main process closes the socket.

    Args:
        descriptor: The socket to the main process.
        folder: The folder for temporary files. Passed because `tempfile`'s own search for one fails on a full disk.
    """
    tempfile.tempdir = folder
    # A terminal sends signals to all processes of a job. The main process decides when its workers end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    connection = Connection(descriptor)
    try:
        while _serve_one(connection, descriptor):
            pass
    except (EOFError, ConnectionError):
        pass


def _serve_one(connection: Connection, descriptor: int) -> bool:
    """Convert one body. Return whether the worker can convert another."""
    conversion: BodyConversion = connection.recv()
    with socket.socket(fileno=os.dup(descriptor)) as fd_receiver:
        _, (lines, rejected_lines), _, _ = socket.recv_fds(fd_receiver, 1, 2)
    with SpooledChunk(Spool.in_file(lines), Spool.in_file(rejected_lines)) as chunk:
        blocks = iter(connection.recv_bytes, _END_OF_BODY)
        try:
            conversion(blocks, chunk)
            chunk.complete()
        except EOFError:
            raise
        except Exception as error:  # noqa: BLE001 - raised in the main process
            connection.send(error)
            _drain(blocks)
            return False
        connection.send(chunk.counts)
    return True


def _drain(blocks: Iterator[bytes]) -> None:
    """Discard the rest of a body. The main process may still be sending it, and would block without a reader."""
    for _ in blocks:
        pass
