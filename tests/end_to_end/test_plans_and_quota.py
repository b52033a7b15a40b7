"""Plans and quotas, with the emulator and the tap."""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.delivery.spool import SpooledChunk
from tap_mixpanel_stream.emulator import PLANS, Emulator, Fault, FixedProject, Plan, Quota
from tap_mixpanel_stream.mixpanel.quota import Quota as OurQuota, RateCap
from tap_mixpanel_stream.streams.progress import Progress
from tests.harness import catalog_of, run_tap
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import run_here

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST = dt.date(2024, 1, 1)
NOW = dt.datetime(2024, 6, 1, 12, tzinfo=dt.UTC)
DAYS = {"start_date": "2024-01-01", "end_date": "2024-01-01"}
ANNOTATIONS = [{"id": 1, "date": "2024-01-01 12:00:00"}, {"id": 2, "date": "2024-05-01 12:00:00"}]
FUNNEL = {"funnel_id": 1, "name": "One", "days": {"2024-01-01": {"steps": []}}}


def project(days: int = 1) -> FixedProject:
    """Return a project with an event a day, a profile, two annotations and a funnel."""
    lines = {}
    for number in range(days):
        day = FIRST + dt.timedelta(days=number)
        time = int(dt.datetime.combine(day, dt.time(12), dt.UTC).timestamp())
        properties = {"time": time, "distinct_id": "u", "$insert_id": str(day)}
        lines[day] = [json.dumps({"event": "E", "properties": properties}).encode()]
    profiles = [{"$distinct_id": "u", "$properties": {}}]
    return FixedProject(lines, profiles=profiles, annotations=ANNOTATIONS, funnels=[FUNNEL])


def test_the_free_plan_delivers_events() -> None:
    """The query API returns 402: profiles fail, events are delivered, exit code 1."""
    with Emulator(project(), plan=PLANS["free"]) as emulator:
        run = run_tap(emulator.settings | DAYS)
    assert run.exit_code == 1
    assert len(run.records("events")) == 1
    assert run.bookmark == "2024-01-02T00:00:00+00:00"
    assert any("profiles" in line and "plan does not include this" in line for line in run.errors)


def test_the_free_plan_without_profiles_succeeds() -> None:
    """Without profiles the run succeeds; reports stay empty with a warning."""
    with Emulator(project(), plan=PLANS["free"]) as emulator:
        run = run_tap(emulator.settings | DAYS, catalog=catalog_of("events", "funnels")).well()
    assert len(run.records("events")) == 1
    assert run.records("funnels") == []
    assert any("The stream stays empty" in line for line in run.problems)


@pytest.mark.parametrize("stream", ["events", "funnels", "annotations"])
def test_days_before_the_plans_history_fail(stream: str) -> None:
    """The error has the first allowed day and `start_date`, and does not say "no access"."""
    with Emulator(project(), plan=Plan(history_days=90)) as emulator:
        run = run_tap(emulator.settings | DAYS, catalog=catalog_of(stream))
    first_day = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=90)
    assert run.exit_code == 1
    assert run.records(stream) == []
    [error] = [line for line in run.errors if "history" in line]
    assert f"set start_date to {first_day} or later" in error
    assert "no access" not in error
    assert not any("stays empty" in line for line in run.problems)


@pytest.mark.parametrize("stream", ["events", "funnels", "annotations"])
def test_the_start_date_in_the_error_works(stream: str) -> None:
    """With the start date that the error suggests, the run succeeds."""
    settings = {"start_date": "2024-03-03", "end_date": "2024-03-03"}
    with Emulator(project(), plan=Plan(history_days=90), now=lambda: NOW) as emulator:
        rejected = run_here(emulator.settings | DAYS, FakeClock(NOW), catalog=catalog_of(stream))
        allowed = run_here(emulator.settings | settings, FakeClock(NOW), catalog=catalog_of(stream))
    assert rejected.error is not None
    assert "2024-03-03" in rejected.error
    assert allowed.error is None
    if stream == "annotations":
        assert [json.loads(each)["id"] for each in allowed.records(stream)] == [2]
        assert any("annotations before start_date (2024-03-03) are not read" in warning for warning in allowed.warnings)


@pytest.mark.parametrize(("kind", "stream"), [("export", "events"), ("engage", "profiles"), ("funnels", "funnels")])
def test_a_timeout_error_of_the_api_is_retried(kind: str, stream: str) -> None:
    """A 400 `Timeout Error.` is retried."""
    with Emulator(project(), faults=[Fault(kind, 1, "status:400-timeout")]) as emulator:
        result = run_here(emulator.settings | DAYS, FakeClock(), catalog=catalog_of(stream))
    assert result.error is None
    assert len(result.records(stream)) == 1


@pytest.mark.parametrize(("kind", "stream"), [("export", "events"), ("engage", "profiles"), ("funnels", "funnels")])
def test_an_error_object_in_a_200_is_not_data(kind: str, stream: str) -> None:
    """A 200 with `{"error":…}` is retried, then fails."""
    for numbers, fails in ((1, False), (None, True)):
        with Emulator(project(), faults=[Fault(kind, numbers, "error-object", at=0)]) as emulator:
            settings = emulator.settings | DAYS | {"max_retries": 1}
            result = run_here(settings, FakeClock(), catalog=catalog_of(stream))
        assert (result.error is not None) == fails
        assert len(result.records(stream)) == (0 if fails else 1)


@pytest.mark.parametrize(
    ("kind", "stream"), [("cohorts", "cohorts"), ("annotations", "annotations"), ("funnels", "funnels")]
)
def test_a_rejected_report_names_no_event_filter(kind: str, stream: str) -> None:
    """The remedy for a rejected report does not name event settings."""
    with Emulator(project(), faults=[Fault(kind, None, "status:400")]) as emulator:
        result = run_here(emulator.settings | DAYS, FakeClock(), catalog=catalog_of(stream))
    assert result.error is not None
    assert "events_where" not in result.error


