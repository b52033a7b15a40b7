"""Cohorts and their members, read from the emulator by the installed command."""

from __future__ import annotations

import datetime as dt
import json
from functools import cache
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject, Quota, SyntheticProject
from tests.harness import Run, catalog_of, run_tap
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import Result, run_here

PEOPLE: list[dict[str, Any]] = [
    {"$distinct_id": "seen", "$properties": {"$last_seen": "2024-01-02T03:04:05", "plan": "free"}},
    {"$distinct_id": "unseen", "$properties": {"plan": "free"}},
    {"$distinct_id": 7, "$properties": {}},
]
GROUPS: dict[str, list[dict[str, Any]]] = {"-77": [{"$distinct_id": "company", "$properties": {}}]}
COHORTS: list[dict[str, Any]] = [
    {
        "id": 1000,
        "name": "Größte",
        "count": 4,
        "is_visible": 1,
        "description": "",
        "created": "2019-03-19 23:49:51",
        "data_group_id": None,
        "members": ["seen", "unseen", 7, "no profile"],
    },
    {"id": 2000, "name": "Companies", "data_group_id": -77, "is_new": True, "members": ["company"]},
    {"id": 3000, "name": "Nobody", "count": "none", "members": []},
]


@cache
def only(*streams: str, raw: bool = False) -> dict[str, Any]:
    return catalog_of(*streams, raw=raw)


def delivered(catalog: dict[str, Any], **extra: Any) -> tuple[Run, list[dict[str, str]]]:
    with Emulator(FixedProject(profiles=PEOPLE, group_profiles=GROUPS, cohorts=COHORTS)) as emulator:
        run = run_tap(emulator.settings | extra, catalog=catalog)
        return run.well(), [seen.form for seen in emulator.requests if seen.kind == "engage"]


def test_cohort_columns() -> None:
    """A cohort has a column for each documented field, and `other` for the rest."""
    run, _ = delivered(only("cohorts"))
    empty = dict.fromkeys(("description", "count", "is_visible", "created", "data_group_id"))
    assert run.records("cohorts") == [
        {name: value for name, value in COHORTS[0].items() if name != "members"} | {"project_id": 2526451, "other": {}},
        {"id": 2000, "name": "Companies", "project_id": 2526451}
        | empty
        | {"data_group_id": "-77", "other": {"is_new": True}},
        # `count` is not a number, so it is kept under `other`.
        {"id": 3000, "name": "Nobody", "project_id": 2526451} | empty | {"other": {"count": "none"}},
    ]


def test_members_without_a_profile_are_read() -> None:
    """Members without a profile or `$last_seen` are read, for users and groups."""
    run, forms = delivered(only("cohort_members"))
    found = [(record["cohort_id"], record["distinct_id"]) for record in run.records("cohort_members")]
    assert found == [(1000, "seen"), (1000, "unseen"), (1000, "7"), (1000, "no profile"), (2000, "company")]
    assert [record["data_group_id"] for record in run.records("cohort_members")] == [None] * 4 + ["-77"]
    assert [form.get("data_group_id") for form in forms] == [None, "-77", None]


def test_profile_filters_do_not_filter_members() -> None:
    """Profile filters do not apply to cohort members."""
    narrowed = {"profiles_where": 'properties["plan"] == "free"', "distinct_ids": ["seen"], "profile_properties": ["x"]}
    run, _ = delivered(only("cohort_members"), **narrowed)
    assert len(run.records("cohort_members")) == 5


@pytest.mark.parametrize("stream", ["cohorts", "cohort_members"])
def test_raw_does_not_change_cohorts(stream: str) -> None:
    """Records and schemas of cohorts are the same with `raw`."""
    normalized, _ = delivered(only(stream))
    raw, _ = delivered(only(stream, raw=True), raw=True)
    assert raw.records(stream) == normalized.records(stream)
    assert raw.schemas() == normalized.schemas()


def test_stream_maps_keep_cohorts() -> None:
    """With and without a stream map, cohorts and states are the same."""
    in_blocks, _ = delivered(only("cohorts"))
    one_by_one, _ = delivered(only("cohorts"), stream_maps={"cohorts": {"name": "record['name']"}})
    assert one_by_one.records("cohorts") == in_blocks.records("cohorts")
    assert one_by_one.states == in_blocks.states


def test_all_pages_of_all_cohorts_are_read() -> None:
    """All pages of all cohorts are read."""
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 1), profiles=300)
    with Emulator(project, max_page_size=20) as emulator:
        run = run_tap(emulator.settings, catalog=only("cohort_members")).well()
    found = {(record["cohort_id"], record["distinct_id"]) for record in run.records("cohort_members")}
    assert found == {
        (cohort, str(member)) for cohort in (1000, 1001) for member in project.cohort_members(cohort) or ()
    }


