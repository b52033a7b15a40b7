"""examples/dbt in DuckDB and PostgreSQL, with the commands of docs/after-the-load.md."""

from __future__ import annotations

import csv
import datetime as dt
import json
import re
import shutil
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject, SyntheticProject
from tests.docs.pages import marked, text_of
from tests.docs.programs import ROOT
from tests.examples.dbt_databases import ALL_MODELS, PROJECT, Database, DuckDB, PostgreSQL
from tests.records.reference import normalized

if TYPE_CHECKING:
    from pathlib import Path

    from tests.targets.postgresql import Server

PAGE = text_of("docs/after-the-load.md")
FIRST_DAY = dt.date(2024, 1, 1)
FIRST_EVENING, SECOND_EVENING = dt.date(2024, 1, 14), dt.date(2024, 1, 31)
# The day after the first evening, minus the look-back of five days.
READ_AGAIN_FROM = dt.date(2024, 1, 10)
EVERYTHING = {"streams": ["events", "profiles", "event_counts"]}

Key = tuple[str, str, str]


def evening(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(23, 59, 59), dt.UTC)


def exported_events(project: SyntheticProject, last: dt.date, now: dt.datetime) -> dict[Key, dict[str, Any]]:
    """Return the normalized events by key, as Mixpanel exports them at a time."""
    records = [normalized(line) for line in project.lines(FIRST_DAY, last, now=now)]
    return {key(record["event_name"], record["event_time"], record["insert_id"]): record for record in records}


def key(name: Any, time: Any, insert_id: Any) -> Key:
    return str(name), dt.datetime.fromisoformat(str(time)).replace(tzinfo=dt.UTC).isoformat(), str(insert_id)


@pytest.fixture(scope="module")
def project() -> SyntheticProject:
    return SyntheticProject(first_day=FIRST_DAY, events_per_day=200, profiles=150)


@pytest.fixture(scope="module")
def loaded(
    project: SyntheticProject, warehouse: Server, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Database]:
    """Both databases, loaded on two evenings weeks apart, the second time with the state of the first.

    The models are built after each load, the second time incrementally.
    """
    databases = DuckDB(tmp_path_factory.mktemp("duckdb")), PostgreSQL(tmp_path_factory.mktemp("postgres"), warehouse)
    for database in databases:
        options = ""
        for day in (FIRST_EVENING, SECOND_EVENING):
            with Emulator(project, now=partial(evening, day)) as emulator:
                settings = emulator.settings | EVERYTHING | {"start_date": str(FIRST_DAY), "end_date": str(day)}
                states = database.load(settings, options)
            (database.folder / "state.json").write_text(states.splitlines()[-1])
            options = "--state state.json"
            database.build(ALL_MODELS)
    return {database.target: database for database in databases}


@pytest.fixture(params=["duckdb", "postgres"])
def database(request: pytest.FixtureRequest, loaded: dict[str, Database]) -> Database:
    return loaded[request.param]


def test_databases_have_equal_models(loaded: dict[str, Database]) -> None:
    """DuckDB and PostgreSQL have the same rows in every model."""
    models = {name: database.models() for name, database in loaded.items()}
    assert models["postgres"] == models["duckdb"]
    assert all(models["duckdb"].values())


def test_person_is_the_one_mixpanel_shows(project: SyntheticProject, loaded: dict[str, Database]) -> None:
    """Events loaded before and after a merge have the current person, if any loaded row shows the merge."""
    now = evening(SECOND_EVENING)
    truth = exported_events(project, SECOND_EVENING, now)
    rows = loaded["duckdb"].query(
        "SELECT event_name, event_time, insert_id, distinct_id, person_id FROM analytics.events"
    )
    shown = {
        record["properties"]["$distinct_id_before_identity"].strip('"')
        for record in truth.values()
        if "$distinct_id_before_identity" in record["properties"]
        and record["event_time"] >= READ_AGAIN_FROM.isoformat()
    }
    outdated = corrected = unknown = 0
    for row in rows:
        distinct_id, person_id = row["distinct_id"], row["person_id"]
        current = truth[key(row["event_name"], row["event_time"], row["insert_id"])]["distinct_id"] or None
        outdated += distinct_id != current
        if distinct_id == current or distinct_id in shown:
            assert person_id == current
            corrected += distinct_id != current
        else:
            # No loaded row links this device to its user.
            assert person_id == distinct_id
            unknown += 1
    assert len(rows) == len(truth) - len(missed(project, truth))
    assert corrected > 10
    assert corrected + unknown == outdated
    assert unknown < corrected


def missed(project: SyntheticProject, truth: dict[Key, dict[str, Any]]) -> set[Key]:
    """Return the keys of events that arrived after their day was read for the last time."""
    first = exported_events(project, FIRST_EVENING, evening(FIRST_EVENING))
    return {each for each in truth if each[1] < READ_AGAIN_FROM.isoformat() and each not in first}


