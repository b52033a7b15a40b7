"""ACTIVATE_VERSION: a target may drop older rows only once all new ones are delivered."""

from __future__ import annotations

import datetime as dt
import json
from functools import cache
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject
from tests.harness import catalog_of, run_tap
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import Result, run_here

START = dt.datetime(2024, 1, 15, 9, tzinfo=dt.UTC)
ON = {"emit_activate_version_messages": True, "max_retries": 0}
DAYS = {"start_date": "2024-01-15", "end_date": "2024-01-15"}
FULL_TABLES = {"profiles": "engage", "cohorts": "cohorts", "cohort_members": "cohorts", "annotations": "annotations"}
EVENT = b'{"event":"A","properties":{"time":1705328400,"distinct_id":"u","$insert_id":"i"}}'


def project(*names: str) -> FixedProject:
    return FixedProject(
        {dt.date(2024, 1, 15): [EVENT]},
        profiles=[{"$distinct_id": name, "$properties": {"$last_seen": "2024-01-15T12:00:00"}} for name in names],
        cohorts=[{"id": 1, "name": "", "members": list(names)}] if names else [],
        annotations=[{"id": number, "date": "2024-01-15 12:00:00"} for number, _ in enumerate(names)],
        funnels=[{"funnel_id": 1, "name": "", "days": {"2024-01-15": {"steps": []}}}],
    )


@cache
def catalog(*streams: str) -> dict[str, Any]:
    return catalog_of(*streams)


class Table:
    """A table of an SDK target: rows by key, of the version activated last or a later one."""

    def __init__(self) -> None:
        self.rows: dict[tuple[object, ...], int | None] = {}

    def load(self, stdout: bytes) -> list[str]:
        """Load a run's output and return the types of its messages."""
        kinds = []
        keys: list[str] = []
        for message in map(json.loads, stdout.splitlines()):
            kinds.append(message["type"])
            if message["type"] == "SCHEMA":
                keys = message["key_properties"]
            elif message["type"] == "RECORD":
                self.rows[tuple(message["record"][key] for key in keys)] = message.get("version")
            elif message["type"] == "ACTIVATE_VERSION":
                new = message["version"]
                self.rows = {key: row for key, row in self.rows.items() if row is not None and row >= new}
        return kinds


def load(
    table: Table,
    stream: str,
    names: tuple[str, ...],
    *,
    day: float = 0,
    fault: Fault | None = None,
    state: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
) -> tuple[list[str], dict[str, Any] | None, str | None]:
    """Run the tap and load its output; return the message types, the last state and the error."""
    with Emulator(project(*names), faults=[fault] if fault else [], max_page_size=1) as emulator:
        config = {**emulator.settings, **ON, **DAYS, **(extra or {})}
        clock = FakeClock(START + dt.timedelta(days=day))
        result = run_here(config, clock, catalog=catalog(stream), state=state)
    return table.load(result.stdout), result.state, result.error


@pytest.mark.parametrize("stream", FULL_TABLES)
def test_a_complete_run_drops_deleted_rows(stream: str) -> None:
    """A complete run sends one ACTIVATE_VERSION after its last record, which drops deleted rows."""
    table = Table()
    load(table, stream, ("a", "b", "c"))
    before = len(table.rows)
    kinds, _, _ = load(table, stream, ("a", "b"), day=1)
    assert before == {"cohorts": 1}.get(stream, 3)
    assert len(table.rows) == {"cohorts": 1}.get(stream, 2)
    assert kinds.count("ACTIVATE_VERSION") == 1
    assert "RECORD" not in kinds[kinds.index("ACTIVATE_VERSION") :]


@pytest.mark.parametrize("stream", FULL_TABLES)
def test_a_run_without_records_drops_nothing(stream: str) -> None:
    """An empty response is more likely a failure than a table that lost all its rows."""
    table = Table()
    load(table, stream, ("a", "b"))
    before = set(table.rows)
    kinds, _, error = load(table, stream, (), day=1)
    assert error is None
    assert before
    assert set(table.rows) == before
    assert "ACTIVATE_VERSION" not in kinds


