"""Checks across finished windows, before they are delivered."""

from __future__ import annotations

import json
import logging
from contextlib import closing
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from tap_mixpanel_stream.delivery.spool import SpooledChunk
from tap_mixpanel_stream.mixpanel.errors import QuotaSpent
from tap_mixpanel_stream.pipeline.checks import MAX_HELD_WINDOWS, check_timezone, refetch_empty_windows
from tap_mixpanel_stream.pipeline.errors import StreamError
from tap_mixpanel_stream.pipeline.window import DeliveredWindow, FetchResult
from tap_mixpanel_stream.records.timezone_check import TimezoneCheck
from tap_mixpanel_stream.replication.windows import DateRange, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MONDAY = date(2024, 1, 1)
UTC = ZoneInfo("UTC")
LOG = logging.getLogger(__name__)


def window(day: int, rows: int = 0, *, failure: Exception | None = None, sample: Sequence[bytes] = ()) -> FetchResult:
    """Return the result of a one-day window."""
    the_day = MONDAY + timedelta(days=day)
    result = FetchResult(DateRange(Window(the_day, the_day)), sample=list(sample), failure=failure)
    if not failure:
        until = datetime.combine(the_day + timedelta(days=1), datetime.min.time(), tzinfo=UTC)
        result.chunks.append((SpooledChunk(records=rows), DeliveredWindow(result.date_range, until, {})))
    return result


def seen(results: Iterable[FetchResult]) -> Iterator[tuple[int, int, Exception | None]]:
    for result in results:
        with closing(result):
            yield (result.date_range.window.first - MONDAY).days, result.rows, result.failure


# --- Odd empty windows ------------------------------------------------------------------------------------------------


def test_a_suspicious_empty_window_is_fetched_again() -> None:
    """An empty window between full ones is fetched again, and the new result is delivered."""
    results = iter([window(0, 100), window(1), window(2, 100)])
    checked = refetch_empty_windows(results, lambda _: window(1, 90), None, LOG)
    assert list(seen(checked)) == [(0, 100, None), (1, 90, None), (2, 100, None)]


def test_no_quota_to_refetch_an_empty_window_fails() -> None:
    """Without quota to fetch it again, a suspicious empty window fails instead of being delivered."""
    spent = QuotaSpent("no quota left")
    results = iter([window(0, 100), window(1), window(2, 100)])
    checked = refetch_empty_windows(results, lambda _: window(1, failure=spent), None, LOG)
    assert list(seen(checked))[:2] == [(0, 100, None), (1, 0, spent)]


# --- The time zone ----------------------------------------------------------------------------------------------------


def lines(offset: timedelta) -> list[bytes]:
    """Return events with local times as `time`, received by Mixpanel a minute after they happened."""
    happened = [1_704_100_001_000 + 7_000 * number for number in range(60)]
    times = [(at + offset // timedelta(milliseconds=1), at + 60_000) for at in happened]
    return [
        json.dumps({"event": "E", "properties": {"time": time, "$mp_api_timestamp_ms": received}}).encode()
        for time, received in times
    ]


def checked(
    results: Iterable[FetchResult], *, zone: ZoneInfo | None = None, is_first_load: bool = True
) -> Iterator[tuple[int, int, Exception | None]]:
    return seen(check_timezone(iter(results), TimezoneCheck(), zone, LOG, is_first_load=is_first_load))


def test_a_first_load_in_the_wrong_zone_fails() -> None:
    """A first load with a wrong time zone fails before the first record."""
    results = checked([window(0), window(1, sample=lines(timedelta(hours=-8)))])
    with pytest.raises(StreamError, match=r"before the first record.*UTC-08:00"):
        next(results)


@pytest.mark.parametrize(
    "settings", [{"zone": ZoneInfo("Europe/Berlin")}, {"is_first_load": False}], ids=["zone set", "later run"]
)
def test_a_wrong_time_zone_is_warned_about_once(settings: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    """With `project_timezone` set, or after the first load, a wrong zone is one warning."""
    windows = [window(day, sample=lines(timedelta(hours=-8))) for day in range(2)]
    assert len(list(checked(windows, **settings))) == 2  # type: ignore[arg-type]
    assert len(caplog.records) == 1


def test_a_failure_during_the_check_delivers_nothing() -> None:
    """Otherwise the next run would not be a first load, and would deliver events in the wrong zone."""
    failure = StreamError("events: failed")
    with pytest.raises(StreamError, match="failed"):
        next(checked([window(0), window(1, failure=failure)]))


def test_the_check_holds_back_a_limited_number() -> None:
    """A first load holds back at most `HELD_WINDOWS` windows."""
    taken = []

    def windows() -> Iterator[FetchResult]:
        for day in range(2 * MAX_HELD_WINDOWS):
            taken.append(day)
            yield window(day)

    assert next(checked(windows()))[0] == 0
    assert len(taken) == MAX_HELD_WINDOWS
