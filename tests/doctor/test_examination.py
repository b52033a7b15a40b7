"""Each check of the doctor finds its problem and says what to do."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tap_mixpanel_stream.doctor import examination
from tap_mixpanel_stream.doctor.completeness import DistinctEvents
from tap_mixpanel_stream.emulator import (
    PLANS,
    Credentials,
    Emulator,
    Fault,
    FixedProject,
    Plan,
    Quota,
    SyntheticProject,
)
from tap_mixpanel_stream.mixpanel.request import Hosts
from tap_mixpanel_stream.settings import validation as settings_module
from tests.doctor.run_doctor import DoctorRun, run_doctor
from tests.harness import ENVIRONMENT, catalog_of, command, run_tap
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import run_here

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FIRST = dt.date(2022, 1, 1)
YEAR = {"start_date": "2022-01-01", "end_date": "2022-12-31"}
NOW = dt.datetime(2024, 1, 16, 12, 0, tzinfo=dt.UTC)


def project(zone: str = "UTC", events_per_day: int = 100) -> SyntheticProject:
    return SyntheticProject(seed=5, first_day=FIRST, events_per_day=events_per_day, profiles=30, zone=zone)


def kinds(emulator: Emulator) -> list[str]:
    return [seen.kind for seen in emulator.requests]


def test_a_working_configuration_is_ok() -> None:
    """Every check is ok, with few requests."""
    with Emulator(project()) as emulator:
        found = run_doctor(emulator.settings | YEAR)
        requested = kinds(emulator)
    assert found.code == 0
    assert found.problems == {}
    assert found.lines("warning") == {}
    assert list(found.lines("ok")) == [
        *("settings", "credentials", "region", "project", "clock", "events", "completeness", "time zone"),
        *("run", "quota", "disk", "profiles", "plan"),
    ]
    assert requested == ["export"] * 6 + ["event_counts"] * 6 + ["engage"]
    assert found.queries == len(requested)
    assert found.lines("ok")["profiles"] == "30 in the project"
    took = "Requests made: 13; quota: 60 exports and 60 other requests an hour.\n"
    assert found.text.endswith(f"No problem found. {took}")


def test_the_forecast_matches_a_run() -> None:
    """The forecast has the requests and about the events of the run."""
    catalog = catalog_of("events")
    with Emulator(project(events_per_day=60)) as emulator:
        # One at a time: the order in which several requests end varies.
        config = emulator.settings | YEAR | {"concurrent_exports": 1}
        found = run_doctor(config, catalog=catalog)
        begin = len(emulator.requests)
        run = run_tap(config, catalog=catalog).well()
        requests = len(emulator.requests) - begin
    assert f"about {requests} exports" in found.lines("ok")["quota"]
    assert abs(len(run.records()) - 22_000) < 1000
    assert "2022-01-01 to 2022-12-31: about 22,000 events" in found.lines("ok")["run"]


# --- Whether everything is there --------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles"])
def test_sampled_days_are_compared_with_event_counts(zone: str, raw: bool) -> None:
    """Duplicates count once, as in Mixpanel, and days are in the project's time zone."""
    with Emulator(project(zone, events_per_day=300)) as emulator:
        config = emulator.settings | YEAR | {"raw": raw, "project_timezone": zone}
        found = run_doctor(config, catalog=catalog_of("events", raw=raw))
    checks = found.lines("ok")
    events, counted = (int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", checks["completeness"]))
    assert events == counted < int(checks["events"].split(" ")[0].replace(",", ""))
    assert found.lines("warning") == {}


def test_unusual_raw_events_are_counted() -> None:
    """Raw events without properties are counted; a name with an unpaired surrogate is not requested."""
    lines = [b'{"event":"A"}', b'{"event":"B","properties":null}', rb'{"event":"\ud83d","properties":{}}']
    with closing(DistinctEvents(raw=True)) as spool:
        for line in lines:
            spool.write(b'{"type":"RECORD","record":%b}\n' % line)
        assert (spool.count, spool.names) == (3, {"A", "B"})


def test_a_silently_truncated_day_is_reported() -> None:
    """A day with fewer events than Mixpanel counts is a warning."""
    with Emulator(project(), faults=[Fault("export", 4, "short-body", 0.6)]) as emulator:
        found = run_doctor(emulator.settings | YEAR, catalog=catalog_of("events"))
    assert found.code == 0
    warning = found.lines("warning")["completeness"]
    assert re.search(r"counts on 2022-\d\d-\d\d \(\d\d of \d+\): see docs/is-everything-there.md", warning)


def test_counts_not_in_the_plan_are_skipped() -> None:
    """On the Free plan there is no comparison and no line about it."""
    with Emulator(project(), plan=PLANS["free"]) as emulator:
        found = run_doctor(emulator.settings | YEAR, catalog=catalog_of("events"))
    assert not {"completeness", "plan"} & found.lines("warning").keys()
    assert "completeness" not in found.lines("ok")
    assert found.code == 0


def test_failed_event_counts_are_a_warning() -> None:
    """A run of events needs no counts, so their failure is only a warning."""
    with Emulator(project(), faults=[Fault("event_counts", range(3, 99), "status:503")]) as emulator:
        found = run_doctor(emulator.settings | YEAR, catalog=catalog_of("events"))
    assert found.code == 0
    assert found.lines("warning")["completeness"].startswith(
        "the sampled days could not be compared: event_counts 2022"
    )


def test_events_with_a_filter_are_not_compared() -> None:
    """Counts do not support `events_where`; `event_names` applies to both."""
    with Emulator(project()) as emulator:
        config = emulator.settings | YEAR | {"event_names": ["Page View"]}
        by_name = run_doctor(config, catalog=catalog_of("events"))
        narrowed = run_doctor(config | {"events_where": 'properties["plan"] == "pro"'}, catalog=catalog_of("events"))
    assert "completeness" in by_name.lines("ok")
    assert "completeness" not in narrowed.lines("ok") | narrowed.lines("warning")


# --- Credentials and regions ------------------------------------------------------------------------------------------


class Regions(NamedTuple):
    us: Emulator
    eu: Emulator
    india: Emulator


@contextmanager
def regions(
    monkeypatch: pytest.MonkeyPatch, us: Credentials | None, eu: Credentials | None, india: Credentials | None
) -> Iterator[Regions]:
    """Yield an emulator for each region; None is a region with other credentials."""
    stranger = Credentials(project_id="99", username="x", secret="x", project_secret="x", oauth_token="x")
    with ExitStack() as ends:
        emulators = Regions(
            *(ends.enter_context(Emulator(project(), credentials=each or stranger)) for each in (us, eu, india))
        )
        hosts = [Hosts(emulator.data_api_url, emulator.api_url) for emulator in emulators]
        monkeypatch.setattr(settings_module, "REGIONS", dict(zip(("us", "eu", "in"), hosts, strict=True)))
        yield emulators


OURS = Credentials()
LOGIN = {
    "project_id": OURS.project_id,
    "service_account_username": OURS.username,
    "service_account_secret": OURS.secret,
    **YEAR,
}


@pytest.mark.parametrize(("place", "home"), [(1, "eu"), (2, "in")])
@pytest.mark.parametrize("refusal", ["400", "401", "403", "404"])
def test_a_project_in_another_region_is_found(
    place: int, home: str, refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The problem names the project's region."""
    homes: list[Credentials | None] = [None, None, None]
    homes[place] = OURS
    with regions(monkeypatch, *homes) as emulators:
        if refusal != "400":
            emulators.us.faults.append(Fault("export", None, f"status:{refusal}"))
        found = run_doctor(LOGIN)
        requested = [len(emulator.requests) for emulator in emulators]
    assert found.code == 1
    assert found.problems == {"region": f"the project's region is {home}, not us: set region to {home}"}
    assert requested == [1, 1, place - 1]
    assert found.queries == sum(requested)


def test_the_suggested_region_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the region that the doctor suggests, the configuration works."""
    with regions(monkeypatch, None, OURS, None) as emulators:
        found = run_doctor(LOGIN | {"region": "eu"})
        assert (len(emulators.us.requests), len(emulators.india.requests)) == (0, 0)
    assert found.code == 0
    assert found.lines("ok")["region"] == "eu"


def test_credentials_rejected_in_all_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials are tried once in each region, and the problem says that all reject them."""
    with regions(monkeypatch, None, None, None) as emulators:
        found = run_doctor(LOGIN)
        requested = [len(emulator.requests) for emulator in emulators]
    assert found.code == 1
    assert list(found.problems) == ["credentials"]
    assert "the credentials were rejected: check service_account_username" in found.problems["credentials"]
    assert "The other regions (eu and in) reject it too" in found.problems["credentials"]
    assert requested == [1, 1, 1]


def test_credentials_stay_with_configured_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `api_url` set, credentials are sent to no other region."""
    with regions(monkeypatch, OURS, OURS, OURS) as elsewhere, Emulator(project()) as emulator:
        found = run_doctor(emulator.settings | YEAR | {"service_account_secret": "wrong"})
        assert [emulator.requests for emulator in elsewhere] == [[], [], []]
    assert list(found.problems) == ["credentials"]
    assert "other regions" not in found.text


@pytest.mark.parametrize(
    ("streams", "check", "says"),
    [(["events"], "credentials", "were rejected: check"), (["profiles"], "project", "no access: check project_id")],
)
def test_a_project_without_access_is_reported(streams: list[str], check: str, says: str) -> None:
    """The export reports rejected credentials, the query API no access; both name project_id."""
    with Emulator(project()) as emulator:
        found = run_doctor(emulator.settings | YEAR | {"project_id": "17"}, catalog=catalog_of(*streams))
    assert list(found.problems) == [check]
    assert says in found.problems[check]
    assert "project_id" in found.problems[check]


def test_no_connection_is_reported_with_its_cause() -> None:
    """A failed connection is a problem with its cause."""
    with Emulator(project()) as emulator:
        config = emulator.settings
    found = run_doctor(config | YEAR)
    assert found.code == 1
    assert list(found.problems) == ["connection"]
    assert "Connection refused" in found.problems["connection"]
    assert "clock" not in found.text


@pytest.mark.parametrize(("minutes", "words"), [(10, "10 minutes ahead of"), (-10, "10 minutes behind")])
def test_a_wrong_clock_is_a_warning(minutes: int, words: str) -> None:
    """A wrong clock is a warning with the difference."""
    clock = FakeClock(NOW + dt.timedelta(minutes=minutes))
    with Emulator(project(), now=lambda: NOW) as emulator:
        found = run_doctor(emulator.settings | YEAR, clock=clock)
    assert found.code == 0
    assert words in found.lines("warning")["clock"]


def test_spent_quota_is_reported_without_waiting() -> None:
    """Spent quota is a problem with the time to try again, and is not waited for."""
    clock = FakeClock(NOW)
    with Emulator(project(), quota=Quota(hourly=2, clock=clock.monotonic), now=clock.now) as emulator:
        found = run_doctor(emulator.settings | YEAR, clock=clock)
    assert found.code == 1
    assert list(found.problems) == ["quota"]
    assert "try again after 2024-01-16 13:00:" in found.problems["quota"]
    assert "A run would wait" in found.problems["quota"]
    assert sum(clock.sleeps) <= examination.MAX_QUOTA_WAIT


# --- Streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "missing", "other"), [("export", "events", "profiles"), ("engage", "profiles", "events")]
)
def test_a_stream_not_in_the_plan_is_a_problem(kind: str, missing: str, other: str) -> None:
    """A 402 is a problem that says how to deselect the stream, and other checks run."""
    with Emulator(project(), faults=[Fault(kind, None, "status:402")]) as emulator:
        found = run_doctor(emulator.settings | YEAR)
        with_catalog = run_doctor(emulator.settings | YEAR, catalog=catalog_of("events", "profiles"))
    assert found.code == 1
    assert list(found.problems) == ["plan"]
    assert "plan does not include this" in found.problems["plan"]
    assert found.problems["plan"].endswith(f'A run without {missing} succeeds: set streams to ["{other}"]')
    assert with_catalog.problems["plan"].endswith(f"deselect {missing} in the catalog")
    assert other in found.lines("ok")


def test_the_free_plan_is_one_problem() -> None:
    """Profiles and groups are in one line."""
    group = {"group_profiles": [{"name": "companies", "data_group_id": "1"}]}
    with Emulator(project(), plan=PLANS["free"]) as emulator:
        found = run_doctor(emulator.settings | YEAR | group)
    assert list(found.problems) == ["plan"]
    assert found.problems["plan"].endswith('A run without profiles and companies succeeds: set streams to ["events"]')


def test_days_before_the_history_are_a_problem() -> None:
    """A 403 for the history is not reported as missing access."""
    clock = FakeClock(NOW)
    with Emulator(project(), plan=Plan(history_days=90), now=clock.now) as emulator:
        found = run_doctor(emulator.settings | {"start_date": "2022-01-01"}, clock=clock)
    assert list(found.problems) == ["events"]
    assert "set start_date to 2023-10-18 or later" in found.problems["events"]


@pytest.mark.parametrize("max_wait", [0, 7200])
def test_the_doctor_and_a_run_have_the_same_wait(max_wait: int, caplog: pytest.LogCaptureFixture) -> None:
    """The time to try again is the time until which a run waits."""
    faults = [Fault("export", (1, 2), "status:429-load")]
    caplog.set_level("INFO")
    with Emulator(project(), faults=faults) as emulator:
        config = emulator.settings | YEAR | {"max_quota_wait": max_wait}
        found = run_doctor(config, clock=FakeClock(NOW + dt.timedelta(seconds=0.5)))
    with Emulator(project(), faults=faults) as emulator:
        run = run_here(config | emulator.settings, FakeClock(NOW + dt.timedelta(seconds=0.5)))
    until = "2024-01-16 12:01:01 UTC"
    assert f"try again after {until}. A run would {'wait' if max_wait else 'stop'}" in found.problems["quota"]
    assert until in (run.error or caplog.text)


OTHERS = {"cohorts": "cohorts", "cohort_members": "cohorts", "annotations": "annotations", "funnels": "funnels"}


def test_optional_streams_are_checked() -> None:
    """Selected optional streams are checked."""
    with Emulator(project()) as emulator:
        found = run_doctor(emulator.settings | YEAR, catalog=catalog_of("profiles", *OTHERS))
    assert found.code == 0
    assert set(OTHERS) <= set(found.lines("ok"))


@pytest.mark.parametrize("status", ["status:402", "status:403"])
@pytest.mark.parametrize("stream", OTHERS)
def test_a_stream_that_stays_empty_is_a_warning(stream: str, status: str) -> None:
    """An optional stream without access is a warning."""
    with Emulator(project(), faults=[Fault(OTHERS[stream], None, status)]) as emulator:
        found = run_doctor(emulator.settings | YEAR, catalog=catalog_of("profiles", stream))
    assert found.code == 0
    assert "A run leaves the stream empty" in found.lines("warning")[stream]
    assert "profiles" in found.lines("ok")


@pytest.mark.parametrize("stream", OTHERS)
def test_a_stream_that_fails_is_a_problem(stream: str) -> None:
    """A stream that would fail a run is a problem."""
    with Emulator(project(), faults=[Fault(OTHERS[stream], None, "cut-json")]) as emulator:
        found = run_doctor(emulator.settings | YEAR, catalog=catalog_of("profiles", stream))
    assert found.code == 1
    assert stream in found.problems


REPORTS = {"insights_reports": [{"name": f"Report {number}", "bookmark_id": number} for number in (1, 2, 3)]}


def with_reports(*faults: Fault, **more: Any) -> DoctorRun:
    """Run the doctor for profiles and three saved reports."""
    report = {"headers": ["$event"], "series": {"A": {"all": 1}}}
    with Emulator(FixedProject(insights=dict.fromkeys((1, 2, 3), report)), faults=faults) as emulator:
        return run_doctor(emulator.settings | REPORTS | more, catalog=catalog_of("profiles", "insights"))


def test_every_report_is_checked() -> None:
    """Each saved report is requested, and a report that a run would skip is a warning."""
    found = with_reports()
    assert (found.code, found.queries, found.lines("ok")["insights"]) == (0, 4, "readable")
    for number in (1, 2, 3):
        found = with_reports(Fault("insights", number, "status:404"))
        assert found.code == 0
        assert found.lines("warning")["insights"].startswith(f"insights, report {number}: HTTP 404")
        assert found.lines("warning")["insights"].endswith(". A run skips this")
        assert "insights" not in found.lines("ok")


@pytest.mark.parametrize(
    ("number", "status"), [(None, "status:403"), (None, "status:404"), ((1, 2), "status:503"), ((3, 4), "status:503")]
)
def test_reports_that_fail_a_run_are_a_problem(number: tuple[int, ...] | None, status: str) -> None:
    """If Mixpanel rejects all reports, or one fails after all retries, a run would fail."""
    found = with_reports(Fault("insights", number, status))
    assert found.code == 1
    assert f"HTTP {status[-3:]}" in found.problems["insights"]


@pytest.mark.parametrize("cohorts", [1, 2])
def test_members_that_fail_a_run_are_a_problem(cohorts: int) -> None:
    """A cohort that fails after all retries fails a run, even if the next one is readable."""
    listed = [{"id": number, "name": "", "members": ["u"]} for number in range(cohorts)]
    with Emulator(FixedProject(cohorts=listed), faults=[Fault("engage", (2, 3), "status:500")]) as emulator:
        found = run_doctor(emulator.settings, catalog=catalog_of("profiles", "cohort_members"))
    assert found.code == 1
    assert "cohort_members of cohort 0 page 0: HTTP 500" in found.problems["cohort_members"]


@pytest.mark.parametrize(("stream", "kind"), [("funnels", "funnels"), ("cohort_members", "engage")])
def test_a_skipped_item_is_a_warning(stream: str, kind: str) -> None:
    """A rejected funnel or cohort is a warning, and the next one is tried."""
    number = 2 if stream == "funnels" else 1
    with Emulator(project(), faults=[Fault(kind, number, "status:404")]) as emulator:
        found = run_doctor(emulator.settings | YEAR, catalog=catalog_of("cohorts", stream))
    assert found.code == 0
    assert "HTTP 404" in found.lines("warning")[stream]


def test_credentials_are_not_checked_without_a_request() -> None:
    """Without `insights_reports` nothing is requested, so the credentials are not checked."""
    with Emulator(FixedProject()) as emulator:
        wrong = emulator.settings | {"service_account_secret": "wrong"}
        alone = run_doctor(wrong, catalog=catalog_of("insights"))
        assert emulator.requests == []
        with_lexicon = run_doctor(wrong, catalog=catalog_of("insights", "lexicon_schemas"))
    assert alone.code == 0
    assert alone.lines("warning") == {
        "insights": "insights_reports is not set: there is no report to read",
        "credentials": "not checked, because no selected stream sends a request",
    }
    assert list(alone.lines("ok")) == ["settings"]
    assert list(with_lexicon.problems) == ["credentials"]


@pytest.mark.parametrize(("only", "never"), [("events", "engage"), ("profiles", "export")])
def test_only_selected_streams_are_requested(only: str, never: str) -> None:
    """Only the streams that the catalog selects are requested."""
    with Emulator(project()) as emulator:
        found = run_doctor(emulator.settings | YEAR, catalog=catalog_of(only))
        assert never not in kinds(emulator)
    assert found.code == 0
    assert found.lines("ok")["plan"] == f"includes {only}"


def test_a_rejected_filter_is_a_problem_of_its_stream() -> None:
    """A filter that Mixpanel rejects is a problem of its stream."""
    with Emulator(project()) as emulator:
        found = run_doctor(emulator.settings | YEAR | {"events_where": "properties[", "profiles_where": "user["})
    assert list(found.problems) == ["events", "profiles"]
    assert "plan" not in found.lines("ok")
    assert "events_where" in found.problems["events"]


def test_days_without_events_are_a_warning() -> None:
    """A range without events is a warning that names the settings to check."""
    with Emulator(project()) as emulator:
        found = run_doctor(emulator.settings | YEAR | {"event_names": ["No such event"]})
    assert found.code == 0
    assert "check start_date, event_names" in found.lines("warning")["events"]
    assert "too few events" in found.lines("warning")["time zone"]


def test_a_range_in_the_future_is_a_warning() -> None:
    """A start date in the future is a warning."""
    with Emulator(project()) as emulator:
        found = run_doctor(emulator.settings | {"start_date": "2099-01-01"})
    assert "nothing to read" in found.lines("warning")["events"]


SECRETIVE = b'{"event":"Told","properties":{"time":"never","distinct_id":"ann@example.com"}}'


def test_a_malformed_line_is_reported_without_content(tmp_path: Path) -> None:
    """The report has the line's position and reason, not its content."""
    with Emulator(FixedProject({FIRST: [SECRETIVE]})) as emulator:
        config = emulator.settings | {"start_date": "2022-01-01", "end_date": "2022-01-01"}
        failing = run_doctor(config)
        skipping = run_doctor(config | {"bad_lines": "skip", "bad_lines_path": str(tmp_path / "rejected")})
    assert failing.code == 1
    assert "events 2022-01-01: malformed line 1: `time` is not a number" in failing.problems["events"]
    assert "set bad_lines" in failing.problems["events"]
    assert skipping.code == 0
    assert "1 lines would be skipped" in skipping.lines("warning")["events"]
    assert "ann@" not in failing.text + skipping.text
    assert not (tmp_path / "rejected").exists(), "the doctor creates nothing"


@pytest.mark.parametrize("fault", ["half-line", "gzip-cut", "sentinel:terminated early"])
def test_a_twice_truncated_response_is_a_problem(fault: str) -> None:
    """A response truncated twice is a problem; truncated once it is retried."""
    with Emulator(project(), faults=[Fault("export", (3, 4), fault)]) as emulator:
        twice = run_doctor(emulator.settings | YEAR)
    with Emulator(project(), faults=[Fault("export", 3, fault)]) as emulator:
        once = run_doctor(emulator.settings | YEAR)
    assert list(twice.problems) == ["events"]
    assert "events 2022-04-02" in twice.problems["events"]
    assert once.code == 0


def test_the_report_contains_no_user_data() -> None:
    """The report contains no property value of an event."""
    source = project()
    with Emulator(source) as emulator:
        text = run_doctor(emulator.settings | YEAR).text
    for line in source.lines(FIRST, FIRST, now=NOW):
        properties = json.loads(line)["properties"]
        for name in ("distinct_id", "$insert_id", "$city", "$browser", "trace_id"):
            assert name not in properties or str(properties[name]) not in text
    assert "@" not in text


# --- Time zones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("in_ms", [False, True])
def test_both_offsets_of_a_zone_are_reported(raw: bool, in_ms: bool) -> None:
    """A wrong zone is a problem with the offsets of winter and summer."""
    with Emulator(project("America/New_York")) as emulator:
        found = run_doctor(emulator.settings | YEAR | {"raw": raw, "time_in_ms": in_ms})
    assert found.code == 1
    assert list(found.problems) == ["time zone"]
    for words in (
        "project_timezone is not set",
        "stops before its first record",
        "UTC-05:00 in 2022-01",
        "UTC-04:00 in 2022-",
        "America/New_York",
    ):
        assert words in found.problems["time zone"]


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        ({"project_timezone": "UTC"}, None),
        ({}, {"bookmarks": {"events": {"replication_key_value": "2022-12-29T00:00:00+00:00"}}}),
    ],
)
def test_a_wrong_zone_is_a_warning_like_in_a_run(settings: dict[str, str], state: dict[str, Any] | None) -> None:
    """With `project_timezone` set, or with a bookmark, a wrong zone is a warning."""
    with Emulator(project("America/New_York")) as emulator:
        found = run_doctor(emulator.settings | YEAR | settings, state=state)
    assert found.code == 0
    assert "America/New_York" in found.lines("warning")["time zone"]


