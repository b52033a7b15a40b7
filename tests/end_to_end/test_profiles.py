"""Profiles, from the emulator through the installed command."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject, SyntheticProject
from tests.pipeline import Run, catalog_of, run_tap

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
    return [record["distinct_id"] for record in run.well().records("profiles")]


def test_a_normalized_profile_has_its_last_seen_apart(only_profiles: dict[str, Any]) -> None:
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


def test_a_raw_profile_is_as_it_came() -> None:
    run, _ = delivered({"raw": True}, catalog_of("profiles", raw=True))
    assert run.well().records("profiles") == PROFILES


@pytest.mark.parametrize("raw", [False, True])
def test_both_ways_give_the_same_profiles(raw: bool) -> None:
    column = "$properties" if raw else "properties"
    catalog = catalog_of("profiles", raw=raw)
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 1), profiles=230)
    with Emulator(project, largest_page=50) as emulator:
        in_blocks = run_tap(emulator.settings | {"raw": raw}, catalog=catalog).well()
        mapped = {"stream_maps": {"profiles": {column: f"record['{column}']"}}, "raw": raw}
        one_by_one = run_tap(emulator.settings | mapped, catalog=catalog).well()
    assert len(in_blocks.records("profiles")) == 230
    assert in_blocks.records("profiles") == one_by_one.records("profiles")
    assert in_blocks.states == one_by_one.states


def test_all_pages_of_a_session_come_once(only_profiles: dict[str, Any]) -> None:
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 1), profiles=1234)
    with Emulator(project, largest_page=100) as emulator:
        run = run_tap(emulator.settings | {"profiles_page_size": 5000}, catalog=only_profiles).well()
        forms = [seen.form for seen in emulator.requests]
    expected = {str(profile["$distinct_id"]) for profile in project.profiles(None, now=dt.datetime.now(dt.UTC))}
    assert len(ids(run)) == 1234
    assert set(ids(run)) == expected
    assert [form["page"] for form in forms] == [str(number) for number in range(13)]


def test_an_expired_session_starts_again_and_says_so(only_profiles: dict[str, Any]) -> None:
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 1), profiles=500)
    with Emulator(project, faults=[Fault("engage", 3, "session-expired")], largest_page=100) as emulator:
        run = run_tap(emulator.settings, catalog=only_profiles).well()
    assert len(set(ids(run))) == 500
    assert len(ids(run)) == 700
    assert any("starting again from page 0" in line for line in run.problems)


def test_no_profile_is_lost_to_a_short_page(only_profiles: dict[str, Any]) -> None:
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 1), profiles=500)
    with Emulator(project, faults=[Fault("engage", 2, "short-page")], largest_page=100) as emulator:
        run = run_tap(emulator.settings, catalog=only_profiles).well()
    assert len(ids(run)) == len(set(ids(run))) == 500


def test_a_page_that_stays_short_ends_the_run(only_profiles: dict[str, Any]) -> None:
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 1), profiles=500)
    with Emulator(project, faults=[Fault("engage", range(2, 99), "short-page")], largest_page=100) as emulator:
        run = run_tap(emulator.settings | {"max_retries": 1}, catalog=only_profiles)
    assert run.exit_code == 1
    assert len(run.errors) == 1
    assert "profiles page 1" in run.errors[0]
    assert "of 500 profiles" in run.errors[0]


@pytest.mark.parametrize(
    ("narrowed", "expected"),
    [
        ({"profiles_where": 'properties["plan"] == "paid"'}, ["2", "u3"]),
        ({"distinct_ids": ["u1", "u3"]}, ["u1", "u3"]),
        ({"cohort_id": 1000}, ["u3"]),
        ({"cohort_id": 1000, "include_all_users": True}, ["u3", "ghost"]),
    ],
)
def test_profiles_are_narrowed_by_mixpanel(
    narrowed: dict[str, Any], expected: list[str], only_profiles: dict[str, Any]
) -> None:
    run, _ = delivered(narrowed, only_profiles)
    assert ids(run) == expected


def test_profile_properties_narrow_the_properties_but_not_the_columns(only_profiles: dict[str, Any]) -> None:
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


def test_behaviors_a_point_in_time_and_a_data_view_reach_mixpanel(only_profiles: dict[str, Any]) -> None:
    behaviors = [{"window": "30d", "name": "bought", "event_selectors": [{"event": "Purchase"}]}]
    with Emulator(FixedProject(profiles=PROFILES)) as emulator:
        extra = {"behaviors": behaviors, "as_of_timestamp": 1704067200, "workspace_id": "77"}
        run_tap(emulator.settings | extra, catalog=only_profiles).well()
        seen = emulator.requests[0]
    assert json.loads(seen.form["behaviors"]) == behaviors
    assert seen.form["as_of_timestamp"] == "1704067200"
    assert seen.query["workspace_id"] == "77"


def test_a_full_table_of_profiles_has_no_bookmark(only_profiles: dict[str, Any]) -> None:
    run, _ = delivered({}, only_profiles)
    assert run.states[-1] == {"bookmarks": {"profiles": {}}}