def test_a_hundred_cohorts_get_no_429() -> None:
    """A hundred cohorts wait for the hourly quota and get no 429."""
    cohorts = [{"id": number, "name": "", "members": [f"u{number}"]} for number in range(100)]
    clock = FakeClock()
    with Emulator(FixedProject(cohorts=cohorts), quota=Quota(clock=clock.monotonic), now=clock.now) as emulator:
        result = run_here(emulator.settings, clock, catalog=only("cohort_members"))
        answers = [seen.status for seen in emulator.requests]
    assert result.error is None
    assert result.stdout.count(b'"RECORD"') == 100
    assert answers == [200] * 101
    assert result.waited > 3000


def test_an_empty_cohort_needs_no_request() -> None:
    """A cohort with `count` 0 is not requested; one without a count is."""
    counts: list[dict[str, Any]] = [{"count": 0}, {"count": 1}, {}]
    cohorts = [{"id": number, "name": "", "members": [], **count} for number, count in enumerate(counts)]
    with Emulator(FixedProject(cohorts=cohorts)) as emulator:
        run_tap(emulator.settings, catalog=only("cohort_members")).well()
        requested = [seen.form["filter_by_cohort"] for seen in emulator.requests if seen.kind == "engage"]
    assert requested == ['{"id": 1}', '{"id": 2}']


def small(state: dict[str, Any] | None, hour: float, cohorts: int = 4, **extra: Any) -> tuple[Result, list[str]]:
    """Run with quota for the list and two cohorts; return the result and the members read."""
    clock = FakeClock(dt.datetime(2024, 1, 15, 9, tzinfo=dt.UTC) + dt.timedelta(hours=hour))
    members = [[f"u{number}", f"v{number}"] for number in range(cohorts)]
    project = FixedProject(cohorts=[{"id": 10 + at, "name": "", "members": each} for at, each in enumerate(members)])
    with Emulator(project, now=clock.now, max_page_size=1) as emulator:
        settings = emulator.settings | {"hourly_quota": 3, "max_quota_wait": 0, **extra}
        result = run_here(settings, clock, catalog=only("cohort_members"), state=state)
    messages = [json.loads(line) for line in result.stdout.splitlines()]
    return result, [message["record"]["distinct_id"] for message in messages if message["type"] == "RECORD"]


def test_many_cohorts_are_read_over_several_runs() -> None:
    """The state lists the finished cohorts until all are done, and the next run reads the others."""
    first, found = small(None, 0)
    assert first.error is not None
    assert "cohort_members of cohort 12" in first.error
    assert "max_quota_wait" in first.error
    assert found == ["u0", "v0", "u1", "v1"]
    assert first.state == {"bookmarks": {"cohort_members": {"finished": [10, 11]}}}
    second, found = small(first.state, 1)
    assert second.error is None
    assert found == ["u2", "v2", "u3", "v3"]
    assert second.state == {"bookmarks": {"cohort_members": {}}}
    _, found = small(second.state, 2)
    assert found == ["u0", "v0", "u1", "v1"]


def test_a_cohort_is_finished_with_its_last_page() -> None:
    """A cohort with a missing page is not finished; the cohorts after it are still read."""
    project = FixedProject(group_profiles=GROUPS, cohorts=COHORTS)
    with Emulator(project, faults=[Fault("engage", 3, "cut-json")], max_page_size=1) as emulator:
        settings = emulator.settings | {"max_retries": 0}
        failed = run_tap(settings, catalog=only("cohort_members"))
    assert failed.exit_code == 1
    assert "cohort_members of cohort 1000 page 2" in failed.errors[0]
    # The cohorts after it are still read, and the next run reads all of them again.
    assert [state["bookmarks"]["cohort_members"] for state in failed.states][-2:] == [{"finished": [2000, 3000]}, {}]


def test_a_failing_cohort_does_not_stop_the_others() -> None:
    """A cohort that fails in every run does not keep the next runs from reading the others."""
    cohorts = [{"id": number, "name": "", "members": [f"u{number}"]} for number in (1, 2, 3)]
    state = None
    for _ in range(2):
        with Emulator(FixedProject(cohorts=cohorts), faults=[Fault("engage", 2, "status:500")]) as emulator:
            settings = emulator.settings | {"max_retries": 0, "emit_activate_version_messages": True}
            run = run_tap(settings, catalog=only("cohort_members"), state=state)
        assert run.exit_code == 1
        [error] = run.errors
        assert error.startswith("cohort_members of cohort 2 page 0: HTTP 500")
        assert [record["cohort_id"] for record in run.records("cohort_members")] == [1, 3]
        assert b"ACTIVATE_VERSION" not in run.stdout
        state = run.states[-1]
        assert state == {"bookmarks": {"cohort_members": {}}}