def test_the_right_zone_is_ok() -> None:
    """The project's time zone is ok."""
    with Emulator(project("America/New_York")) as emulator:
        found = run_doctor(emulator.settings | YEAR | {"project_timezone": "America/New_York"})
    assert found.code == 0
    assert "project_timezone America/New_York fits 48" in found.lines("ok")["time zone"]


@pytest.mark.parametrize(
    ("zone", "now", "says"),
    [
        ("UTC", NOW, "at UTC in 2024-01"),
        # Where it is still two days earlier.
        ("Pacific/Pago_Pago", dt.datetime(2024, 1, 16, 10, 30, tzinfo=dt.UTC), "at UTC-11:00 in 2024-01"),
    ],
)
def test_the_zone_is_found_before_today_begins(zone: str, now: dt.datetime, says: str) -> None:
    """The zone is found even if today has not begun in the project."""
    clock = FakeClock(now)
    with Emulator(project(zone), now=clock.now) as emulator:
        config = emulator.settings | {"start_date": "2024-01-01", "project_timezone": "Pacific/Kiritimati"}
        found = run_doctor(config, clock=clock)
    assert list(found.problems) == ["last day"]
    assert "the last day has not begun in the project" in found.problems["last day"]
    assert says in found.lines("warning")["time zone"]