# --- Quota ------------------------------------------------------------------------------------------------------------


def one_by_one(days: int, **more: object) -> dict[str, object]:
    last = FIRST + dt.timedelta(days=days - 1)
    return {
        "project_timezone": "UTC",
        "start_date": str(FIRST),
        "end_date": str(last),
        "window_days": 1,
        "concurrent_exports": 1,
        **more,
    }


def test_exports_use_no_quota_of_the_query_api() -> None:
    """60 exports and then profiles: no wait."""
    clock = FakeClock(NOW)
    with Emulator(project(60), quota=Quota(clock=clock.monotonic), now=clock.now) as emulator:
        result = run_here(emulator.settings | one_by_one(60), clock)
    assert result.error is None
    assert (len(result.records("events")), len(result.records("profiles"))) == (60, 1)
    assert result.waited == 0


def test_the_limit_in_response_headers_is_used() -> None:
    """A project with 400 requests an hour is read without waiting."""
    clock = FakeClock(NOW)
    quota = Quota(hourly=400, rate_headers=True, clock=clock.monotonic)
    with Emulator(project(100), quota=quota, now=clock.now) as emulator:
        result = run_here(emulator.settings | one_by_one(100), clock, catalog=catalog_of("events"))
        answers = {seen.status for seen in emulator.requests}
    assert result.error is None
    assert (len(result.records("events")), result.waited, answers) == (100, 0, {200})


@pytest.mark.parametrize("hourly", [1, 400])
def test_hourly_quota_may_be_1_or_400(hourly: int) -> None:
    """`hourly_quota` may be any number from 1 on, also more than 60."""
    clock = FakeClock(NOW)
    quota = Quota(hourly=hourly, clock=clock.monotonic)
    days = 3 if hourly == 1 else 100
    with Emulator(project(days), quota=quota, now=clock.now) as emulator:
        settings = emulator.settings | one_by_one(days, hourly_quota=hourly, max_quota_wait=9000)
        result = run_here(settings, clock, catalog=catalog_of("events"))
        answers = {seen.status for seen in emulator.requests}
    assert result.error is None
    assert (len(result.records("events")), answers) == (days, {200})
    assert result.waited == (pytest.approx(7202, abs=2) if hourly == 1 else 0)


def test_a_load_shedding_429_waits_a_minute() -> None:
    """The wait starts at a minute and doubles, also after other requests succeeded."""
    clock = FakeClock(NOW)
    with Emulator(project(3), faults=[Fault("export", (2, 3, 4), "status:429-load")], now=clock.now) as emulator:
        result = run_here(emulator.settings | one_by_one(3), clock, catalog=catalog_of("events"))
    assert result.error is None
    assert result.waited == 60 + 120 + 240


@pytest.mark.parametrize("max_wait", [0, 1800, 7200])
def test_newest_first_leaves_quota_for_profiles(max_wait: int) -> None:
    """The history ends when the export quota is used up; profiles have their own quota."""
    clock = FakeClock(NOW)
    with Emulator(project(150), quota=Quota(clock=clock.monotonic), now=clock.now) as emulator:
        settings = one_by_one(150, backfill="newest_first", max_quota_wait=max_wait)
        result = run_here(emulator.settings | settings, clock)
    assert result.error is None
    assert len(result.records("profiles")) == 1
    assert len(result.records("events")) >= 60


def test_a_one_second_wait_is_in_the_summary() -> None:
    """`Retry-After: 1` is 1 s waited in the summary."""
    faults = [Fault("export", 1, "status:429", value="seconds")]
    with Emulator(project(), faults=faults) as emulator:
        run = run_tap(emulator.settings | DAYS, catalog=catalog_of("events")).well()
    assert any("1 s waited for quota" in line for line in run.stderr)


def progress_of(clock: FakeClock, quota: OurQuota, **more: Any) -> Progress:
    settings: Mapping[str, Any] = {"stream": "events", "chunk_name": "window", "unit": "days", "bookmark_from": None}
    log = logging.getLogger("progress")
    return Progress(**settings, clock=clock, api="data", quota=quota, log=log, **more)


def test_the_progress_line_includes_the_wait_ahead(caplog: pytest.LogCaptureFixture) -> None:
    """60 of 120 windows took 600 s and the quota: the rest takes as long, and the rest of the hour."""
    caplog.set_level(logging.INFO)
    clock = FakeClock(NOW)
    quota = OurQuota(clock, rate_cap=RateCap(1000, 1))
    with progress_of(clock, quota, total=120) as progress:
        for _ in range(60):
            quota.acquire("events")
        clock.advance(600)
        with SpooledChunk(records=60, extent=60) as chunk:
            progress.add(chunk)
    assert "0 requests left this hour, about 1 hour to go, 50 minutes of it waiting for quota" in caplog.messages[-1]


def test_the_progress_line_has_the_end_of_the_wait(caplog: pytest.LogCaptureFixture) -> None:
    """During a wait the progress line has its end."""
    caplog.set_level(logging.INFO)

    class TickingClock(FakeClock):
        def sleep(self, seconds: float) -> None:
            self.advance(31)
            progress.tick()
            super().sleep(seconds - 31)

    clock = TickingClock(NOW)
    quota = OurQuota(clock, hourly=1)
    with progress_of(clock, quota) as progress:
        quota.acquire("events")
        quota.acquire("events")
    [line] = [line for line in caplog.messages if "0 of" not in line and "waiting for quota until" in line]
    assert re.search(r"waiting for quota until 2024-06-01 13:00:01 UTC", line)
