"""Incremental profiles: those seen since the last run, with a full refresh every few days."""

from __future__ import annotations

import datetime as dt
import json
from functools import cache
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject, SyntheticProject
from tests.harness import catalog_of, run_tap
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import Result, run_here

GROUP = "-77"
START = dt.datetime(2024, 1, 15, 9, 30, 15, 500_000, dt.UTC)
ON = {"profiles_incremental": True, "profiles_full_refresh_days": 7}


def profile(name: str, last_seen: str | None, **properties: Any) -> dict[str, Any]:
    seen = {} if last_seen is None else {"$last_seen": last_seen}
    return {"$distinct_id": name, "$properties": {**properties, **seen}}


PEOPLE = [
    profile("old", "2024-01-14T00:00:00", plan="paid"),
    profile("edge", "2024-01-15T08:30:15", plan="free"),
    profile("new", "2024-01-15T12:00:00", plan="paid"),
    profile("unseen", None, plan="paid"),
]


@cache
def catalog(*streams: str, raw: bool = False) -> dict[str, Any]:
    return catalog_of(*streams, raw=raw)


def run(
    now: dt.datetime,
    state: dict[str, Any] | None = None,
    people: list[dict[str, Any]] = PEOPLE,
    faults: list[Fault] | None = None,
    **settings: Any,
) -> tuple[Result, list[str], list[str | None]]:
    """Run; return the result, the ids delivered and the `where` of each request."""
    with Emulator(FixedProject(profiles=people), faults=faults or (), max_page_size=2) as emulator:
        config = {**emulator.settings, **ON, "max_retries": 0, **settings}
        selected = catalog("profiles", raw=bool(settings.get("raw")))
        result = run_here(config, FakeClock(now), catalog=selected, state=state)
        requested = [seen.form.get("where") for seen in emulator.requests]
    return result, ids(result), requested


def ids(result: Result, stream: str = "profiles") -> list[str]:
    messages = [json.loads(line) for line in result.stdout.splitlines()]
    records = [each["record"] for each in messages if each["type"] == "RECORD" and each["stream"] == stream]
    return [record.get("distinct_id", record.get("$distinct_id")) for record in records]


def state_of(result: Result, stream: str = "profiles") -> dict[str, Any]:
    assert result.error is None
    assert result.state is not None
    found: dict[str, Any] = result.state["bookmarks"][stream]
    return found


def days(number: float) -> dt.timedelta:
    return dt.timedelta(days=number)


def test_the_first_run_reads_all_profiles() -> None:
    """The first run reads all profiles; the bookmark is the time before its first request."""
    first, found, requested = run(START)
    assert found == ["old", "edge", "new", "unseen"]
    assert set(requested) == {None}
    assert state_of(first) == {
        "replication_key": "last_seen",
        "replication_key_value": "2024-01-15T09:30:15+00:00",
        "full_refresh": "2024-01-15T09:30:15.500+00:00",
    }


def test_the_next_run_reads_profiles_seen_since() -> None:
    """The next run reads profiles seen since, with an hour of overlap, and keeps the refresh time."""
    first, _, _ = run(START)
    second, found, requested = run(START + days(1), first.state)
    assert found == ["edge", "new"]
    assert set(requested) == {'properties["$last_seen"] >= "2024-01-15T08:30:15"'}
    assert state_of(second) == {
        "replication_key": "last_seen",
        "replication_key_value": "2024-01-16T09:30:15+00:00",
        "full_refresh": "2024-01-15T09:30:15.500+00:00",
    }


def test_the_bookmark_stays_if_profiles_are_missing() -> None:
    """A short session delivers its profiles, and the next run reads all of them again."""
    people = [profile(str(number), "2024-01-14T00:00:00") for number in range(10)]
    for before in (None, run(START - days(8), people=people)[0].state):
        # The 6th page is empty; the page before it is short in both sessions.
        fault = Fault("engage", (5, 10), "short-page")
        short, found, _ = run(START, before, people, [fault])
        assert short.error is None
        assert len(found) == 9
        assert any(warning == "1 profiles are missing: the bookmark stays unchanged" for warning in short.warnings)
        _, found, requested = run(START + days(1), short.state, people)
        assert len(found) == 10
        assert requested[0] is None


def test_a_profile_visible_late_is_read() -> None:
    """A profile seen shortly before the last run, but visible only later, is read."""
    before = run(START)[0].state
    late = profile("late", "2024-01-15T09:30:10")
    assert "late" in run(START + days(1), before, [*PEOPLE, late])[1]


