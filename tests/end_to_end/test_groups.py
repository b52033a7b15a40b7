"""Group profiles, read from the emulator by the installed command."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject
from tests.harness import Run, run_tap

GROUP = "-1234567890123456789"
USERS: list[dict[str, Any]] = [{"$distinct_id": "u1", "$properties": {"plan": "free"}}]
COMPANIES: list[dict[str, Any]] = [
    {"$distinct_id": "acme", "$properties": {"$last_seen": "2024-01-02T03:04:05", "seats": 3}},
    {"$distinct_id": 42, "$properties": {"seats": 7}},
]
PROJECT = FixedProject(profiles=USERS, group_profiles={GROUP: COMPANIES, "7": []})
SETTINGS = {
    "group_profiles": [{"name": "companies", "data_group_id": GROUP}, {"name": "teams", "data_group_id": "7"}],
    "start_date": "2024-01-01",
    "end_date": "2024-01-01",
}


def delivered(**extra: Any) -> tuple[Run, list[dict[str, str]]]:
    with Emulator(PROJECT) as emulator:
        run = run_tap({**emulator.settings, **SETTINGS, **extra})
        return run.well(), [seen.form for seen in emulator.requests if seen.kind == "engage"]


def test_each_group_is_a_selected_stream() -> None:
    """Each group is a separate stream, selected by default, with its exact data_group_id."""
    run, forms = delivered()
    assert run.records("companies") == [
        {"distinct_id": "acme", "last_seen": "2024-01-02T03:04:05", "properties": {"seats": 3}},
        {"distinct_id": "42", "last_seen": None, "properties": {"seats": 7}},
    ]
    assert run.records("teams") == []
    assert [record["distinct_id"] for record in run.records("profiles")] == ["u1"]
    assert run.schemas()["companies"]["key_properties"] == ["distinct_id"]
    # All digits are kept: as a double it would end in 6800.
    assert [form.get("data_group_id") for form in forms] == [None, GROUP, "7"]


def test_a_raw_group_profile_is_unchanged() -> None:
    """A raw group profile is the result unchanged."""
    run, _ = delivered(raw=True)
    assert run.records("companies") == COMPANIES
    assert run.schemas()["companies"]["key_properties"] == ["$distinct_id"]


@pytest.mark.parametrize(
    "narrowed",
    [
        {"profiles_where": 'properties["plan"] == "free"'},
        {"profile_properties": ["plan"]},
        {"distinct_ids": ["u1"]},
        {"cohort_id": 5, "include_all_users": True},
        {"as_of_timestamp": 1},
        {"behaviors": [{"window": "1d", "name": "b", "event_selectors": []}], "profiles_where": 'behaviors["b"] > 0'},
    ],
)
def test_profile_filters_do_not_filter_groups(narrowed: dict[str, Any]) -> None:
    """Profile filters do not apply to group profiles."""
    project = FixedProject(
        profiles=USERS, group_profiles={GROUP: COMPANIES}, cohorts=[{"id": 5, "name": "", "members": ["u1"]}]
    )
    with Emulator(project) as emulator:
        run = run_tap({**emulator.settings, **SETTINGS, **narrowed}).well()
        [of_companies] = [seen.form for seen in emulator.requests if seen.form.get("data_group_id") == GROUP]
    assert len(run.records("companies")) == 2
    assert set(of_companies) == {"page_size", "data_group_id"}


def test_discovery_lists_groups_without_requests() -> None:
    """Discovery lists the groups without any request."""
    with Emulator(PROJECT) as emulator:
        catalog = json.loads(run_tap(emulator.settings | SETTINGS, "--discover").well().stdout)
        assert emulator.requests == []
    streams = {stream["tap_stream_id"]: stream for stream in catalog["streams"]}
    assert streams["companies"]["schema"] == streams["profiles"]["schema"]


@pytest.mark.parametrize("options", [[], ["--discover"]])
@pytest.mark.parametrize(
    ("groups", "says"),
    [
        ([("events", "1")], "the stream name events is in use"),
        ([("Profiles", "1")], "the stream name Profiles is in use"),
        ([("cohort_members", "1")], "the stream name cohort_members is in use"),
        ([("companies", "1"), ("companies", "2")], "the stream name companies is in use"),
        ([("a.b", "1")], "'a.b' cannot be a stream's name"),
        ([("", "1")], "'' cannot be a stream's name"),
        ([("companies", "12e3")], "data_group_id '12e3' of companies"),
        ([("companies", "")], "data_group_id '' of companies"),
    ],
)
def test_an_invalid_group_name_or_id_is_rejected(groups: list[tuple[str, str]], says: str, options: list[str]) -> None:
    """A name in use, an invalid name or an invalid id is rejected before any request."""
    settings = {"group_profiles": [{"name": name, "data_group_id": number} for name, number in groups]}
    with Emulator(PROJECT) as emulator:
        run = run_tap({**emulator.settings, **SETTINGS, **settings}, *options)
        assert emulator.requests == []
    assert run.exit_code == 1
    assert run.stdout == b""
    assert len(run.errors) == 1
    assert says in run.errors[0]


@pytest.mark.parametrize("options", [[], ["--discover"]])
@pytest.mark.parametrize("group", [{"name": "companies"}, {"name": "companies", "data_group_id": -5}, "companies"])
def test_a_malformed_group_setting_is_rejected(group: object, options: list[str]) -> None:
    """A group without a valid id, or that is not an object, is rejected."""
    with Emulator(PROJECT) as emulator:
        run = run_tap({**emulator.settings, "group_profiles": [group]}, *options)
    assert run.exit_code == 1
    assert len(run.errors) == 1
    assert "group_profiles" in run.errors[0]


def test_a_catalog_with_a_removed_group_is_rejected() -> None:
    """A catalog that selects a removed group is rejected before any request."""
    with Emulator(PROJECT) as emulator:
        catalog = json.loads(run_tap(emulator.settings | SETTINGS, "--discover").well().stdout)
        run = run_tap(emulator.settings | SETTINGS | {"group_profiles": []}, catalog=catalog)
        assert run.exit_code == 1
        assert "the catalog selects the unknown stream companies" in run.errors[0]
        assert emulator.requests == []
