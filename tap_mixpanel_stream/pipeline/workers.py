"""Worker processes: a window's body is unpacked and shaped on another core, into the files of its chunk.

This process reads the network and writes to stdout; a worker does the rest. A body goes to it in blocks, as sent, over
a socket; what it makes of them goes straight into the chunk's unnamed files, whose descriptors it was handed.

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
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Protocol, Self

from ..delivery.spool import Spool, temporary_folder
from ..delivery.spooled_chunk import SpooledChunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

_BEGIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from tap_mixpanel_stream.pipeline.workers import serve; serve(int(sys.argv[2]), sys.argv[3])"
)
_ENVIRONMENT = {"LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONTZPATH"}
"""Variables that a worker needs to start and to know the time zones. All others stay out: some hold credentials."""

_END = b""
"""Says that a body ended well; no block of one is empty."""


class Filling(Protocol):
    """Fills a chunk with a body. Can be pickled, and so can the errors it raises."""

    def __call__(self, blocks: Iterable[bytes], chunk: SpooledChunk) -> None:
        """Read the blocks to their end, which comes only if the body is whole."""


class WorkerLostError(Exception):
    """A worker process ended by itself. The message says how, and what to do."""


class Workers:
    """At most so many worker processes, each started when it is needed first.

    Args:
        most: How many.
    """

    def __init__(self, most: int) -> None:
        self._places = threading.Semaphore(most)
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()

    def fill(self, filling: Filling, blocks: Iterable[bytes], chunk: SpooledChunk) -> None:
        """Do `filling(blocks, chunk)` in a worker; waits for one where all are busy.

        Raises:
            WorkerLostError: The worker ended.
            SpoolError: There is no file for the chunk.
            Exception: Whatever `filling` or `blocks` raises.
        """
        files = [chunk.lines.fileno(), chunk.rejected_lines.fileno()]
        with self._places:
            worker = self._idle.pop() if self._idle else _Worker()
            self._busy.add(worker)
            try:
                chunk.counts = worker.fill(filling, blocks, files)
            except BaseException:
                worker.end()
                raise
            finally:
                self._busy.discard(worker)
            self._idle.append(worker)

    def stop(self) -> None:
        """End the workers that are busy: whoever waits for one gets `WorkerLostError`."""
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
    """One worker process, seen from here."""

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

    def fill(self, filling: Filling, blocks: Iterable[bytes], files: list[int]) -> dict[str, Any]:
        """Have a chunk's files filled; return what was counted."""
        with self._lost_or_there():
            self._connection.send(filling)
            socket.send_fds(self._socket, [b"f"], files)
        for block in blocks:
            with self._lost_or_there():
                # It answers early where there is something wrong: no reason to fetch the rest.
                if self._connection.poll():
                    break
                self._connection.send_bytes(block)
        else:
            with self._lost_or_there():
                self._connection.send_bytes(_END)
        with self._lost_or_there():
            reply: dict[str, Any] | Exception = self._connection.recv()
        if isinstance(reply, Exception):
            raise reply
        return reply

    @contextlib.contextmanager
    def _lost_or_there(self) -> Iterator[None]:
        """Say it in words where the other side of the socket is gone."""
        try:
            yield
        except (EOFError, ConnectionError):
            code = self._process.wait()
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            raise WorkerLostError(
                f"a worker process {how}: if memory is short, lower worker_processes or concurrent_exports"
            ) from None

    def kill(self) -> None:
        """End the process. Its thread notices."""
        self._process.kill()

    def end(self) -> None:
        """End it, at once if it is at work."""
        self._connection.close()
        self._socket.close()
        self._process.kill()
        self._process.wait()


def serve(descriptor: int, folder: str) -> None:
    """Be a worker: fill chunks until the other side hangs up.

    Args:
        descriptor: The socket to the process that wants them filled.
        folder: Where its temporary files are. Looked for anew, on a full disk, it would not be found.
    """
    tempfile.tempdir = folder
    # A terminal sends its signals to all of a job's processes: the one that has us decides when we end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    connection = Connection(descriptor)
    try:
        while _serve_one(connection, descriptor):
            pass
    except (EOFError, ConnectionError):
        pass


def _serve_one(connection: Connection, descriptor: int) -> bool:
    """Fill one chunk; return whether the worker can go on."""
    filling: Filling = connection.recv()
    with socket.socket(fileno=os.dup(descriptor)) as other_side:
        _, (lines, rejected_lines), _, _ = socket.recv_fds(other_side, 1, 2)
    with SpooledChunk(Spool.in_file(lines), Spool.in_file(rejected_lines)) as chunk:
        blocks = iter(connection.recv_bytes, _END)
        try:
            filling(blocks, chunk)
        except EOFError:
            raise
        except Exception as error:  # noqa: BLE001 - it belongs to the process that waits
            connection.send(error)
            _run_out(blocks)
            return False
        connection.send(chunk.counts)
    return True


def _run_out(blocks: Iterator[bytes]) -> None:
    # The other side may be in the middle of sending, and must not wait for a reader that has gone.
    for _ in blocks:
        pass