# --- The forecast -----------------------------------------------------------------------------------------------------


def test_more_waiting_than_allowed_is_a_problem() -> None:
    """The problem has two remedies: several runs or a higher max_quota_wait."""
    with Emulator(project(events_per_day=5)) as emulator:
        config = emulator.settings | YEAR | {"window_days": 1}
        stops = run_doctor(config)
        waits = run_doctor(config | {"max_quota_wait": 6 * 3600})
    assert list(stops.problems) == ["quota"]
    for words in (
        "about 360 exports",
        "6 hours",
        "more than max_quota_wait (7200 s) allows",
        "run 3 times",
        "max_quota_wait to 21600",
    ):
        assert words in stops.problems["quota"]
    assert waits.code == 0


def test_newest_first_waits_take_several_runs() -> None:
    """Newest first, more waiting than allowed is ok and takes several runs."""
    with Emulator(project(events_per_day=5)) as emulator:
        found = run_doctor(emulator.settings | YEAR | {"window_days": 1, "backfill": "newest_first"})
    assert found.code == 0
    assert "about 360 exports at 60 an hour: 6 hours of waiting" in found.lines("ok")["quota"]
    assert "the back-fill takes at least 3 runs" in found.lines("ok")["quota"]


def test_the_forecast_uses_hourly_quota() -> None:
    """The forecast uses `hourly_quota`."""
    with Emulator(project(events_per_day=5)) as emulator:
        config = emulator.settings | {"start_date": "2024-01-01", "end_date": "2024-01-15", "window_days": 1}
        waits = run_doctor(config | {"hourly_quota": 10})
        fits = run_doctor(config | {"hourly_quota": 20})
    assert "about 15 exports at 10 an hour: 1 hour of waiting" in waits.lines("ok")["quota"]
    assert "hourly_quota allows 20 an hour: no waiting" in fits.lines("ok")["quota"]