def test_append_only_target_gives_equal_models(database: Database, tmp_path: Path) -> None:
    """Tables with each row twice lead to the same models."""
    copy = database.copy(tmp_path)
    for table in ("events", "profiles", "event_counts"):
        # Without the primary key.
        copy.query(
            f"CREATE TABLE copied AS TABLE mixpanel.{table} UNION ALL TABLE mixpanel.{table};"
            f"DROP TABLE mixpanel.{table}; CREATE TABLE mixpanel.{table} AS TABLE copied; DROP TABLE copied"
        )
    [[loaded], [built]] = (
        [row["count"] for row in copy.query(f"SELECT count(*) AS count FROM {table}")]  # noqa: S608
        for table in ("mixpanel.events", "analytics.events")
    )
    assert loaded == 2 * built
    copy.build(ALL_MODELS, "--full-refresh", "--exclude-resource-type unit_test")
    assert copy.models() == database.models()


def test_incremental_build_reads_the_look_back(database: Database, tmp_path: Path) -> None:
    """An incremental build leaves older days alone, even after an event with a time in the future."""
    copy = database.copy(tmp_path)
    copy.query(
        "UPDATE analytics.stg_events SET city = 'changed';"
        "UPDATE analytics.stg_events SET event_time = timestamp '2024-06-01'"
        " WHERE event_time = (SELECT min(event_time) FROM analytics.stg_events)"
    )
    copy.build("--select stg_events", "--exclude-resource-type test unit_test")
    # The last day minus the look-back and one more day.
    query = "FROM analytics.stg_events WHERE city = 'changed' AND event_time < timestamp '2024-06-01'"
    assert copy.query(f"SELECT max(cast(event_time AS date)) AS last_day {query}") == [{"last_day": "2024-01-25"}]


def test_columns_have_the_values_of_properties(project: SyntheticProject, loaded: dict[str, Database]) -> None:
    """Typed columns have the values that Mixpanel exports."""
    columns = {"city": "$city", "browser_version": "$browser_version", "screen_width": "$screen_width", "plan": "plan"}
    rows = loaded["duckdb"].query("SELECT * FROM analytics.events")
    truth = exported_events(project, SECOND_EVENING, evening(SECOND_EVENING))
    for row in rows:
        properties = truth[key(row["event_name"], row["event_time"], row["insert_id"])]["properties"]
        assert [row[each] for each in columns] == [json.loads(properties[each]) for each in columns.values()]


TYPES = ("string", "number", "integer", "boolean", "date-time")
FITTING: list[tuple[object, dict[str, object]]] = [
    ("8", {"string": "8"}),
    ("NaN", {"string": "NaN"}),
    (8, {"number": 8.0, "integer": 8}),
    (8.5, {"number": 8.5}),
    (-(2**63), {"number": -(2.0**63), "integer": -(2**63)}),
    (2**63, {"number": 2.0**63}),
    (2**70, {"number": 2.0**70}),
    (True, {"boolean": True}),
    ("2024-01-15T14:20:00+02:00", {"string": "2024-01-15T14:20:00+02:00", "date-time": "2024-01-15 12:20:00"}),
    ("2024-02-30", {"string": "2024-02-30"}),
    ({"a": 1}, {}),
    ([8], {}),
    (None, {}),
]
"""Values of a property, and by type the values of its columns. Other columns are NULL."""


def test_own_properties_become_columns(database: Database, tmp_path: Path) -> None:
    """The lines of the page add columns. A value of another type is NULL."""
    [block] = marked(PAGE, "checked by test_own_properties_become_columns")
    copy = database.copy(tmp_path)
    copy.query("DELETE FROM mixpanel.events")
    events = [
        {"time": 1704067200, "$insert_id": f"{n:02}", "Browse Filter": value, "total": value, "it's": value}
        for n, (value, _) in enumerate(FITTING)
    ]
    lines = [json.dumps({"event": "A", "properties": {"distinct_id": "u", **event}}).encode() for event in events]
    with Emulator(FixedProject({FIRST_DAY: lines})) as emulator:
        copy.load(emulator.settings | {"streams": ["events"], "start_date": "2024-01-01", "end_date": "2024-01-02"})
    shutil.copytree(PROJECT, tmp_path / "models")
    model = tmp_path / "models" / "models" / "staging" / "stg_events.sql"
    own = [f"""  {{{{ property("it's", '{each}') }}}} as {each.replace("-", "_")},\n""" for each in TYPES]
    begin, end = model.read_text().split("  {{ property('plan') }} as plan,\n")
    model.write_text(begin + block.text + "".join(own) + end)
    copy.build(
        "--select stg_events", "--full-refresh", "--exclude-resource-type unit_test", project=tmp_path / "models"
    )
    rows = copy.query("SELECT * FROM analytics.stg_events ORDER BY insert_id")
    assert len(rows) == len(FITTING)
    for row, (_, fitting) in zip(rows, FITTING, strict=True):
        assert {each: row[each.replace("-", "_")] for each in TYPES} == {each: fitting.get(each) for each in TYPES}
        assert (row["browse_filter"], row["total"]) == (fitting.get("string"), fitting.get("number"))


