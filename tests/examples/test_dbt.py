"""examples/dbt over what target-duckdb loads, as docs/after-the-load.md tells it."""

from __future__ import annotations

import csv
import datetime as dt
import json
import re
import shutil
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject, SyntheticProject
from tests.docs.pages import marked
from tests.docs.programs import COMMANDS, ENVIRONMENT, ROOT, installed
from tests.records.reference import normalized

if TYPE_CHECKING:
    from pathlib import Path

MODELS = ROOT / "examples" / "dbt"
DOCS = (ROOT / "docs" / "after-the-load.md").read_text(encoding="utf-8")
FIRST_DAY = dt.date(2024, 1, 1)
# A state of midnight begins the day after; less the look-back of five days.
FIRST_EVENING, SECOND_EVENING = dt.date(2024, 1, 14), dt.date(2024, 1, 31)
READ_AGAIN_FROM = dt.date(2024, 1, 10)

Key = tuple[str, str, str]


def shell(script: str, folder: Path, **variables: str) -> str:
    path = f"{installed('duckdb', 'dbt').parent}:{COMMANDS}:{ENVIRONMENT['PATH']}"
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=ENVIRONMENT | {"PATH": path, "CHECKOUT": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(folder: Path, *options: str) -> str:
    where = f'--project-dir "{MODELS}" --profiles-dir "{MODELS}" --target-path "{folder}/dbt" --log-path "{folder}/dbt"'
    command = f"dbt --no-use-colors build {where} {' '.join(options)}"
    return shell(command, folder, MIXPANEL_DUCKDB=str(folder / "warehouse.duckdb"))


def ask(folder: Path, query: str) -> list[list[Any]]:
    """The rows of a query; instants as text, since the rows pass through JSON."""
    program = (
        "import duckdb, json, sys; connection = duckdb.connect('warehouse.duckdb');"
        "print(json.dumps(connection.execute(sys.argv[1]).fetchall(), default=str))"
    )
    done = subprocess.run(
        [installed("duckdb", "python"), "-c", program, query], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows: list[list[Any]] = json.loads(done.stdout)
    return rows


def evening(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(23, 59, 59), dt.UTC)


def seen_by_mixpanel(project: SyntheticProject, last: dt.date, now: dt.datetime) -> dict[Key, dict[str, Any]]:
    """The events by key, as an export at an instant has them."""
    records = [normalized(line) for line in project.lines(FIRST_DAY, last, now=now)]
    return {key(record["event_name"], record["event_time"], record["insert_id"]): record for record in records}


def key(name: Any, time: Any, insert_id: Any) -> Key:
    return str(name), dt.datetime.fromisoformat(str(time)).replace(tzinfo=dt.UTC).isoformat(), str(insert_id)


@pytest.fixture(scope="module")
def project() -> SyntheticProject:
    return SyntheticProject(first_day=FIRST_DAY, events_per_day=200, profiles=150)


@pytest.fixture(scope="module")
def loaded(project: SyntheticProject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database loaded on two evenings weeks apart, the second time with the state of the first.

    The models are built after each load, the second time from the days that were read again.
    """
    folder: Path = tmp_path_factory.mktemp("dbt")
    (folder / "target.json").write_text('{"path": "warehouse.duckdb", "default_target_schema": "mixpanel"}')
    state = ""
    for day in (FIRST_EVENING, SECOND_EVENING):
        with Emulator(project, now=partial(evening, day)) as emulator:
            config = emulator.settings | {"start_date": str(FIRST_DAY), "end_date": str(day)}
            (folder / "config.json").write_text(json.dumps(config))
            pipeline = "tap-mixpanel-stream --config config.json $STATE | target-duckdb --config target.json"
            states = shell(pipeline, folder, STATE=state)
        (folder / "state.json").write_text(states.splitlines()[-1])
        state = "--state state.json"
        build(folder)
    return folder


def test_events_read_before_and_after_a_merge_have_the_person_that_mixpanel_shows(
    project: SyntheticProject, loaded: Path
) -> None:
    now = evening(SECOND_EVENING)
    truth = seen_by_mixpanel(project, SECOND_EVENING, now)
    rows = ask(loaded, "SELECT event_name, event_time, insert_id, distinct_id, person_id FROM analytics.events")
    told = {
        record["properties"]["$distinct_id_before_identity"].strip('"')
        for record in truth.values()
        if "$distinct_id_before_identity" in record["properties"]
        and record["event_time"] >= READ_AGAIN_FROM.isoformat()
    }
    outdated = put_right = untold = 0
    for name, time, insert_id, distinct_id, person_id in rows:
        mixpanels = truth[key(name, time, insert_id)]["distinct_id"] or None
        outdated += distinct_id != mixpanels
        if distinct_id == mixpanels or distinct_id in told:
            assert person_id == mixpanels
            put_right += distinct_id != mixpanels
        else:
            # No row that was loaded names this device and its user.
            assert person_id == distinct_id
            untold += 1
    assert len(rows) == len(truth) - len(missed(project, truth))
    assert put_right > 10
    assert put_right + untold == outdated
    assert untold < put_right


def missed(project: SyntheticProject, truth: dict[Key, dict[str, Any]]) -> set[Key]:
    """Events of days that were not read again, which came in after they were read."""
    first = seen_by_mixpanel(project, FIRST_EVENING, evening(FIRST_EVENING))
    return {each for each in truth if each[1] < READ_AGAIN_FROM.isoformat() and each not in first}


def test_a_target_that_only_appends_leads_to_the_same_models(loaded: Path, tmp_path: Path) -> None:
    models = ("events", "people", "sessions", "funnel", "daily_active_users")
    before = {model: ask(loaded, f"FROM analytics.{model} ORDER BY ALL") for model in models}
    (tmp_path / "warehouse.duckdb").write_bytes((loaded / "warehouse.duckdb").read_bytes())
    for table in ("events", "profiles"):
        # The loaded tables have a primary key: what appends would have none.
        ask(
            tmp_path,
            f"BEGIN; CREATE TABLE copied AS FROM mixpanel.{table} UNION ALL FROM mixpanel.{table};"
            f"DROP TABLE mixpanel.{table}; CREATE TABLE mixpanel.{table} AS FROM copied; DROP TABLE copied; COMMIT",
        )
    [[twice]] = ask(tmp_path, "SELECT count(*) FROM mixpanel.events")
    assert twice == 2 * len(before["events"])
    build(tmp_path)
    assert {model: ask(tmp_path, f"FROM analytics.{model} ORDER BY ALL") for model in models} == before


def test_a_build_of_the_look_back_is_equal_to_a_full_one(loaded: Path, tmp_path: Path) -> None:
    """It leaves the days before the look-back alone, even if an event by a wrong clock lies in the future."""
    rows = "FROM analytics.stg_events ORDER BY ALL"
    before = ask(loaded, rows)
    (tmp_path / "warehouse.duckdb").write_bytes((loaded / "warehouse.duckdb").read_bytes())
    ask(
        tmp_path,
        "CREATE TABLE changed AS SELECT * REPLACE ('changed' AS city) FROM analytics.stg_events;"
        "INSERT INTO changed SELECT * REPLACE (timestamp '2024-06-01' AS event_time) FROM changed LIMIT 1;"
        "DROP TABLE analytics.stg_events; CREATE TABLE analytics.stg_events AS FROM changed; DROP TABLE changed",
    )
    build(tmp_path, "--select stg_events", "--exclude-resource-type test unit_test")
    # The last day less the look-back, and a day more.
    changed = "FROM analytics.stg_events WHERE city = 'changed' AND event_time < '2024-06-01'"
    assert ask(tmp_path, f"SELECT max(event_time)::date::varchar {changed}") == [["2024-01-25"]]
    build(tmp_path, "--full-refresh")
    assert ask(tmp_path, rows) == before


def test_columns_hold_what_the_properties_say(project: SyntheticProject, loaded: Path) -> None:
    columns = {"city": "$city", "browser_version": "$browser_version", "screen_width": "$screen_width", "plan": "plan"}
    rows = ask(loaded, f"SELECT event_name, event_time, insert_id, {', '.join(columns)} FROM analytics.events")  # noqa: S608
    truth = seen_by_mixpanel(project, SECOND_EVENING, evening(SECOND_EVENING))
    for name, time, insert_id, *values in rows:
        properties = truth[key(name, time, insert_id)]["properties"]
        assert values == [json.loads(properties[each]) for each in columns.values()]


def test_dbt_ends_in_an_error_where_a_rule_is_broken(loaded: Path, tmp_path: Path) -> None:
    (tmp_path / "warehouse.duckdb").write_bytes((loaded / "warehouse.duckdb").read_bytes())
    ask(
        tmp_path,
        "CREATE TABLE copied AS FROM mixpanel.events; UPDATE copied SET insert_id = NULL WHERE rowid = 0;"
        "DROP TABLE mixpanel.events; CREATE TABLE mixpanel.events AS FROM copied",
    )
    with pytest.raises(AssertionError, match="not_null_stg_events_insert_id"):
        build(tmp_path, "--full-refresh")


def test_the_commands_shown_lead_to_days(tmp_path: Path) -> None:
    mark = "checked by test_the_commands_shown_lead_to_days"
    scripts = [block.text for block in marked(DOCS, mark)]
    assert len(scripts) == 2
    project = SyntheticProject(first_day=FIRST_DAY, events_per_day=20, profiles=5)
    with Emulator(project) as emulator:
        config = emulator.settings | {"start_date": "2024-01-01", "end_date": "2024-01-10"}
        (tmp_path / "config.json").write_text(json.dumps(config))
        shown = shell(scripts[0], tmp_path)
        shell(scripts[1], tmp_path)
        lines = list(project.lines(FIRST_DAY, dt.date(2024, 1, 10), now=dt.datetime.now(dt.UTC)))
    assert "active_users" in shown
    with (tmp_path / "days.csv").open() as file:
        days = list(csv.DictReader(file))
    assert len(days) == 10
    keys = {key(record["event_name"], record["event_time"], record["insert_id"]) for record in map(normalized, lines)}
    assert sum(int(day["events"]) for day in days) == len(keys)


def test_descriptions_from_the_lexicon_reach_the_docs(loaded: Path, tmp_path: Path) -> None:
    """The commands of the page bring each event's and property's description into dbt's docs, whatever is in it."""
    [script] = marked(DOCS, "checked by test_descriptions_from_the_lexicon_reach_the_docs")
    (tmp_path / "warehouse.duckdb").write_bytes((loaded / "warehouse.duckdb").read_bytes())
    schemas = {
        "Sign-up": {"description": "They | signed up.\n{% enddocs %} {{ 1 + 1 }}"},
        "Purchase": {"properties": {"total": {"type": "number", "description": "In €."}}},
    }
    project = FixedProject(
        schemas=[{"entityType": "event", "name": name, "schemaJson": schema} for name, schema in schemas.items()]
    )
    (tmp_path / "target.json").write_text('{"path": "warehouse.duckdb", "default_target_schema": "mixpanel"}')
    with Emulator(project) as emulator:
        (tmp_path / "config.json").write_text(json.dumps(emulator.settings | {"streams": ["lexicon_schemas"]}))
        shell("tap-mixpanel-stream --config config.json | target-duckdb --config target.json", tmp_path)
    shutil.copytree(MODELS, tmp_path / "models")
    shell(script.text, tmp_path / "models", MIXPANEL_DUCKDB=str(tmp_path / "warehouse.duckdb"))
    manifest = json.loads((tmp_path / "models" / "target" / "manifest.json").read_text())
    columns = manifest["nodes"]["model.mixpanel.events"]["columns"]
    names, properties = columns["event_name"]["description"], columns["properties"]["description"]
    assert "| Sign-up | They \\| signed up. &#123;% enddocs %} &#123;&#123; 1 + 1 }} |" in names
    assert "| Purchase |  |" in names
    assert "| Purchase | total | number | In €. |" in properties


def test_what_the_page_installs_is_what_the_tests_run() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    needed = re.search(r"^NEEDED_duckdb = (.*)$", makefile, re.MULTILINE)
    assert needed
    assert f"pip install {needed[1]}\n" in DOCS
