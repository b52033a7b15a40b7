"""Checks across finished windows, before they are delivered: odd empty windows, and a time zone that nobody set.

Each check is a generator from results to results, in the same order. What it holds when it is left, it closes.
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

# Events a day from which on an empty window next to a busy one is odd.
BUSY_ROWS = 100

# What a first load holds back at most while its events do not show their time zone: lines checked, decompressed bytes,
# and windows, since each can keep files open.
HELD_LINES = 1000
HELD_BYTES = 16 * MIB
HELD_WINDOWS = 50

THURSDAY = 4


def refetch_odd_empty_windows(
    results: Iterator[FetchResult],
    fetch: Callable[[DateRange], FetchResult],
    row_counts: RowCounts | None,
    log: logging.Logger,
) -> Generator[FetchResult]:
    """Fetch an empty window once more if its neighbours are busy, or if the previous run saw events of its days.

    A window that may have to be fetched again waits for the next one. If the next one fails, neither is delivered.

    Args:
        results: The windows in order.
        fetch: Fetches a window.
        row_counts: The rows that the previous run saw; None if they cannot be compared.
        log: Receives a warning for each window that was fetched again.
    """
    before: tuple[Window, bool] | None = None
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
                    before = empty, _is_busy(waiting[0])
                    yield waiting.popleft()
            can_be_odd = not (result.rows or result.failure or result.date_range.is_update)
            if can_be_odd and row_counts and row_counts.had_rows(window):
                waiting[0] = _fetch_again(result, fetch, log)
            elif can_be_odd and _has_workday(window) and before and before[1] and before[0].is_adjacent(window):
                continue
            before = window, _is_busy(waiting[0])
            yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for result in waiting:
            result.close()


def _fetch_again(empty: FetchResult, fetch: Callable[[DateRange], FetchResult], log: logging.Logger) -> FetchResult:
    """Fetch a window once more in place of an empty response."""
    empty.close()
    again = fetch(empty.date_range)
    # A failure, spent quota too, is the window's own: the empty response must not be delivered in its place.
    if not again.failure:
        log.warning(
            "events %s: the response was unexpectedly empty and was fetched once more: %d events",
            again.date_range.window,
            again.rows,
        )
    return again


def _is_busy(result: FetchResult) -> bool:
    return result.rows >= BUSY_ROWS * result.date_range.window.days


def _has_workday(window: Window) -> bool:
    """Return whether a window has a day from Monday to Thursday: weekends, Friday or Saturday first, have none."""
    return any(day.isoweekday() <= THURSDAY for day in window.dates())


def check_timezone(
    results: Iterator[FetchResult],
    timezone_check: TimezoneCheck,
    zone: ZoneInfo | None,
    log: logging.Logger,
    *,
    is_first_load: bool,
) -> Generator[FetchResult]:
    """Warn if the events do not fit `project_timezone`. Stop a first load without that setting before its first record.

    Such a load holds windows back until their events show their time zone. If a window fails before that, none is
    delivered, since the next run would not be a first load.

    Args:
        results: The windows in order.
        timezone_check: Looks at the first lines of each window.
        zone: The setting `project_timezone`; None if it is not set.
        log: Receives the warning.
        is_first_load: Whether earlier runs delivered nothing.

    Raises:
        StreamError: The time zone is not UTC, in a first load without the setting.
        Exception: The failure of a window while windows are held back.
    """

    def is_undecided() -> bool:
        decompressed_bytes = sum(result.decompressed_bytes for result in held)
        return (
            len(held) < HELD_WINDOWS
            and decompressed_bytes < HELD_BYTES
            and timezone_check.lines < HELD_LINES
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
    if misfit := timezone_check.report_mismatch(zone):
        if must_fit:
            raise StreamError(f"events: stopped before the first record: {misfit}")
        log.warning("%s", misfit)
    while held:
        yield held.popleft()
