"""Estimate the cost of a run from the size of some days. Sends no requests."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import TYPE_CHECKING

from ..delivery.spool import MAX_IN_MEMORY
from ..replication.windows import Window, WindowPlanner, span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..replication.windows import DateRange


@dataclass(frozen=True, slots=True)
class DaySize:
    """The size of one day.

    Attributes:
        date: The day.
        events: The number of events.
        received: The size of the export as sent, in bytes.
        decompressed_bytes: The decompressed size of the export.
        record_bytes: The size of the record lines.
        is_whole: Whether the day was read completely. If not, the numbers are minimums.
    """

    date: date
    events: int
    received: int
    decompressed_bytes: int
    record_bytes: int
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Forecast:
    """The estimated cost of a run.

    Attributes:
        requests: The number of export requests.
        events: The number of events.
        received: The number of bytes over the network.
        decompressed_bytes: The decompressed size of the responses.
        spooled: The maximum number of bytes on disk at any time.
        is_whole: Whether all sampled days were read completely. If not, the numbers are minimums.
    """

    requests: int
    events: float
    received: float
    decompressed_bytes: float
    spooled: float
    is_whole: bool


def sample_days(first: date, last: date, count: int) -> list[date]:
    """Return up to `count` days, evenly spread over a range and including its first and last day."""
    days = (last - first).days
    offsets = {round(days * step / (count - 1)) for step in range(count)}
    return [first + timedelta(days=offset) for offset in sorted(offsets)]


def forecast(
    date_ranges: Sequence[DateRange], sample: Sequence[DaySize], *, window_days: int | None, ahead: int
) -> Forecast:
    """Estimate the cost of a run by simulating the window planner with estimated sizes of days.

    The size of a day between two sampled days is interpolated. A day before the first or after the last sampled day is
    estimated to be as large as that one.

    Args:
        date_ranges: The date ranges that the run reads, at least one.
        sample: The sampled days in order, at least one.
        window_days: The setting `window_days`.
        ahead: The number of windows that are fetched ahead: the setting `concurrent_exports`.
    """
    days = span(date_ranges)
    events, received, decompressed_bytes, record_bytes = (
        _Sums(days, [(day.date, measure(day)) for day in sample])
        for measure in map(attrgetter, ("events", "received", "decompressed_bytes", "record_bytes"))
    )
    planner = WindowPlanner(date_ranges, window_days)
    windows: list[Window] = []
    pending: deque[DateRange] = deque()
    while True:
        while len(pending) < ahead and (date_range := planner.next()) is not None:
            pending.append(date_range)
            windows.append(date_range.window)
        if not pending:
            break
        done = pending.popleft()
        planner.report(done, round(decompressed_bytes.of(done.window)))
    # While one window is written to stdout, `ahead` others are fetched. Small ones stay in memory.
    on_disk = [size if (size := record_bytes.of(window)) > MAX_IN_MEMORY else 0.0 for window in windows]
    return Forecast(
        requests=len(windows),
        events=sum(map(events.of, windows)),
        received=sum(map(received.of, windows)),
        decompressed_bytes=sum(map(decompressed_bytes.of, windows)),
        spooled=max(sum(on_disk[start : start + ahead + 1]) for start in range(len(on_disk))),
        is_whole=all(day.is_whole for day in sample),
    )


class _Sums:
    """Sums of a daily quantity, such as events, over windows. Prefix sums make them fast.

    Args:
        days: The days for which the quantity is estimated.
        sample: The quantity on the sampled days, in order.
    """

    def __init__(self, days: Window, sample: Sequence[tuple[date, int]]) -> None:
        self._first = days.first
        self._sums = list(accumulate(map(_interpolate(sample), days.dates()), initial=0.0))

    def of(self, window: Window) -> float:
        """Return the sum over the days of a window."""
        begin = (window.first - self._first).days
        return self._sums[begin + window.days] - self._sums[begin]


def _interpolate(sample: Sequence[tuple[date, int]]) -> Callable[[date], float]:
    """Return a function that estimates a quantity on a day, by linear interpolation between sampled days."""

    def estimate(day: date) -> float:
        if day <= sample[0][0]:
            return sample[0][1]
        for (before, low), (after, high) in pairwise(sample):
            if day <= after:
                return low + (high - low) * ((day - before) / (after - before))
        return sample[-1][1]

    return estimate
