"""Order: several workers fetch ahead, the results come out in the order of the jobs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from concurrent.futures import Future, TimeoutError as NotYetError
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# How often a waiting main thread looks around, in seconds.
POLL_SECONDS = 0.5
# How long all stopped workers together may take to end, in seconds. Their sockets are shut down by then.
JOIN_TIMEOUT = 3.0


class Closeable(Protocol):
    """A result that holds something."""

    def close(self) -> None:
        """Let go of it."""


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
    """Work on jobs in threads, hand out the results in the order of the jobs.

    At most `ahead` results are in the making or waiting. The next job is taken as late as possible, so that it can
    depend on the results so far. What goes wrong in a job surfaces when its turn comes. However the block is left, no
    thread and no result outlives it.

    Args:
        jobs: What to do. Advanced by the calling thread only.
        work: Does one job, in a thread of its own.
        ahead: How many jobs at once, at least 1.
        on_poll: Called by the waiting thread every half second or so; may raise to end the wait.
        stop: Makes the work that is under way end soon; called when the block is left early.

    Yields:
        The results. Whoever takes one closes it.
    """
    under_way: deque[tuple[threading.Thread, Future[R]]] = deque()

    def start_more() -> None:
        while len(under_way) < ahead and (job := next(jobs, None)) is not None:
            under_way.append(_start(work, job))

    def results() -> Iterator[R]:
        start_more()
        while under_way:
            result = _await(under_way[0][1], on_poll)
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


def _start(work: Callable[[J], R], job: J) -> tuple[threading.Thread, Future[R]]:
    future: Future[R] = Future()

    def run() -> None:
        try:
            future.set_result(work(job))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the thread that waits
            future.set_exception(error)

    # A daemon: should a worker hang in a system call past the farewell, the process can still end.
    thread = threading.Thread(target=run, daemon=True, name=f"fetch {job}")
    thread.start()
    return thread, future


def _await(future: Future[R], on_poll: Callable[[], None]) -> R:
    while True:
        try:
            return future.result(timeout=POLL_SECONDS)
        except NotYetError:
            if future.done():
                raise  # the work itself ran into a time-out
            on_poll()