def test_only_a_short_cohort_makes_the_state_short() -> None:
    """`short` is set with the short cohort, not with one read before it."""
    cohorts = [{"id": number, "name": "", "members": [f"u{at}" for at in range(10)]} for number in (1, 2, 3)]
    fault = Fault("engage", (5, 7), "short-page", 0.8)
    with Emulator(FixedProject(cohorts=cohorts), faults=[fault], max_page_size=5) as emulator:
        run = run_tap(emulator.settings, catalog=only("cohort_members"))
    marks = [state["bookmarks"]["cohort_members"] for state in run.states]
    assert {"finished": [1]} in marks
    assert {"finished": [1, 2], "short": True} in marks


def test_a_version_spans_several_runs() -> None:
    """A table read over several runs has one version and is activated in the last run."""
    on = {"emit_activate_version_messages": True}
    first, _ = small(None, 0, **on)
    assert first.state is not None
    assert first.state["bookmarks"]["cohort_members"] == {"finished": [10, 11], "version": 1705309200000}
    assert b"ACTIVATE_VERSION" not in first.stdout
    second, found = small(first.state, 1, **on)
    assert found == ["u2", "v2", "u3", "v3"]
    assert second.state == {"bookmarks": {"cohort_members": {}}}
    versions = [json.loads(line).get("version") for line in second.stdout.splitlines() if b'"STATE"' not in line]
    # The schema has none, four records and the message have it.
    assert versions == [None] + [1705309200000] * 5
    assert second.stdout.count(b'{"type":"ACTIVATE_VERSION"') == 1


def test_cohorts_without_a_version_are_read_again() -> None:
    """Cohorts read without a version are read again once versions are enabled."""
    on = {"emit_activate_version_messages": True}
    without, _ = small(None, 0)
    _, found = small(without.state, 1, **on)
    assert found == ["u0", "v0", "u1", "v1"]
    with_version, _ = small(None, 0, cohorts=6, **on)
    mixed, found = small(with_version.state, 1, cohorts=6)
    assert found == ["u2", "v2", "u3", "v3"]
    assert mixed.state == {"bookmarks": {"cohort_members": {"finished": [10, 11, 12, 13]}}}
    _, found = small(mixed.state, 2, cohorts=6, **on)
    assert found == ["u0", "v0", "u1", "v1"]


def test_a_cohort_of_a_deleted_group_is_skipped() -> None:
    """`Missing Datagroup` skips one cohort with a warning; the others are read."""
    with Emulator(FixedProject(profiles=PEOPLE, cohorts=COHORTS)) as emulator:
        run = run_tap(emulator.settings, catalog=only("cohort_members")).well()
    assert {record["cohort_id"] for record in run.records("cohort_members")} == {1000}
    [problem] = run.problems
    assert "cohort_members of cohort 2000 page 0: HTTP 404" in problem
    assert problem.endswith("Response: Missing Datagroup. Skipping this cohort")


@pytest.mark.parametrize("page", ["1", "2"])
@pytest.mark.parametrize("status", ["status:400", "status:404"])
def test_half_a_cohort_fails(page: str, status: str) -> None:
    """A cohort is skipped only if its first page is rejected; a later page fails the stream."""
    cohorts = [{"id": number, "name": "", "members": [f"u{each}" for each in range(6)]} for number in (1, 2)]
    # The first cohort takes three full pages and an empty one.
    with Emulator(
        FixedProject(cohorts=cohorts), faults=[Fault("engage", 5 + int(page), status)], max_page_size=2
    ) as emulator:
        run = run_tap(emulator.settings, catalog=only("cohort_members"))
    assert run.exit_code == 1
    assert f"cohort_members of cohort 2 page {page}" in run.errors[0]
    assert run.states[-1] == {"bookmarks": {"cohort_members": {"finished": [1]}}}