@pytest.mark.parametrize(
    ("total", "free", "says"),
    [(1, 1_000_000, "1.0 MB left, 0.0 MB of it"), (2 * 10**9, 101_000_000, "101 MB left, 100 MB of it")],
)
def test_too_little_disk_space_is_a_problem(total: int, free: int, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less disk space than the run needs plus the reserve is a problem."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: shutil._ntuple_diskusage(total, 1, free))
    with Emulator(project()) as emulator:
        found = run_doctor(emulator.settings | YEAR)
    assert list(found.problems) == ["disk"]
    assert "TMPDIR" in found.problems["disk"]
    assert f"{says} reserved" in found.problems["disk"]


def test_a_very_large_day_is_read_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A very large day is read in part, and the forecast is a minimum."""
    monkeypatch.setattr(examination, "LARGE", 300_000)
    with Emulator(project(events_per_day=3000)) as emulator:
        found = run_doctor(emulator.settings | YEAR)
    assert found.code == 0
    assert "at least about" in found.lines("ok")["run"]
    assert "more than" in found.lines("ok")["disk"]


def test_today_is_not_sampled() -> None:
    """Today is not sampled, because it is not over."""
    clock = FakeClock(NOW)
    with Emulator(project(), now=clock.now) as emulator:
        found = run_doctor(emulator.settings | {"start_date": "2024-01-01"}, clock=clock)
        days = [
            seen.query["to_date"] for seen in emulator.requests if seen.kind == "export" and "limit" not in seen.query
        ]
    assert found.lines("ok")["run"].startswith("2024-01-01 to 2024-01-16: about 1,600 events")
    assert max(days) == "2024-01-15"


def test_with_a_state_the_next_run_is_forecast() -> None:
    """With a state the forecast is that of the next run."""
    state = {
        "bookmarks": {"events": {"replication_key": "event_time", "replication_key_value": "2022-12-29T00:00:00+00:00"}}
    }
    with Emulator(project()) as emulator:
        found = run_doctor(emulator.settings | YEAR, state=state)
        days = {seen.query["from_date"] for seen in emulator.requests if seen.kind == "export"}
    assert found.lines("ok")["run"].startswith("2022-12-24 to 2022-12-31: about 800 events")
    assert min(days) == "2022-12-24"


# --- Batch files ------------------------------------------------------------------------------------------------------


def test_the_bucket_of_batch_files_is_checked(tmp_path: Path) -> None:
    """A bucket that stops every run is a problem, and the other checks run."""
    params = {"key": "k", "secret": "s3cret", "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}}
    storages: dict[str, dict[str, Any]] = {
        "s3": {"root": "s3://lake/mixpanel", "params": params},
        "local": {"root": f"file://{tmp_path}/new"},
    }
    found = {}
    for name, storage in storages.items():
        batches = {"encoding": {"format": "jsonl", "compression": "gzip"}, "storage": storage}
        with Emulator(project()) as emulator:
            config = emulator.settings | YEAR | {"batch_config": batches}
            found[name] = run_doctor(config, catalog=catalog_of("profiles"))
        assert found[name].lines("ok")["profiles"] == "30 in the project"
    assert found["s3"].code == 1
    assert found["s3"].problems["batch_config"].startswith("s3://lake/mixpanel cannot be written (Could not connect")
    assert "s3cret" not in found["s3"].text
    assert found["local"].code == 0
    assert found["local"].lines("ok")["batch_config"] == storages["local"]["root"]
    assert not (tmp_path / "new").exists(), "the doctor creates nothing"


# --- The command ------------------------------------------------------------------------------------------------------


def settings_of(emulator: Emulator, **more: object) -> Mapping[str, Any]:
    return emulator.settings | YEAR | more


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_the_command_writes_only_the_report(level: str) -> None:
    """stdout has only the report, and stderr is empty."""
    with Emulator(project()) as emulator:
        run = run_tap(settings_of(emulator), "--doctor", environment={"LOGLEVEL": level})
    assert run.exit_code == 0
    assert run.stdout.decode().splitlines()[0].startswith("ok       settings")
    assert b"RECORD" not in run.stdout
    if level == "INFO":
        assert run.stderr == []


def test_the_command_fails_with_a_problem() -> None:
    """A problem gives exit code 1 without an error line."""
    with Emulator(project(), faults=[Fault("engage", None, "status:402")]) as emulator:
        run = run_tap(settings_of(emulator), "--doctor")
    assert run.exit_code == 1
    assert run.errors == []


def test_setting_warnings_are_only_in_the_report() -> None:
    """Warnings about settings are in the report, not on stderr."""
    with Emulator(project()) as emulator:
        run = run_tap(settings_of(emulator, lookback_days=0), "--doctor")
    assert b"warning  settings      lookback_days is 0" in run.stdout
    assert run.stderr == []


def test_the_doctor_rejects_invalid_settings() -> None:
    """Invalid settings are rejected as in a run."""
    run = run_tap({"start_date": "2022-01-01"}, "--doctor")
    assert run.exit_code == 1
    assert run.stdout == b""
    [error] = run.errors
    assert "no credentials" in error


def test_the_doctor_uses_catalog_and_state() -> None:
    """The doctor uses --catalog and --state."""
    state = {"bookmarks": {"events": {"replication_key_value": "2022-12-29T00:00:00+00:00"}}}
    with Emulator(project()) as emulator:
        run = run_tap(settings_of(emulator), "--doctor", catalog=catalog_of("events"), state=state)
    assert b"2022-12-24 to 2022-12-31" in run.stdout
    assert b"profiles" not in run.stdout


def test_the_doctor_uses_the_environment() -> None:
    """The doctor uses settings from environment variables."""
    with Emulator(project()) as emulator:
        environment = {f"TAP_MIXPANEL_STREAM_{name.upper()}": value for name, value in settings_of(emulator).items()}
        run = run_tap({}, "--config=ENV", "--doctor", environment=environment)
    assert run.exit_code == 0
    assert b"2022-01-01 to 2022-12-31" in run.stdout


def test_help_lists_the_doctor() -> None:
    """`--help` lists `--doctor`."""
    assert b"--doctor" in run_tap({}, "--help").stdout


WAYS: list[dict[str, str]] = [
    {"service_account_username": OURS.username, "service_account_secret": "s3cret-of-service", "project_id": "1"},
    {"oauth_token": "s3cret-of-token", "project_id": "1"},
    {"api_secret": "s3cret-of-project"},
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", [None, "status:500", "redirect", "status:404"])
def test_the_doctor_shows_no_secret(way: dict[str, str], fault: str | None) -> None:
    """Report and debug log contain no secret, whatever the credentials and the fault."""
    faults = [Fault("export", None, fault, value="http://127.0.0.1:9/")] if fault else []
    with Emulator(project(), faults=faults) as emulator:
        urls = {name: emulator.settings[name] for name in ("data_api_url", "api_url")}
        run = run_tap(urls | way | YEAR, "--doctor", environment={"LOGLEVEL": "DEBUG"})
    assert run.exit_code == 1
    output = run.stdout.decode() + "\n".join(run.stderr)
    assert "s3cret" not in output
    assert base64.b64encode(b"s3cret-of-project:").decode() not in output


def test_a_run_does_not_load_the_doctor() -> None:
    """The tap does not import the doctor."""
    code = "import sys, tap_mixpanel_stream.tap; sys.exit('tap_mixpanel_stream.doctor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_signal_ends_the_doctor(tmp_path: Path) -> None:
    """SIGTERM ends the doctor with exit code 143 and a complete line."""
    with Emulator(project(), faults=[Fault("export", 3, "silence", value=60)]) as emulator:
        process = subprocess.Popen(
            command(tmp_path, settings_of(emulator), "--doctor"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        while len(emulator.requests) < 3 and process.poll() is None:
            time.sleep(0.02)
        process.terminate()
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 143
    assert out.endswith(b"\n")
