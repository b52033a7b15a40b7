"""Profiles, read from the emulator by the installed command."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject, Paging, SyntheticProject
from tests.harness import Run, catalog_of, run_tap
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import run_here

if TYPE_CHECKING:
    from pathlib import Path

PROFILES: list[dict[str, Any]] = [
    {
        "$distinct_id": "u1",
        "$properties": {"$email": "a@example.com", "$last_seen": "2024-01-02T03:04:05", "plan": "free"},
    },
    {"$distinct_id": 2, "$properties": {"$city": "Zürich", "nested": {"$last_seen": "no"}, "plan": "paid"}},
    {"$distinct_id": "u3", "$properties": {"$last_seen": "2024-03-01T00:00:00", "plan": "paid"}},
]
COHORTS: list[dict[str, Any]] = [{"id": 1000, "name": "Payers", "members": ["u3", "ghost"]}]


def delivered(extra: dict[str, Any], catalog: dict[str, Any]) -> tuple[Run, list[dict[str, str]]]:
    with Emulator(FixedProject(profiles=PROFILES, cohorts=COHORTS)) as emulator:
        run = run_tap(emulator.settings | extra, catalog=catalog)
        return run, [seen.form for seen in emulator.requests]


def ids(run: Run) -> list[str]:
    return ids_of(run.well())


def ids_of(run: Run) -> list[str]:
    return [record["distinct_id"] for record in run.records("profiles")]


def test_a_normalized_profile_has_last_seen_as_a_column(only_profiles: dict[str, Any]) -> None:
    """`$last_seen` is a column, and all other properties are under `properties`."""
    run, _ = delivered({}, only_profiles)
    assert run.well().records("profiles") == [
        {
            "distinct_id": "u1",
            "last_seen": "2024-01-02T03:04:05",
            "properties": {"$email": "a@example.com", "plan": "free"},
        },
        {"distinct_id": "2", "last_seen": None, "properties": PROFILES[1]["$properties"]},
        {"distinct_id": "u3", "last_seen": "2024-03-01T00:00:00", "properties": {"plan": "paid"}},
    ]


def test_a_raw_profile_is_unchanged() -> None:
    """A raw profile is the result unchanged."""
    run, _ = delivered({"raw": True}, catalog_of("profiles", raw=True))
    assert run.well().records("profiles") == PROFILES


@pytest.mark.parametrize("raw", [False, True])
def test_stream_maps_keep_profiles(raw: bool) -> None:
    """With and without a stream map, profiles and states are the same."""
    column = "$properties" if raw else "properties"
    catalog = catalog_of("profiles", raw=raw)
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 1), profiles=230)
    with Emulator(project, max_page_size=50) as emulator:
        in_blocks = run_tap(emulator.settings | {"raw": raw}, catalog=catalog).well()
        mapped = {"stream_maps": {"profiles": {column: f"record['{column}']"}}, "raw": raw}
        one_by_one = run_tap(emulator.settings | mapped, catalog=catalog).well()
    assert len(in_blocks.records("profiles")) == 230
    assert in_blocks.records("profiles") == one_by_one.records("profiles")
    assert in_blocks.states == one_by_one.states


def test_all_pages_of_a_session_are_read_once(only_profiles: dict[str, Any]) -> None:
    """All pages are read once, also if Mixpanel lowers the page size."""
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 1), profiles=1234)
    with Emulator(project, max_page_size=100) as emulator:
        run = run_tap(emulator.settings | {"profiles_page_size": 5000}, catalog=only_profiles).well()
        forms = [seen.form for seen in emulator.requests]
    expected = {str(profile["$distinct_id"]) for profile in project.profiles(None, now=dt.datetime.now(dt.UTC))}
    assert len(ids(run)) == 1234
    assert set(ids(run)) == expected
    assert [form.get("page") for form in forms] == [None, *(str(number) for number in range(1, 13))]


def run_with(
    only_profiles: dict[str, Any],
    *faults: Fault,
    count: int = 500,
    paging: Paging | None = None,
    extra: dict[str, Any] | None = None,
) -> Run:
    """Read profiles in pages of 100."""
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 1), profiles=count)
    with Emulator(project, faults=faults, max_page_size=100, paging=paging) as emulator:
        return run_tap(emulator.settings | {"max_retries": 1} | (extra or {}), catalog=only_profiles)


@pytest.mark.parametrize(("fault", "says"), [("session-expired", "has expired"), ("short-page", "ended the session")])
def test_a_restarted_session_repeats_no_profile(only_profiles: dict[str, Any], fault: str, says: str) -> None:
    """Pages that are the same after a restart are not delivered again."""
    run = run_with(only_profiles, Fault("engage", 3, fault)).well()
    assert len(ids(run)) == len(set(ids(run))) == 500
    assert any(says in line and "restarting from page 0" in line for line in run.problems)


def test_a_session_that_stays_short_fails_the_run(only_profiles: dict[str, Any]) -> None:
    """Profiles are missing, so the run fails and the short page is not delivered."""
    run = run_with(only_profiles, paging=Paging(total_excess=30))
    assert run.exit_code == 1
    assert len(run.errors) == 1
    assert "profiles page 5: Mixpanel ended the session after 500 of 530 profiles, in 2 sessions" in run.errors[0]


def test_one_of_nine_profiles_fails(only_profiles: dict[str, Any]) -> None:
    """The tolerance for a total is relative, so a small project does not lose most profiles."""
    run = run_with(only_profiles, Fault("engage", None, "short-page", 0.2), count=9)
    assert run.exit_code == 1
    assert "after 1 of 9 profiles, in 2 sessions" in run.errors[0]
    assert ids_of(run) == []


def test_a_total_slightly_off_is_a_warning(only_profiles: dict[str, Any]) -> None:
    """25 of 27 profiles arrive twice: they are delivered once, with a warning that has both numbers."""
    run = run_with(only_profiles, count=25, paging=Paging(total_excess=2)).well()
    assert len(ids(run)) == len(set(ids(run))) == 25
    assert any("after 25 of 27 profiles, twice" in line for line in run.problems)


@pytest.mark.parametrize(
    "paging",
    [
        Paging(fields="first"),
        Paging(fields="none"),
        Paging(rotate_session_ids=True),
        Paging(beyond_end="error"),
        Paging(fields="first", beyond_end="error"),
    ],
)
@pytest.mark.parametrize("count", [200, 203])
def test_all_profiles_are_read_with_any_paging(only_profiles: dict[str, Any], paging: Paging, count: int) -> None:
    """Pages may omit size, total and session, and the end may be a 400."""
    run = run_with(only_profiles, count=count, paging=paging).well()
    assert len(ids(run)) == len(set(ids(run))) == count
    assert run.problems == []


def test_an_endless_session_fails_the_run(only_profiles: dict[str, Any]) -> None:
    """A session that repeats its first page beyond the total fails the run."""
    run = run_with(only_profiles, count=200, paging=Paging(beyond_end="first"))
    assert run.exit_code == 1
    assert "profiles page 2: the session continues after 300 of 200 profiles" in run.errors[0]


@pytest.mark.parametrize(
    ("narrowed", "expected"),
    [
        ({"profiles_where": 'properties["plan"] == "paid"'}, ["2", "u3"]),
        ({"distinct_ids": ["u1", "u3"]}, ["u1", "u3"]),
        ({"cohort_id": 1000}, ["u3"]),
        ({"cohort_id": 1000, "include_all_users": True}, ["u3", "ghost"]),
    ],
)
def test_profile_filters_are_applied(
    narrowed: dict[str, Any], expected: list[str], only_profiles: dict[str, Any]
) -> None:
    """`profiles_where`, `distinct_ids` and `cohort_id` filter the profiles."""
    run, _ = delivered(narrowed, only_profiles)
    assert ids(run) == expected


def test_profile_properties_keep_the_columns(only_profiles: dict[str, Any]) -> None:
    """`profile_properties` limits the properties; `$last_seen` is still requested for its column."""
    run, forms = delivered({"profile_properties": ["plan"]}, only_profiles)
    assert set(json.loads(forms[0]["output_properties"])) == {"plan", "$last_seen"}
    assert run.well().records("profiles")[0] == {
        "distinct_id": "u1",
        "last_seen": "2024-01-02T03:04:05",
        "properties": {"plan": "free"},
    }
    raw, forms = delivered({"profile_properties": ["plan"], "raw": True}, catalog_of("profiles", raw=True))
    assert json.loads(forms[0]["output_properties"]) == ["plan"]
    assert raw.well().records("profiles")[0] == {"$distinct_id": "u1", "$properties": {"plan": "free"}}


NOW = dt.datetime(2024, 3, 10, 12, tzinfo=dt.UTC)
BEHAVIORS = [{"window": "30d", "name": "bought", "event_selectors": [{"event": "Purchase"}]}]


def purchases(distinct_id: str, *days: dt.date) -> dict[dt.date, list[bytes]]:
    line = json.dumps({"event": "Purchase", "properties": {"time": 0, "distinct_id": distinct_id}}).encode()
    return {day: [line] for day in days}


def by_behavior(only_profiles: dict[str, Any], extra: dict[str, Any]) -> list[str]:
    days = (dt.date(2024, 2, 1), dt.date(2024, 3, 1), dt.date(2024, 3, 5))
    project = FixedProject(purchases("u1", *days) | purchases("2", dt.date(2024, 3, 2)), PROFILES)
    with Emulator(project, now=lambda: NOW) as emulator:
        result = run_here(emulator.settings | {"behaviors": BEHAVIORS} | extra, FakeClock(NOW), catalog=only_profiles)
    assert result.error is None
    messages = map(json.loads, result.stdout.splitlines())
    return [message["record"]["distinct_id"] for message in messages if message["type"] == "RECORD"]


def test_behaviors_filter_profiles_by_events(only_profiles: dict[str, Any]) -> None:
    """`behaviors` filter profiles by their number of events."""
    assert by_behavior(only_profiles, {"profiles_where": 'behaviors["bought"] >= 2'}) == ["u1"]
    assert by_behavior(only_profiles, {"profiles_where": 'behaviors["bought"] == 1'}) == ["2"]
    assert by_behavior(only_profiles, {"profiles_where": 'behaviors["bought"] == 0'}) == ["u3"]


def test_behaviors_are_counted_as_of_the_timestamp(only_profiles: dict[str, Any]) -> None:
    """With `as_of_timestamp` behaviors are counted up to that time."""
    early = int(dt.datetime(2024, 2, 20, tzinfo=dt.UTC).timestamp())
    extra = {"profiles_where": 'behaviors["bought"] == 1', "as_of_timestamp": early}
    assert by_behavior(only_profiles, extra) == ["u1"]


@pytest.mark.parametrize("extra", [{}, {"as_of_timestamp": 1709251200}])
def test_behaviors_work_over_several_pages(extra: dict[str, Any], only_profiles: dict[str, Any]) -> None:
    """Profiles filtered by `behaviors` are read to the last page."""
    project = SyntheticProject(first_day=dt.date(2024, 2, 1), events_per_day=1, profiles=1100)
    with Emulator(project, max_page_size=500) as emulator:
        extra = extra | {"behaviors": BEHAVIORS, "profiles_where": 'behaviors["bought"] >= 0'}
        run = run_tap(emulator.settings | extra, catalog=only_profiles)
    assert len(set(ids(run))) == 1100
    assert run.problems == []


def test_as_of_timestamp_reads_earlier_profiles() -> None:
    """`as_of_timestamp` reads the profiles as they were at that time."""
    moment = dt.datetime(2023, 10, 1, tzinfo=dt.UTC)
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), profiles=100)
    with Emulator(project) as emulator:
        settings = emulator.settings | {"as_of_timestamp": int(moment.timestamp()), "raw": True}
        run = run_tap(settings, catalog=catalog_of("profiles", raw=True)).well()
    then = [
        dict(profile)
        for profile in project.profiles(None, now=moment)
        if profile["$properties"]["$created"] <= "2023-10-01T00:00:00"  # type: ignore[index]
    ]
    assert 0 < len(then) < 100
    assert run.records("profiles") == then
    assert then[0] != project.profiles(None, now=dt.datetime.now(dt.UTC))[0]


def test_a_data_view_limits_profiles(only_profiles: dict[str, Any]) -> None:
    """`workspace_id` limits the profiles to a data view; an unknown one fails."""
    with Emulator(FixedProject(profiles=PROFILES), data_views={"77": 'properties["plan"] == "paid"'}) as emulator:
        assert ids(run_tap(emulator.settings | {"workspace_id": "77"}, catalog=only_profiles)) == ["2", "u3"]
        rejected = run_tap(emulator.settings | {"workspace_id": "78"}, catalog=only_profiles)
    assert rejected.exit_code == 1
    assert "workspace_id" in rejected.errors[0]


def test_profile_filters_are_combined(only_profiles: dict[str, Any]) -> None:
    """All profile filters apply together."""
    cohorts = [{"id": 1000, "name": "", "members": ["u1", "2", "ghost"]}]
    narrowed = {
        "cohort_id": 1000,
        "distinct_ids": ["2", "u3"],
        "profiles_where": 'properties["plan"] == "paid"',
        "profile_properties": ["plan"],
        "workspace_id": "77",
    }
    with Emulator(FixedProject(profiles=PROFILES, cohorts=cohorts), data_views={"77": "true"}) as emulator:
        run = run_tap(emulator.settings | narrowed, catalog=only_profiles).well()
    assert run.records("profiles") == [{"distinct_id": "2", "last_seen": None, "properties": {"plan": "paid"}}]


def test_full_table_profiles_have_no_bookmark(only_profiles: dict[str, Any]) -> None:
    """The state of full-table profiles is empty."""
    run, _ = delivered({}, only_profiles)
    assert run.states[-1] == {"bookmarks": {"profiles": {}}}


NO_ID: dict[str, Any] = {"$properties": {"plan": "lost"}}


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("mapped", [False, True])
def test_profiles_without_an_id_can_be_skipped(tmp_path: Path, raw: bool, mapped: bool) -> None:
    """`bad_lines: skip` writes them to bad_lines_path, counts them and delivers the others."""
    path, key = tmp_path / "bad", "$distinct_id" if raw else "distinct_id"
    extra: dict[str, Any] = {"bad_lines": "skip", "bad_lines_path": str(path), "raw": raw}
    if mapped:
        extra["stream_maps"] = {"profiles": {key: f"record['{key}']"}}
    with Emulator(FixedProject(profiles=[PROFILES[0], NO_ID, PROFILES[2]])) as emulator:
        run = run_tap(emulator.settings | extra, catalog=catalog_of("profiles", raw=raw)).well()
    assert [record[key] for record in run.records("profiles")] == ["u1", "u3"]
    assert [json.loads(line) for line in path.read_text().splitlines()] == [NO_ID]
    assert any(f"1 malformed lines written to {path}" in line for line in run.problems)
    assert any("2 records in 1 page" in line and "1 malformed line" in line for line in run.stderr)


def test_group_profiles_without_an_id_can_be_skipped(tmp_path: Path) -> None:
    """`bad_lines: skip` also applies to group profiles."""
    path = tmp_path / "bad"
    extra = {
        "group_profiles": [{"name": "companies", "data_group_id": "7"}],
        "bad_lines": "skip",
        "bad_lines_path": str(path),
        "start_date": "2024-01-01",
        "end_date": "2024-01-01",
    }
    with Emulator(FixedProject(group_profiles={"7": [NO_ID, PROFILES[0]]})) as emulator:
        run = run_tap(emulator.settings | extra).well()
    assert len(run.records("companies")) == 1
    assert [json.loads(line) for line in path.read_text().splitlines()] == [NO_ID]


def test_a_profile_without_an_id_fails_the_run(only_profiles: dict[str, Any]) -> None:
    """By default it fails the run; the error has the index and the settings to skip it."""
    with Emulator(FixedProject(profiles=[PROFILES[0], NO_ID])) as emulator:
        run = run_tap(emulator.settings, catalog=only_profiles)
    assert run.exit_code == 1
    assert run.records("profiles") == []
    assert "profiles page 0: malformed profile at index 1: `$distinct_id` is missing" in run.errors[0]
    assert run.errors[0].endswith("; to skip such profiles, set bad_lines and bad_lines_path")