@pytest.mark.parametrize(("minutes", "fails"), [(20, True), (5, False)])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_clock_far_ahead_fails_incremental_profiles(minutes: int, fails: bool, earlier: bool) -> None:
    """With a clock 20 minutes ahead profiles would be missed, so the run fails; 5 minutes are fine."""
    before = run(START)[0].state if earlier else None
    now = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)
    result, _, _ = run(now, before, profiles_full_refresh_days=10**6)
    assert ("minutes ahead of Mixpanel's: correct it, since profiles_incremental" in (result.error or "")) == fails
    if fails:
        unchanged = (before or {}).get("bookmarks", {}).get("profiles", {})
        assert (result.state or {"bookmarks": {"profiles": unchanged}})["bookmarks"].get("profiles", {}) == unchanged


def test_a_full_refresh_reads_missed_profiles() -> None:
    """A profile without `$last_seen` is read on the days of the full refresh only."""
    state = run(START)[0].state
    seen: list[int] = []
    for day in range(1, 16):
        result, found, _ = run(START + days(day), state)
        state = result.state
        if "unseen" in found:
            seen.append(day)
    assert seen == [7, 14]


def test_the_full_refresh_follows_the_setting() -> None:
    """A full refresh is due after `profiles_full_refresh_days`, to the day."""
    first, _, _ = run(START)
    assert "unseen" not in run(START + days(1.5), first.state, profiles_full_refresh_days=2)[1]
    # Slightly earlier in the day than the first run, as with any scheduler.
    assert "unseen" in run(START + days(1.99), first.state, profiles_full_refresh_days=2)[1]
    assert "unseen" not in run(START + days(7), first.state, profiles_full_refresh_days=10**12)[1]


def test_profiles_where_is_combined_with_the_bookmark() -> None:
    """`profiles_where` is put in parentheses and combined by `and`."""
    first, _, _ = run(START)
    where = 'properties["plan"] == "paid" or properties["plan"] == "team"'
    _, found, requested = run(START + days(1), first.state, profiles_where=where)
    assert found == ["new"]
    assert set(requested) == {f'({where}) and (properties["$last_seen"] >= "2024-01-15T08:30:15")'}


@pytest.mark.parametrize("refreshes", [True, False])
def test_a_failed_run_keeps_the_bookmark(refreshes: bool) -> None:
    """A run that fails after some pages keeps the state, and the next one reads all of them."""
    before = run(START)[0].state
    people = [profile(f"u{number}", "2024-01-15T12:00:00") for number in range(5)]
    now = START + days(8 if refreshes else 1)
    failed, found, _ = run(now, before, people, [Fault("engage", 3, "cut-json")])
    assert failed.error is not None
    assert len(found) == 4
    assert failed.state is not None
    assert failed.state == before
    again, found, _ = run(now, failed.state, people)
    assert len(found) == 5
    assert state_of(again)["replication_key_value"] == now.replace(microsecond=0).isoformat()


def test_after_a_failed_first_run_all_are_read() -> None:
    """After a failed first run the next one reads all profiles."""
    failed, _, _ = run(START, faults=[Fault("engage", 2, "cut-json")])
    assert failed.error is not None
    assert run(START + days(1), failed.state)[1] == ["old", "edge", "new", "unseen"]


def test_a_restarted_session_keeps_the_first_time() -> None:
    """After a session restart the bookmark is still the time of the first request."""
    expired = [Fault("engage", 2, "session-expired")]
    result, found, _ = run(START, faults=expired)
    assert set(found) == {"old", "edge", "new", "unseen"}
    assert state_of(result)["replication_key_value"] == "2024-01-15T09:30:15+00:00"


def test_incremental_can_be_switched_off_and_on() -> None:
    """A run with the setting off keeps the bookmark for the next incremental run."""
    first, _, _ = run(START)
    off, found, _ = run(START + days(1), first.state, profiles_incremental=False)
    assert found == ["old", "edge", "new", "unseen"]
    assert state_of(off) == state_of(first)
    on, found, _ = run(START + days(2), off.state)
    assert found == ["edge", "new"]
    assert state_of(on)["replication_key_value"] == "2024-01-17T09:30:15+00:00"


@pytest.mark.parametrize("was_on", [True, False])
def test_the_setting_overrides_the_catalog(was_on: bool) -> None:
    """The setting decides, not the replication method in the catalog."""
    discovered = json.loads(run_tap({"profiles_incremental": was_on}, "--discover").well().stdout)
    entry = {stream["tap_stream_id"]: stream for stream in discovered["streams"]}["profiles"]
    assert entry["replication_method"] == ("INCREMENTAL" if was_on else "FULL_TABLE")
    discovered["streams"] = [entry]
    first = run(START)[0]
    for is_on, expected in ((True, 2), (False, 4)):
        with Emulator(FixedProject(profiles=PEOPLE)) as emulator:
            config = {**emulator.settings, "profiles_incremental": is_on}
            result = run_here(config, FakeClock(START + days(1)), catalog=discovered, state=first.state)
        assert len(ids(result)) == expected