def test_a_run_without_records_warns() -> None:
    """A run without records warns that ACTIVATE_VERSION is not sent."""
    with Emulator(project()) as emulator:
        run = run_tap({**emulator.settings, **ON}, catalog=catalog("profiles")).well()
    assert any("no records were read: ACTIVATE_VERSION is not sent" in line for line in run.problems), run.problems


@pytest.mark.parametrize(
    ("stream", "kind", "at"),
    [
        ("profiles", "engage", 1),
        ("profiles", "engage", 2),
        ("cohorts", "cohorts", 1),
        ("cohort_members", "cohorts", 1),
        ("cohort_members", "engage", 1),
        ("cohort_members", "engage", 2),
        ("annotations", "annotations", 1),
    ],
)
def test_a_run_that_fails_drops_nothing(stream: str, kind: str, at: int) -> None:
    """A run that fails sends no ACTIVATE_VERSION."""
    table = Table()
    load(table, stream, ("a", "b", "c"))
    before = set(table.rows)
    kinds, _, error = load(table, stream, ("a", "b"), day=1, fault=Fault(kind, at, "cut-json"))
    assert error is not None
    assert set(table.rows) == before
    assert "ACTIVATE_VERSION" not in kinds


@pytest.mark.parametrize("stream", ["profiles", "cohort_members"])
def test_a_session_that_stays_short_drops_nothing(stream: str) -> None:
    """A short session is accepted, but profiles that did not arrive may still exist."""
    table = Table()
    names = tuple("abcdefghij")
    load(table, stream, names)
    kinds, _, error = load(table, stream, names, day=1, fault=Fault("engage", (10, 20), "short-page"))
    assert error is None
    assert len(table.rows) == 10
    assert kinds.count("RECORD") == 9
    assert "ACTIVATE_VERSION" not in kinds
    kinds, _, _ = load(table, stream, names[:9], day=2)
    assert kinds.count("ACTIVATE_VERSION") == 1
    assert len(table.rows) == 9


def cohort(number: int, *members: str) -> dict[str, Any]:
    return {"id": number, "name": "", "members": members}


def load_cohorts(
    table: Table,
    *cohorts: dict[str, Any],
    day: float = 0,
    state: dict[str, Any] | None = None,
    fault: Fault | None = None,
    **extra: Any,
) -> Result:
    """Run the tap and load the members of these cohorts, with five on a page."""
    clock = FakeClock(START + dt.timedelta(days=day))
    with Emulator(FixedProject(cohorts=cohorts), faults=[fault] if fault else [], max_page_size=5) as emulator:
        result = run_here({**emulator.settings, **ON, **extra}, clock, catalog=catalog("cohort_members"), state=state)
    table.load(result.stdout)
    return result


def test_a_short_cohort_of_an_earlier_run_drops_nothing() -> None:
    """A table is not activated if members of a cohort were missing in an earlier run."""
    cohorts = [cohort(1, *"abcdefghij"), cohort(2, "a"), cohort(3, "a")]
    fault = Fault("engage", (2, 4), "short-page", 0.8)
    small: dict[str, Any] = {"hourly_quota": 4, "max_quota_wait": 0}
    first = load_cohorts(Table(), *cohorts, fault=fault, **small)
    assert first.error is not None
    assert first.state is not None
    assert first.state["bookmarks"]["cohort_members"]["short"] is True
    second = load_cohorts(Table(), *cohorts, day=1, state=first.state)
    assert b'{"type":"ACTIVATE_VERSION"' not in second.stdout
    assert second.state == {"bookmarks": {"cohort_members": {}}}


