from __future__ import annotations

import contextlib
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from tap_mixpanel_stream.pipeline.prefetch import prefetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Result:
    def __init__(self, job: int) -> None:
        self.job = job
        self.closed = False

    def close(self) -> None:
        self.closed = True


def nothing() -> None:
    pass


@contextmanager
def ordered(
    jobs: Iterable[int], work: Callable[[int], Result], ahead: int = 2, stop: Callable[[], None] = nothing
) -> Iterator[Iterator[Result]]:
    before = threading.active_count()
    with prefetch(iter(jobs), work, ahead=ahead, on_poll=nothing, stop=stop) as results:
        yield results
    assert threading.active_count() == before, "a thread has outlived the run"


@settings(deadline=None)
@given(pauses=st.lists(st.integers(0, 3), max_size=12), ahead=st.integers(1, 5))
def test_results_arrive_in_job_order(pauses: list[int], ahead: int) -> None:
    """Results arrive in the order of the jobs, however long each job takes."""

    def work(job: int) -> Result:
        time.sleep(pauses[job] / 1000)
        return Result(job)

    with ordered(range(len(pauses)), work, ahead) as results:
        assert [result.job for result in results] == list(range(len(pauses)))


def test_at_most_ahead_jobs_are_running_or_waiting() -> None:
    """At most `ahead` jobs are running or wait to be consumed."""
    taken = []

    def jobs() -> Iterator[int]:
        for job in range(20):
            taken.append(job)
            yield job

    with ordered(jobs(), Result, ahead=3) as results:
        for count, _ in enumerate(results, start=1):
            assert len(taken) <= count + 3


def test_the_next_job_runs_while_a_result_is_written() -> None:
    """The next job runs while the caller processes a result."""
    begun = threading.Event()

    def work(job: int) -> Result:
        if job == 1:
            begun.set()
        return Result(job)

    with ordered(range(2), work, ahead=1) as results:
        next(results)
        assert begun.wait(5)
        next(results)


def test_an_error_is_raised_after_earlier_results() -> None:
    """An error is raised in the position of its job; the results before it are delivered."""

    def work(job: int) -> Result:
        if job == 2:
            raise ValueError("broken")
        time.sleep(0.02)
        return Result(job)

    delivered: list[int] = []
    with pytest.raises(ValueError, match="broken"), ordered(range(5), work, ahead=5) as results:
        delivered.extend(result.job for result in results)
    assert delivered == [0, 1]


def test_leaving_early_stops_work_and_closes_results() -> None:
    """Leaving the context early stops the workers and closes the results not consumed."""
    stopped = threading.Event()
    made: list[Result] = []

    def work(job: int) -> Result:
        if job:
            assert stopped.wait(10)
        made.append(Result(job))
        return made[-1]

    with pytest.raises(KeyError), ordered(range(9), work, ahead=3, stop=stopped.set) as results:
        next(results)
        raise KeyError
    assert len(made) == 4
    assert [result.closed for result in made] == [False, True, True, True]


def test_on_poll_can_end_the_wait() -> None:
    """An exception of `on_poll` ends the wait for a result."""
    stopped = threading.Event()

    def work(job: int) -> Result:
        stopped.wait(10)
        return Result(job)

    def target_is_gone() -> None:
        raise BrokenPipeError

    with (
        pytest.raises(BrokenPipeError),
        prefetch(iter([1]), work, ahead=1, on_poll=target_is_gone, stop=stopped.set) as results,
    ):
        next(results)


def test_a_timeout_error_of_a_job_is_raised() -> None:
    """A `TimeoutError` raised by a job is an error, not a reason to keep waiting."""

    def work(_: int) -> Result:
        raise TimeoutError("the work's own")

    with pytest.raises(TimeoutError, match="own"), ordered([1], work) as results:
        next(results)


def test_the_wait_for_workers_is_shared() -> None:
    """The wait at the end does not grow with the number of workers that hang."""
    hang = threading.Event()

    def work(_job: int) -> Result:
        hang.wait(60)
        raise AssertionError("nobody waits for it")

    begin = time.monotonic()
    with (
        contextlib.suppress(ValueError),
        prefetch(iter(range(4)), work, ahead=4, on_poll=fail, stop=nothing) as done,
    ):
        list(done)
    assert time.monotonic() - begin < 5
    hang.set()


def fail() -> None:
    raise ValueError("no reason to wait")
