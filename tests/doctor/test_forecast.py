"""The forecast of a run from some of its days."""

from __future__ import annotations

import itertools
import math
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from tap_mixpanel_stream.delivery.spool import MAX_IN_MEMORY
from tap_mixpanel_stream.doctor.forecast import DaySize, forecast, sample_days
from tap_mixpanel_stream.replication.windows import LARGE, MAX_DAYS, MIB, DateRange, Window

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST = date(2022, 1, 1)
YEAR = date(2022, 12, 31)


def days_to(last: date) -> list[DateRange]:
    return [DateRange(Window(FIRST, last))]


def day(place: int, size: int, *, is_whole: bool = True) -> DaySize:
    return DaySize(FIRST + timedelta(days=place), size // 1000, size // 5, size, size + size // 10, is_whole)


@given(st.dates(date(2011, 1, 1), date(2030, 1, 1)), st.integers(0, 4000), st.integers(2, 9))
def test_sample_days_are_evenly_spaced(first: date, days: int, most: int) -> None:
    """Sample days include both ends of the range and are evenly spaced."""
    last = first + timedelta(days=days)
    chosen = sample_days(first, last, most)
    assert chosen[0] == first
    assert chosen[-1] == last
    assert len(chosen) == min(most, days + 1)
    steps = [(after - before).days for before, after in itertools.pairwise(chosen)]
    assert not steps or max(steps) - min(steps) <= 1


@given(
    st.integers(1, 3000),
    st.lists(st.integers(0, 2 * LARGE), min_size=1, max_size=5),
    st.integers(1, 100) | st.none(),
    st.integers(1, 8),
)
def test_forecast_requests_are_within_limits(days: int, sizes: list[int], window_days: int | None, ahead: int) -> None:
    """Requests and spooled bytes are within the limits that window lengths set."""
    last = FIRST + timedelta(days=days - 1)
    seen = [day(place, size) for place, size in zip(range(0, days, max(1, days // 5)), sizes, strict=False)]
    run = forecast(days_to(last), seen, window_days=window_days, ahead=ahead)
    if window_days:
        assert run.requests == math.ceil(days / window_days)
    assert math.ceil(days / (window_days or MAX_DAYS)) <= run.requests <= days
    assert 0 <= run.spooled <= run.decompressed_bytes * 1.1 * (1 + 1e-9) + 1


def straight(place: int) -> int:
    return 10_000_000 + place * 100_000


@pytest.mark.parametrize("sizes", [straight, lambda place: straight(364 - place), lambda _place: 5_000_000])
def test_linear_growth_is_forecast_exactly(sizes: Callable[[int], int]) -> None:
    """Five days suffice to forecast a project that grows linearly."""
    places = [(chosen - FIRST).days for chosen in sample_days(FIRST, YEAR, 5)]
    few = forecast(days_to(YEAR), [day(place, sizes(place)) for place in places], window_days=None, ahead=2)
    every = forecast(days_to(YEAR), [day(place, sizes(place)) for place in range(365)], window_days=None, ahead=2)
    assert few.requests == every.requests
    assert few.decompressed_bytes == pytest.approx(sum(map(sizes, range(365))))
    assert few.spooled == pytest.approx(every.spooled)


def test_days_outside_the_samples_use_the_nearest() -> None:
    """Days before the first and after the last sample are like the nearest sample."""
    seen = [day(10, 1_000_000), day(20, 3_000_000)]
    run = forecast(days_to(FIRST + timedelta(days=30)), seen, window_days=None, ahead=1)
    assert run.decompressed_bytes == pytest.approx(10 * 1_000_000 + 11 * 2_000_000 + 10 * 3_000_000)
    assert run.events == pytest.approx(run.decompressed_bytes / 1000)
    assert run.received == pytest.approx(run.decompressed_bytes / 5)


def test_prefetched_windows_count_as_disk_space() -> None:
    """Disk space includes the prefetched windows."""
    seen = [day(0, 10 * MIB)]
    for ahead in (1, 2, 4):
        run = forecast(days_to(YEAR), seen, window_days=1, ahead=ahead)
        assert run.spooled == pytest.approx((ahead + 1) * 11 * MIB, rel=1e-6)
    assert forecast(days_to(FIRST), seen, window_days=1, ahead=4).spooled == pytest.approx(11 * MIB, rel=1e-6)


def test_windows_in_memory_need_no_disk_space() -> None:
    """Windows that stay in memory need no disk space."""
    assert forecast(days_to(YEAR), [day(0, MAX_IN_MEMORY // 2)], window_days=1, ahead=8).spooled == 0


def test_a_partial_day_makes_the_forecast_a_minimum() -> None:
    """A sample that was not read to its end makes the forecast a minimum."""
    assert forecast(days_to(YEAR), [day(0, 5)], window_days=None, ahead=2).is_whole
    assert not forecast(days_to(YEAR), [day(0, 5), day(9, LARGE, is_whole=False)], window_days=None, ahead=2).is_whole


def test_the_forecast_excludes_delivered_days() -> None:
    """In a half-finished back-fill, delivered days are not counted."""
    date_ranges = [
        DateRange(Window(date(2022, 12, 27), YEAR)),
        DateRange(Window(FIRST, date(2022, 1, 31)), is_backwards=True, is_deferrable=True),
    ]
    run = forecast(date_ranges, [day(0, 10 * MIB)], window_days=1, ahead=2)
    assert run.requests == 36
    assert run.decompressed_bytes == pytest.approx(36 * 10 * MIB)