def test_remaining_rejected_cohorts_are_skipped() -> None:
    """If an earlier run read other cohorts, rejected remaining ones are skipped."""
    cohorts = [{"id": number, "name": "", "members": ["u"]} for number in (1, 2)]
    state = {"bookmarks": {"cohort_members": {"finished": [1]}}}
    with Emulator(FixedProject(cohorts=cohorts), faults=[Fault("engage", None, "status:404")]) as emulator:
        run = run_tap(emulator.settings, catalog=only("cohort_members"), state=state).well()
    [problem] = run.problems
    assert problem.endswith("Skipping this cohort")
    assert run.states[-1] == {"bookmarks": {"cohort_members": {}}}


def test_only_cohorts_of_deleted_groups_is_no_error() -> None:
    """Cohorts of deleted groups are skipped even if there are no others."""
    with Emulator(FixedProject(cohorts=COHORTS[1:2])) as emulator:
        run = run_tap(emulator.settings, catalog=only("cohort_members")).well()
    assert run.records("cohort_members") == []
    assert len(run.problems) == 1


@pytest.mark.parametrize("broken", [{"finished": 7}, {"finished": [7], "version": "1"}])
def test_an_invalid_members_state_is_rejected(broken: dict[str, Any]) -> None:
    """An invalid state is rejected before any request."""
    with Emulator(FixedProject(cohorts=COHORTS)) as emulator:
        state = {"bookmarks": {"cohort_members": broken}}
        run = run_tap(emulator.settings, catalog=only("cohort_members"), state=state)
        assert emulator.requests == []
    assert run.exit_code == 1
    assert "the bookmark of cohort_members is broken: " in run.errors[0]


def test_two_failed_cohorts_in_a_row_end_the_stream() -> None:
    """After one failed cohort the next ones are read; a second in a row ends the stream."""
    cohorts = [{"id": number, "name": "", "members": [f"u{number}"]} for number in range(1, 7)]
    for failing, read, requested, finished in (
        ((2,), [1, 3, 4, 5, 6], 6, []),
        ((2, 4), [1, 3, 5, 6], 6, []),
        ((3, 4), [1, 2], 4, [1, 2]),
    ):
        with Emulator(FixedProject(cohorts=cohorts), faults=[Fault("engage", failing, "status:503")]) as emulator:
            run = run_tap(emulator.settings | {"max_retries": 0}, catalog=only("cohort_members"))
            assert sum(seen.kind == "engage" for seen in emulator.requests) == requested
        assert run.exit_code == 1
        [error] = run.errors
        assert [number for number in range(1, 7) if f"cohort {number} page" in error] == list(failing)
        assert [record["cohort_id"] for record in run.records("cohort_members")] == read
        assert run.states[-1]["bookmarks"]["cohort_members"].get("finished", []) == finished


def test_a_malformed_cohort_page_fails_the_run() -> None:
    """A cohort whose page stays malformed after its retry fails the run."""
    project = FixedProject(group_profiles=GROUPS, cohorts=COHORTS)
    with Emulator(project, faults=[Fault("engage", (2, 3), "cut-json")]) as emulator:
        run = run_tap(emulator.settings | {"max_retries": 1}, catalog=only("cohort_members"))
    assert run.exit_code == 1
    assert len(run.errors) == 1
    assert "cohort_members of cohort 2000 page 0" in run.errors[0]


def test_a_member_without_an_id_fails_the_run() -> None:
    """A member whose `$distinct_id` is an object fails the run."""
    people = [{"$distinct_id": {"odd": 1}, "$properties": {}}]
    cohorts = [{"id": 1, "name": "", "members": [str({"odd": 1})]}]
    with Emulator(FixedProject(profiles=people, cohorts=cohorts)) as emulator:
        run = run_tap(emulator.settings, catalog=only("cohort_members"))
    assert run.exit_code == 1
    assert "`distinct_id` is missing" in run.errors[0]


def test_members_with_properties_that_are_not_utf8() -> None:
    """Bytes that are not UTF-8 in an unused property do not affect the members."""
    project = FixedProject(profiles=PEOPLE, cohorts=COHORTS[:1])
    with Emulator(project, faults=[Fault("engage", None, "bad-utf8")]) as emulator:
        run = run_tap(emulator.settings, catalog=only("cohort_members")).well()
    assert [record["distinct_id"] for record in run.records("cohort_members")] == ["seen", "unseen", "7", "no profile"]


def test_deselected_columns_of_cohorts() -> None:
    """Deselected columns are in neither the records nor the schema."""
    catalog = catalog_of("cohorts", deselected={"cohorts": ["description", "other"]})
    run, _ = delivered(catalog)
    assert set(run.records("cohorts")[0]) == set(run.schemas()["cohorts"]["schema"]["properties"])
    assert not {"description", "other"} & set(run.records("cohorts")[0])
