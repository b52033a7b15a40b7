"""Checks across finished windows before they are delivered: unexpectedly empty windows, and the time zone.

Each check is a generator that receives results and yields them in the same order. When it ends, it closes the results
that it still holds back.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..replication.windows import MIB
from .errors import StreamError

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Generator, Iterator
    from zoneinfo import ZoneInfo

    from ..records.timezone_check import TimezoneCheck
    from ..replication.row_counts import RowCounts
    from ..replication.windows import DateRange, Window
    from .window import FetchResult

# Events per day that make a window busy: an empty window between busy ones is unexpected.
BUSY_ROWS = 100

# Limits on the windows that a first load holds back while their time zone is undecided: lines checked, decompressed
# bytes, and windows, since each window can keep files open.
MAX_HELD_LINES = 1000
MAX_HELD_BYTES = 16 * MIB
MAX_HELD_WINDOWS = 50

THURSDAY = 4


def refetch_empty_windows(
    results: Iterator[FetchResult],
    fetch: Callable[[DateRange], FetchResult],
    row_counts: RowCounts | None,
    log: logging.Logger,
) -> Generator[FetchResult]:
    """Fetch an empty window again if its neighbours are busy, or if the previous run saw events on its days.

    An empty window after a busy one waits for the next window. If the next window fails, neither is delivered.

    Args:
        results: The windows in order.
        fetch: Fetches a window.
        row_counts: The row counts of the previous run; None if they are not comparable.
        log: Receives a warning for each window that is fetched again.
    """
    previous: tuple[Window, bool] | None = None  # The last yielded window, and whether it is busy.
    waiting: deque[FetchResult] = deque()
    try:
        for result in results:
            waiting.append(result)
            window = result.date_range.window
            if len(waiting) > 1:
                empty = waiting[0].date_range.window
                if result.failure and empty.is_adjacent(window):
                    result.close()
                    result.chunks.clear()
                    waiting.popleft().close()
                else:
                    if _is_busy(result) and empty.is_adjacent(window):
                        waiting[0] = _fetch_again(waiting[0], fetch, log)
                    previous = empty, _is_busy(waiting[0])
                    yield waiting.popleft()
            is_suspect = not (result.rows or result.failure or result.date_range.is_update)
            if is_suspect and row_counts and row_counts.had_rows(window):
                waiting[0] = _fetch_again(result, fetch, log)
            elif is_suspect and _has_workday(window) and previous and previous[1] and previous[0].is_adjacent(window):
                continue
            previous = window, _is_busy(waiting[0])
            yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for result in waiting:
            result.close()


def _fetch_again(empty: FetchResult, fetch: Callable[[DateRange], FetchResult], log: logging.Logger) -> FetchResult:
    """Fetch an empty window again, and return the new result."""
    empty.close()
    refetched = fetch(empty.date_range)
    # If this fails, even for lack of quota, the window fails: the empty response must not be delivered instead.
    if not refetched.failure:
        log.warning(
            "events %s: the response was unexpectedly empty and was fetched once more: %d events",
            refetched.date_range.window,
            refetched.rows,
        )
    return refetched


def _is_busy(result: FetchResult) -> bool:
    return result.rows >= BUSY_ROWS * result.date_range.window.days


def _has_workday(window: Window) -> bool:
    """Return whether a window has a day from Monday to Thursday, which are workdays wherever the weekend falls."""
    return any(day.isoweekday() <= THURSDAY for day in window.dates())


def check_timezone(
    results: Iterator[FetchResult],
    timezone_check: TimezoneCheck,
    zone: ZoneInfo | None,
    log: logging.Logger,
    *,
    is_first_load: bool,
) -> Generator[FetchResult]:
    """Warn if the events do not fit `project_timezone`, or stop a first load that does not set it.

    A first load without the setting holds windows back until their events show the time zone, and stops before its
    first record if it is not UTC. If a window fails before that, no window is delivered: otherwise the next run would
    not be a first load.

    Args:
        results: The windows in order.
        timezone_check: The check to which to add the first lines of each window.
        zone: The zone in `project_timezone`; None if it is not set.
        log: Receives the warning.
        is_first_load: Whether no earlier run delivered events.

    Raises:
        StreamError: The time zone is not UTC, in a first load without the setting.
        Exception: A window failed while windows were held back.
    """

    def is_undecided() -> bool:
        decompressed_bytes = sum(result.decompressed_bytes for result in held)
        return (
            len(held) < MAX_HELD_WINDOWS
            and decompressed_bytes < MAX_HELD_BYTES
            and timezone_check.lines < MAX_HELD_LINES
            and timezone_check.finding(None).fits is None
        )

    is_holding = is_first_load and zone is None
    held: deque[FetchResult] = deque()
    try:
        for result in results:
            held.append(result)
            if is_holding and result.failure:
                raise result.failure
            timezone_check.add(result.sample)
            if is_holding and is_undecided():
                continue
            yield from _release(held, timezone_check, zone, log, must_fit=is_holding)
            is_holding = False
        yield from _release(held, timezone_check, zone, log, must_fit=is_holding)
    finally:
        for result in held:
            result.close()


def _release(
    held: deque[FetchResult],
    timezone_check: TimezoneCheck,
    zone: ZoneInfo | None,
    log: logging.Logger,
    *,
    must_fit: bool,
) -> Iterator[FetchResult]:
    if mismatch := timezone_check.report_mismatch(zone):
        if must_fit:
            raise StreamError(f"events: stopped before the first record: {mismatch}")
        log.warning("%s", mismatch)
    while held:
        yield held.popleft()