@pytest.mark.parametrize("count", [{}, {"count": 0}])
def test_a_table_is_activated_after_empty_last_cohorts(count: dict[str, int]) -> None:
    """Records of an earlier run suffice to activate a table whose last cohorts are empty."""
    state = {"bookmarks": {"cohort_members": {"finished": [1], "version": 1705309200000}}}
    result = load_cohorts(Table(), cohort(1, "a"), {**cohort(2), **count}, state=state)
    assert result.error is None
    assert result.stdout.count(b'{"type":"ACTIVATE_VERSION"') == 1
    assert result.state == {"bookmarks": {"cohort_members": {}}}


@pytest.mark.parametrize("status", ["status:400", "status:404"])
def test_a_skipped_cohort_drops_nothing(status: str) -> None:
    """A skipped cohort may still exist in Mixpanel, so its rows stay."""
    table = Table()
    cohorts = [cohort(1, "a"), cohort(2, "b")]
    load_cohorts(table, *cohorts)
    before = set(table.rows)
    result = load_cohorts(table, *cohorts, day=1, fault=Fault("engage", 2, status))
    assert result.error is None
    assert set(table.rows) == before
    assert any("was skipped: ACTIVATE_VERSION is not sent" in line for line in result.warnings)


def test_a_cohort_of_a_deleted_group_is_dropped() -> None:
    """The rows of a cohort whose group was deleted are dropped."""
    table = Table()
    load_cohorts(table, cohort(1, "a"), cohort(2, "b"))
    load_cohorts(table, cohort(1, "a"), {**cohort(2, "b"), "data_group_id": -77}, day=1)
    assert set(table.rows) == {(1, "a")}


def test_a_skipped_funnel_drops_nothing() -> None:
    """With FULL_TABLE in the catalog, a skipped funnel keeps its rows."""
    full_table = json.loads(json.dumps(catalog("funnels")))
    [funnels] = [stream for stream in full_table["streams"] if stream["tap_stream_id"] == "funnels"]
    funnels["replication_method"] = "FULL_TABLE"
    days: dict[str, Any] = {"2024-01-15": {"steps": []}}
    project = FixedProject(funnels=[{"funnel_id": number, "name": "", "days": days} for number in (1, 2)])
    table = Table()
    for day, fault in enumerate(([], [Fault("funnels", 3, "status:400")])):
        clock = FakeClock(START + dt.timedelta(days=day))
        with Emulator(project, faults=fault) as emulator:
            result = run_here({**emulator.settings, **ON, **DAYS}, clock, catalog=full_table)
        assert result.error is None
        table.load(result.stdout)
    assert len(table.rows) == 2


@pytest.mark.parametrize("stream", ["cohorts", "cohort_members", "annotations"])
def test_a_stream_not_in_the_plan_drops_nothing(stream: str) -> None:
    """A stream that the plan does not include sends no ACTIVATE_VERSION."""
    table = Table()
    load(table, stream, ("a", "b"))
    before = set(table.rows)
    kinds, _, error = load(table, stream, ("a", "b"), day=1, fault=Fault(FULL_TABLES[stream], None, "status:402"))
    assert error is None
    assert set(table.rows) == before
    assert "ACTIVATE_VERSION" not in kinds


def test_an_incremental_run_drops_nothing() -> None:
    """An incremental run drops no rows; the next full refresh drops deleted ones."""
    table = Table()
    incremental = {"profiles_incremental": True}
    _, state, _ = load(table, "profiles", ("a", "b"), extra=incremental)
    kinds, state, _ = load(table, "profiles", ("b", "c"), day=1, state=state, extra=incremental)
    assert "ACTIVATE_VERSION" not in kinds
    assert set(table.rows) == {("a",), ("b",), ("c",)}
    # Incremental rows have the version of the last refresh, so a target that shows one version shows them.
    assert len(set(table.rows.values())) == 1
    kinds, _, _ = load(table, "profiles", ("c",), day=8, state=state, extra=incremental)
    assert kinds.count("ACTIVATE_VERSION") == 1
    assert set(table.rows) == {("c",)}