def test_raw_profiles_share_the_state() -> None:
    """Raw profiles continue from the state of normalized ones."""
    first, _, _ = run(START)
    assert run(START + days(1), first.state, raw=True)[1] == ["edge", "new"]


def test_bookmark_properties_only_when_normalized() -> None:
    """Only normalized profiles have `last_seen` in `bookmark_properties`."""
    for raw in (False, True):
        result, _, _ = run(START, raw=raw)
        schema = json.loads(result.stdout.splitlines()[0])
        assert schema.get("bookmark_properties") == (None if raw else ["last_seen"])


def test_groups_have_their_own_bookmarks() -> None:
    """Each group has its own bookmark, and `profiles_where` does not apply to it."""
    groups = {GROUP: [profile("acme", "2024-01-01T00:00:00"), profile("fresh", "2024-01-15T12:00:00")]}
    with Emulator(FixedProject(profiles=PEOPLE, group_profiles=groups)) as emulator:
        config = {**emulator.settings, **ON, "group_profiles": [{"name": "companies", "data_group_id": GROUP}]}
        config |= {"profiles_where": 'properties["plan"] == "paid"', "start_date": "2024-01-15"}
        first = run_here(config, FakeClock(START))
        second = run_here(config, FakeClock(START + days(1)), state=first.state)
    assert ids(first, "companies") == ["acme", "fresh"]
    assert ids(second, "companies") == ["fresh"]
    assert state_of(second, "companies")["full_refresh"] == "2024-01-15T09:30:15.500+00:00"


def test_a_month_of_incremental_runs_is_complete() -> None:
    """Upserted by key, a month of incremental runs gives every profile in its current state."""
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), profiles=300)
    known: dict[str, Any] = {}
    state = None
    delivered = 0
    for day in range(30):
        clock = FakeClock(START + days(day))
        with Emulator(project, now=clock.now) as emulator:
            config = {**emulator.settings, **ON, "raw": True}
            result = run_here(config, clock, catalog=catalog("profiles", raw=True), state=state)
        assert result.error is None
        state = result.state
        for line in result.stdout.splitlines():
            message = json.loads(line)
            if message["type"] == "RECORD":
                known[str(message["record"]["$distinct_id"])] = message["record"]
                delivered += 1
    now = START + days(29)
    truth = {str(each["$distinct_id"]): dict(each) for each in project.profiles(None, now=now)}
    with_last_seen = {name: each for name, each in truth.items() if "$last_seen" in each["$properties"]}  # type: ignore[operator]
    assert {name: known[name] for name in with_last_seen} == with_last_seen
    assert set(known) == set(truth)
    # Full runs would have delivered 9000.
    assert delivered < 4500


def test_a_bookmark_after_the_run_reads_all_profiles() -> None:
    """With a bookmark later than the run, all profiles are read."""
    state = run(START + days(2))[0].state
    assert run(START, state)[1] == ["old", "edge", "new", "unseen"]


@pytest.mark.parametrize(
    "broken", [{"replication_key_value": "soon"}, {"replication_key_value": "2024-01-15", "full_refresh": 7}]
)
def test_an_invalid_profiles_state_is_rejected(broken: dict[str, Any]) -> None:
    """An invalid state is rejected before any request."""
    with Emulator(FixedProject(profiles=PEOPLE)) as emulator:
        done = run_tap(emulator.settings | ON, catalog=catalog("profiles"), state={"bookmarks": {"profiles": broken}})
        assert emulator.requests == []
    assert done.exit_code == 1
    assert "the bookmark of profiles is broken" in done.errors[0]


def test_incremental_profiles_warn_about_their_limits() -> None:
    """A warning names what incremental runs miss; `as_of_timestamp` is rejected."""
    with Emulator(FixedProject(profiles=PEOPLE)) as emulator:
        done = run_tap(emulator.settings | ON, catalog=catalog("profiles")).well()
        assert len(done.problems) == 1
        for words in ("$last_seen", "deletions", "7 days", "profiles_full_refresh_days"):
            assert words in done.problems[0]
        fails = run_tap(emulator.settings | ON | {"as_of_timestamp": 1704067200}, catalog=catalog("profiles"))
    assert fails.exit_code == 1
    assert "profiles_incremental and as_of_timestamp" in fails.errors[0]


def test_a_test_run_reads_any_profile() -> None:
    """`--test` requests one profile without the bookmark's condition."""
    with Emulator(FixedProject(profiles=PEOPLE)) as emulator:
        run_tap({**emulator.settings, **ON, "start_date": "2024-01-01"}, "--test").well()
        forms = [seen.form for seen in emulator.requests if seen.kind == "engage"]
    assert [("where" in form, form["page_size"]) for form in forms] == [(False, "1")]
