"""Fetch ahead in threads, and hand out the results in order: windows side by side, pages one after another."""

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

# Seconds between two polls of a waiting main thread.
POLL_SECONDS = 0.5
# Seconds that all stopped threads together may take to end. Their sockets are shut down by then.
JOIN_TIMEOUT = 3.0


class Closeable(Protocol):
    """A result that holds resources."""

    def close(self) -> None:
        """Release them."""


J = TypeVar("J")
R = TypeVar("R", bound=Closeable)


@contextlib.contextmanager
def prefetch(
    jobs: Iterator[J],
    work: Callable[[J], R],
    *,
    ahead: int,
    on_poll: Callable[[], None],
    stop: Callable[[], None],
) -> Iterator[Iterator[R]]:
    """Do jobs in threads, and yield the results in the order of the jobs.

    At most `ahead` jobs are under way or finished and waiting. The next job is taken as late as possible, so that it
    can depend on the results so far. An error in a job is raised in its place in the order. However the block is left,
    no thread and no result outlives it.

    Args:
        jobs: The jobs. Advanced by the calling thread only.
        work: Does one job, in a thread of its own.
        ahead: How many jobs at once, at least 1.
        on_poll: Called by the waiting thread every half second; may raise to end the wait.
        stop: Makes the jobs under way end soon; called when the block is left early.

    Yields:
        The results. The caller closes each.
    """
    under_way: deque[tuple[threading.Thread, Future[R]]] = deque()

    def start_more() -> None:
        while len(under_way) < ahead and (job := next(jobs, None)) is not None:
            under_way.append(_start(work, job))

    def results() -> Iterator[R]:
        start_more()
        while under_way:
            result = _wait(under_way[0][1], on_poll)
            under_way.popleft()[0].join()
            start_more()  # before the result is written out: a slow target is no reason to fetch nothing
            yield result

    try:
        yield results()
    finally:
        if under_way:
            stop()
        until = time.monotonic() + JOIN_TIMEOUT
        for thread, future in under_way:
            thread.join(max(0.0, until - time.monotonic()))
            if future.done() and future.exception() is None:
                future.result().close()


@dataclass
class Page:
    """One page, or the end of the pages.

    Attributes:
        chunk: Its records; None at the end.
        delivered: The argument of `move_bookmark` once the chunk is out; None if it moves no bookmark.
    """

    chunk: SpooledChunk | None = None
    delivered: object = None

    def close(self) -> None:
        """Close the chunk."""
        if self.chunk:
            self.chunk.close()


@contextlib.contextmanager
def prefetch_pages(
    pages: Iterator[Page], *, on_poll: Callable[[], None], stop: Callable[[], None]
) -> Iterator[Iterator[tuple[SpooledChunk, object]]]:
    """Yield pages, of which each can be requested only after the one before it, and fetch the next one meanwhile.

    Args:
        pages: Fetches a page each time that it is advanced, in a thread other than the caller's.
        on_poll: As for `prefetch`.
        stop: As for `prefetch`.
    """
    ended = False

    def fetch_next(_number: int) -> Page:
        nonlocal ended
        page = next(pages, None)
        ended = page is None
        return page or Page()

    with prefetch(
        itertools.takewhile(lambda _number: not ended, itertools.count()),
        fetch_next,
        ahead=1,
        on_poll=on_poll,
        stop=stop,
    ) as fetched:
        yield ((page.chunk, page.delivered) for page in fetched if page.chunk)


def _start(work: Callable[[J], R], job: J) -> tuple[threading.Thread, Future[R]]:
    future: Future[R] = Future()

    def run() -> None:
        try:
            future.set_result(work(job))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the thread that waits
            future.set_exception(error)

    # A daemon: the process can end even if the thread hangs in a system call for longer than `JOIN_TIMEOUT`.
    thread = threading.Thread(target=run, daemon=True, name=f"fetch {job}")
    thread.start()
    return thread, future


def _wait(future: Future[R], on_poll: Callable[[], None]) -> R:
    while True:
        try:
            return future.result(timeout=POLL_SECONDS)
        except NotYetError:
            if future.done():
                raise  # the job itself ran into a time-out
            on_poll()
