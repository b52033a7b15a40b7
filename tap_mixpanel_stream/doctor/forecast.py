"""Estimates from the size of some days what a whole run takes. Sends no request."""

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
class Day:
    """The size of one day.

    Attributes:
        date: The day.
        events: Its events.
        received: Bytes of its export, as sent.
        decompressed_bytes: Bytes of its export, decompressed.
        record_bytes: Bytes of its record lines.
        is_whole: Whether it was read to its end; if not, it holds at least so much.
    """

    date: date
    events: int
    received: int
    decompressed_bytes: int
    record_bytes: int
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run over a range of days takes.

    Attributes:
        requests: Exports to ask for.
        events: Events in the range.
        received: Bytes to come over the network.
        decompressed_bytes: The same, decompressed.
        spooled: Bytes on disk at the same time, at the busiest moment.
        is_whole: Whether all days it rests on were read to their end; if not, it may take more.
    """

    requests: int
    events: float
    received: float
    decompressed_bytes: float
    spooled: float
    is_whole: bool


def sample_days(first: date, last: date, most: int) -> list[date]:
    """Choose days spread evenly over a range, its ends among them."""
    days = (last - first).days
    places = {round(days * step / (most - 1)) for step in range(most)}
    return [first + timedelta(days=place) for place in sorted(places)]


def forecast(date_ranges: Sequence[DateRange], seen: Sequence[Day], *, window_days: int | None, ahead: int) -> Forecast:
    """Run the tap's window planner over days of estimated size.

    The size of a day between two known days is interpolated; a day before or after all of them has the size of the
    nearest.

    Args:
        date_ranges: What the run is to read; at least one.
        seen: What some days hold, in their order; at least one.
        window_days: As the setting.
        ahead: How many windows are fetched ahead: `concurrent_exports`.
    """
    days = span(date_ranges)
    events, received, decompressed_bytes, record_bytes = (
        _Sums(days, [(day.date, measure(day)) for day in seen])
        for measure in map(attrgetter, ("events", "received", "decompressed_bytes", "record_bytes"))
    )
    plan = WindowPlanner(date_ranges, window_days)
    windows: list[Window] = []
    under_way: deque[DateRange] = deque()
    while True:
        while len(under_way) < ahead and (date_range := plan.next()) is not None:
            under_way.append(date_range)
            windows.append(date_range.window)
        if not under_way:
            break
        done = under_way.popleft()
        plan.report(done, round(decompressed_bytes.of(done.window)))
    # While one window is written out, so many others are fetched. Small ones stay in memory.
    on_disk = [size if (size := record_bytes.of(window)) > MAX_IN_MEMORY else 0.0 for window in windows]
    return Forecast(
        requests=len(windows),
        events=sum(map(events.of, windows)),
        received=sum(map(received.of, windows)),
        decompressed_bytes=sum(map(decompressed_bytes.of, windows)),
        spooled=max(sum(on_disk[start : start + ahead + 1]) for start in range(len(on_disk))),
        is_whole=all(day.is_whole for day in seen),
    )


class _Sums:
    """A measure's estimate for every day of a range, added up so that any window's sum is one subtraction."""

    def __init__(self, days: Window, seen: Sequence[tuple[date, int]]) -> None:
        self._first = days.first
        self._until = list(accumulate(map(_straight_lines(seen), days.dates()), initial=0.0))

    def of(self, window: Window) -> float:
        begin = (window.first - self._first).days
        return self._until[begin + window.days] - self._until[begin]


def _straight_lines(seen: Sequence[tuple[date, int]]) -> Callable[[date], float]:
    def measure(day: date) -> float:
        if day <= seen[0][0]:
            return seen[0][1]
        for (before, low), (after, high) in pairwise(seen):
            if day <= after:
                return low + (high - low) * ((day - before) / (after - before))
        return seen[-1][1]

    return measure