def test_refreshes_in_one_second_have_two_versions() -> None:
    """Two refreshes within a second have different versions."""
    table = Table()
    load(table, "profiles", ("a", "b"))
    load(table, "profiles", ("b",), day=0.002 / 86400)
    assert set(table.rows) == {("b",)}


def test_incremental_rows_have_the_refresh_version() -> None:
    """Incremental rows have exactly the version of the last refresh, in milliseconds."""
    table = Table()
    incremental = {"profiles_incremental": True}
    _, state, _ = load(table, "profiles", ("a",), day=0.123456 / 86400, extra=incremental)
    load(table, "profiles", ("b",), day=1, state=state, extra=incremental)
    assert set(table.rows) == {("a",), ("b",)}
    assert set(table.rows.values()) == {int(START.timestamp()) * 1000 + 123}


def test_a_refresh_that_fails_drops_nothing() -> None:
    """A full refresh that fails keeps all rows."""
    table = Table()
    incremental = {"profiles_incremental": True}
    _, state, _ = load(table, "profiles", ("a", "b"), extra=incremental)
    fault = Fault("engage", 2, "cut-json")
    kinds, _, error = load(table, "profiles", ("b", "c"), day=8, fault=fault, state=state, extra=incremental)
    assert error is not None
    assert "ACTIVATE_VERSION" not in kinds
    assert set(table.rows) == {("a",), ("b",)}


def test_incremental_streams_have_no_version() -> None:
    """Events and funnels have no version and no ACTIVATE_VERSION."""
    for stream in ("events", "funnels"):
        table = Table()
        kinds, _, _ = load(table, stream, ("a",))
        assert "ACTIVATE_VERSION" not in kinds
        assert list(table.rows.values()) == [None]


def test_events_are_never_activated() -> None:
    """A run delivers a range of days, so the target keeps the others, even if the catalog says FULL_TABLE."""
    catalog = catalog_of("events", "funnels", "event_counts")
    for stream in catalog["streams"]:
        stream["replication_method"] = "FULL_TABLE"
    with Emulator(project("a")) as emulator:
        result = run_here({**emulator.settings, **ON, **DAYS}, FakeClock(START), catalog=catalog)
    assert result.error is None
    assert b'"RECORD"' in result.stdout
    assert b"ersion" not in result.stdout


def test_stream_maps_keep_versions() -> None:
    """With and without a stream map, messages and versions are the same."""
    kinds = []
    for maps in ({}, {"profiles": {"distinct_id": "record['distinct_id']"}}):
        table = Table()
        kinds.append(load(table, "profiles", ("a", "b"), extra={"stream_maps": maps})[0])
        assert set(table.rows.values()) == {int(START.timestamp()) * 1000}
    assert kinds[0] == kinds[1]


def test_no_version_by_default_or_in_a_test_run() -> None:
    """By default, and with `--test`, there are no versions."""
    with Emulator(project("a")) as emulator:
        settings = {**emulator.settings, **DAYS}
        assert b"ersion" not in run_tap(settings, catalog=catalog("profiles")).well().stdout
        assert b"ersion" not in run_tap({**settings, **ON}, "--test").well().stdout


def test_batches_with_versions_are_rejected(tmp_path: Any) -> None:
    """`batch_config` with versions is rejected before any request if a full-table stream is selected."""
    batches = {"encoding": {"format": "jsonl"}, "storage": {"root": tmp_path.as_uri()}}
    with Emulator(project("a")) as emulator:
        settings = {**emulator.settings, **ON, **DAYS, "batch_config": batches}
        # Before the first record of any stream, including events, which are read first.
        run = run_tap(settings, catalog=catalog("events", "profiles"))
        assert run.exit_code == 1
        assert run.stdout == b""
        assert "emit_activate_version_messages" in run.errors[0]
        assert "batch_config" in run.errors[0]
        assert emulator.requests == []
        run_tap(settings, catalog=catalog("events")).well()
