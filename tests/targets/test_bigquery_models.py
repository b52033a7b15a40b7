"""examples/dbt in local-bigquery, an emulator of BigQuery."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.docs.pages import marked, text_of
from tests.docs.programs import ENVIRONMENT, ROOT, installed
from tests.examples.dbt_databases import ALL_MODELS, DuckDB, Row, parsed, run
from tests.targets.loading import BigQuery

if TYPE_CHECKING:
    from tests.targets.bigquery import BigQuery as Server

PAGE = text_of("docs/after-the-load.md")
DBT = Path(__file__).with_name("bigquery_dbt.py")
# Their text contains a timestamp, which BigQuery writes with an offset.
IDS = {"event_id", "session_id"}
LAST_DAY = dt.date(2024, 1, 14)


@pytest.mark.weekly
def test_page_builds_the_models_in_bigquery(bigquery: Server, tmp_path: Path) -> None:
    """BigQuery has the same rows as DuckDB in every model, also after an incremental build."""
    [block] = marked(PAGE, "checked by test_page_builds_the_models_in_bigquery")
    duckdb, target = DuckDB(tmp_path / "duckdb"), BigQuery("bigquery", tmp_path, bigquery)
    duckdb.folder.mkdir()
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), events_per_day=20, profiles=30)
    with Emulator(project, now=lambda: dt.datetime.combine(LAST_DAY, dt.time(23, 59, 59), dt.UTC)) as emulator:
        days = {
            "start_date": "2024-01-01",
            "end_date": str(LAST_DAY),
            "streams": ["events", "profiles", "event_counts"],
        }
        duckdb.load(emulator.settings | days)
        assert target.load(emulator.settings | days | target.tap_settings()).codes == (0, 0)
    duckdb.build(ALL_MODELS)
    programs = tmp_path / "bin"
    programs.mkdir()
    dbt = programs / "dbt"
    dbt.write_text(f'#!/bin/sh\nexec "{installed("dbt-bigquery", "python")}" -Wignore "{DBT}" "$@"\n')
    dbt.chmod(0o755)
    variables = {
        "PATH": f"{programs}:{ENVIRONMENT['PATH']}",
        "CHECKOUT": str(ROOT),
        "GOOGLE_CLOUD_PROJECT": "warehouse",
    }
    script = f"set -e\n{block.text}\ndbt build --target bigquery {ALL_MODELS}\n"
    run(["/bin/bash", "-c", script], tmp_path, variables | dict(bigquery.environment))
    for name, rows in duckdb.models().items():
        assert sorted(map(comparable, target.ask(f"SELECT * FROM analytics.{name}")), key=str) == sorted(  # noqa: S608
            map(comparable, rows), key=str
        )


def comparable(row: Row) -> Row:
    """Return a row without ids, and with timestamps without an offset."""
    return {
        name: value.removesuffix("+00:00") if isinstance(value, str) else value
        for name, value in parsed(row).items()
        if name not in IDS
    }
