"""Fetch ahead of delivery in threads and yield the results in order: windows in parallel, pages one at a time."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import deque
from concurrent.futures import Future, TimeoutError as NotYetError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..delivery.spool import SpooledChunk

# Seconds between calls of `on_poll` while the main thread waits.
POLL_SECONDS = 0.5
# Seconds to wait for all stopped threads together. Their sockets are already shut down.
JOIN_TIMEOUT = 3.0


class Closeable(Protocol):
    """A result that holds resources."""

    def close(self) -> None:
        """Release the resources."""


JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT", bound=Closeable)


@contextlib.contextmanager
def prefetch(
    jobs: Iterator[JobT],
    work: Callable[[JobT], ResultT],
    *,
    ahead: int,
    on_poll: Callable[[], None],
    stop: Callable[[], None],
) -> Iterator[Iterator[ResultT]]:
    """Run jobs in threads, and yield the results in the order of the jobs.

    At most `ahead` jobs are running, or finished and not yet yielded. The next job is taken as late as possible, so
    that it can depend on the results so far. A job's error is raised when its result is due. At the end of the `with`
    block, all threads are joined (for up to `JOIN_TIMEOUT`) and the remaining results are closed.

    Args:
        jobs: The jobs. Only the calling thread advances the iterator.
        work: Runs one job, in its own thread.
        ahead: The maximum number of jobs at once, at least 1.
        on_poll: Called every half second while the calling thread waits. May raise to end the wait.
        stop: Makes the running jobs end soon. Called if the `with` block ends early.

    Yields:
        The results. The caller must close each.
    """
    pending: deque[tuple[threading.Thread, Future[ResultT]]] = deque()

    def start_more() -> None:
        while len(pending) < ahead and (job := next(jobs, None)) is not None:
            pending.append(_start(work, job))

    def results() -> Iterator[ResultT]:
        start_more()
        while pending:
            result = _wait(pending[0][1], on_poll)
            pending.popleft()[0].join()
            start_more()  # Before the result is written, so that a slow target does not delay fetching.
            yield result

    try:
        yield results()
    finally:
        if pending:
            stop()
        deadline = time.monotonic() + JOIN_TIMEOUT
        for thread, future in pending:
            thread.join(max(0.0, deadline - time.monotonic()))
            if future.done() and future.exception() is None:
                future.result().close()


@dataclass
class SpooledPage:
    """A page of records, or the end of the pages.

    Attributes:
        chunk: The records of the page; None at the end of the pages.
        delivered: The argument for `move_bookmark` after the chunk is delivered; None to leave the bookmark unchanged.
    """

    chunk: SpooledChunk | None = None
    delivered: object = None

    def close(self) -> None:
        """Close the chunk."""
        if self.chunk:
            self.chunk.close()


@contextlib.contextmanager
def prefetch_pages(
    pages: Iterator[SpooledPage], *, on_poll: Callable[[], None], stop: Callable[[], None]
) -> Iterator[Iterator[tuple[SpooledChunk, object]]]:
    """Yield pages one at a time, and fetch the next page in the meantime.

    Each page can be requested only after the previous one.

    Args:
        pages: Fetches one page on each step. Other threads advance it, one at a time.
        on_poll: As for `prefetch`.
        stop: As for `prefetch`.
    """
    is_exhausted = False

    def fetch_next(_number: int) -> SpooledPage:
        nonlocal is_exhausted
        page = next(pages, None)
        is_exhausted = page is None
        return page or SpooledPage()

    with prefetch(
        itertools.takewhile(lambda _number: not is_exhausted, itertools.count()),
        fetch_next,
        ahead=1,
        on_poll=on_poll,
        stop=stop,
    ) as fetched:
        yield ((page.chunk, page.delivered) for page in fetched if page.chunk)


def _start(work: Callable[[JobT], ResultT], job: JobT) -> tuple[threading.Thread, Future[ResultT]]:
    future: Future[ResultT] = Future()

    def run() -> None:
        try:
            future.set_result(work(job))
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits for the result
            future.set_exception(error)

    # A daemon thread, so that the process can end even if the thread hangs in a system call.
    thread = threading.Thread(target=run, daemon=True, name=f"fetch {job}")
    thread.start()
    return thread, future


def _wait(future: Future[ResultT], on_poll: Callable[[], None]) -> ResultT:
    while True:
        try:
            return future.result(timeout=POLL_SECONDS)
        except NotYetError:
            if future.done():
                raise  # The job itself raised a time-out.
            on_poll()