def test_build_fails_if_a_data_test_fails(loaded: dict[str, Database], tmp_path: Path) -> None:
    """An event without an id makes `dbt build` fail with the name of the test."""
    copy = loaded["duckdb"].copy(tmp_path)
    copy.query(
        "CREATE TABLE copied AS SELECT * FROM mixpanel.events;"
        "UPDATE copied SET insert_id = NULL WHERE insert_id = (SELECT min(insert_id) FROM copied);"
        "DROP TABLE mixpanel.events; CREATE TABLE mixpanel.events AS SELECT * FROM copied"
    )
    with pytest.raises(AssertionError, match="not_null_stg_events_insert_id"):
        copy.build("--select stg_events", "--full-refresh")


def test_page_builds_the_models_in_duckdb(tmp_path: Path) -> None:
    """The commands of the page load and build, and write a day per line."""
    load, chart = (block.text for block in marked(PAGE, "checked by test_page_builds_the_models_in_duckdb"))
    database = DuckDB(tmp_path)
    project = SyntheticProject(first_day=FIRST_DAY, events_per_day=20, profiles=5)
    with Emulator(project) as emulator:
        config = emulator.settings | {"start_date": "2024-01-01", "end_date": "2024-01-10"}
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert "active_users" in database.shell(load)
        lines = list(project.lines(FIRST_DAY, dt.date(2024, 1, 10), now=dt.datetime.now(dt.UTC)))
    database.shell(chart)
    with (tmp_path / "days.csv").open() as file:
        days = list(csv.DictReader(file))
    assert len(days) == 10
    keys = {key(record["event_name"], record["event_time"], record["insert_id"]) for record in map(normalized, lines)}
    assert sum(int(day["events"]) for day in days) == len(keys)


def test_page_builds_the_models_in_postgresql(loaded: dict[str, Database], tmp_path: Path) -> None:
    """The commands of the page build the models and show the days."""
    [script] = marked(PAGE, "checked by test_page_builds_the_models_in_postgresql")
    copy = loaded["postgres"].copy(tmp_path)
    copy.query("DROP SCHEMA analytics CASCADE")
    shown = copy.shell(script.text)
    assert "active_users" in shown
    assert shown.count("| 2024-01-") == 10
    assert copy.models(["events"]) == loaded["postgres"].models(["events"])


def test_lexicon_descriptions_reach_the_docs(database: Database, tmp_path: Path) -> None:
    """The commands of the page copy each description into dbt's docs, with special characters escaped."""
    [block] = marked(PAGE, "checked by test_lexicon_descriptions_reach_the_docs")
    script = block.text.replace("lexicon_docs >", f"lexicon_docs --target {database.target} >")
    copy = database.copy(tmp_path)
    schemas = {
        "Sign-up": {"description": "They | signed up.\n{% enddocs %} {{ 1 + 1 }}"},
        "Purchase": {"properties": {"total": {"type": "number", "description": "In €."}}},
    }
    project = FixedProject(
        schemas=[{"entityType": "event", "name": name, "schemaJson": schema} for name, schema in schemas.items()]
    )
    with Emulator(project) as emulator:
        copy.load(emulator.settings | {"streams": ["lexicon_schemas"]})
    shutil.copytree(PROJECT, tmp_path / "models")
    copy.shell(script.replace("docs generate", f"docs generate --target {database.target}"), tmp_path / "models")
    manifest = json.loads((tmp_path / "models" / "target" / "manifest.json").read_text())
    columns = manifest["nodes"]["model.mixpanel.events"]["columns"]
    names, properties = columns["event_name"]["description"], columns["properties"]["description"]
    assert "| Sign-up | They \\| signed up. &#123;% enddocs %} &#123;&#123; 1 + 1 }} |" in names
    assert "| Purchase |  |" in names
    assert "| Purchase | total | number | In €. |" in properties


@pytest.mark.parametrize("environment", ["duckdb", "dbt-postgres", "dbt-bigquery"])
def test_page_installs_the_tested_versions(environment: str) -> None:
    """The page installs what the tests' pinned lists are made from."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    needed = re.search(rf"^NEEDED_{environment} = (.*)$", makefile, re.MULTILINE)
    assert needed
    assert f"pip install {needed[1]}\n" in PAGE
