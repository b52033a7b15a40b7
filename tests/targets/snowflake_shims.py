"""A Snowflake emulator: fakesnow, which translates its SQL for DuckDB, and the user's stage, which fakesnow lacks.

    PYTHON_WITH_FAKESNOW snowflake_shims.py FOLDER load OPTIONS…    target-snowflake, with its own options
    PYTHON_WITH_FAKESNOW snowflake_shims.py FOLDER ask              a query from stdin, its rows as JSON lines

The database is in the folder. Shims: PUT into `@~` copies a file into the folder, REMOVE deletes it; MERGE and COPY
from `@~` read a table with a line of the staged files in each row; file formats are accepted and ignored. Not emulated:
roles, warehouses, the limit of VARIANT (16 MB) and several sessions at a time.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fakesnow
import snowflake.connector
from fakesnow.cursor import FakeSnowflakeCursor

FOLDER = Path(sys.argv[1])
STAGE = FOLDER / "stage"
DATABASE, SCHEMA = "WAREHOUSE", "MIXPANEL"
FROM_STAGE = re.compile(r"from\s+'@~/([^']+)'(\s*\(\s*file_format => [^)]*\))?")
_execute = FakeSnowflakeCursor.execute


def execute(cursor: FakeSnowflakeCursor, command: str, params: Any = None, **options: Any) -> Any:
    """Run a statement, or emulate it for the stage."""
    statement = command.strip()
    word = statement.split(None, 1)[0].lower()
    if word == "put":
        url, place = re.findall(r"'([^']*)'", statement % {n: f"'{v}'" for n, v in (params or {}).items()})[:2]
        file = Path(unquote(urlsplit(url).path))
        folder = STAGE / place.removeprefix("@~/")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / file.name)
        return _execute(cursor, "select 1")
    if word == "remove":
        shutil.rmtree(STAGE / re.findall(r"'@~/([^']*)'", statement)[0], ignore_errors=True)
        return _execute(cursor, "select 1")
    if re.match(r"(create or replace|drop) file format", statement, re.IGNORECASE):
        return _execute(cursor, "select 1")
    if found := FROM_STAGE.search(statement):
        return _from_stage(cursor, statement, found)
    return _execute(cursor, command, params, **options)


def _from_stage(cursor: FakeSnowflakeCursor, statement: str, found: re.Match[str]) -> Any:
    files = sorted(str(path) for path in (STAGE / found[1]).iterdir())
    # Streams are loaded concurrently.
    staged = f'{DATABASE}.{SCHEMA}."{found[1]}"'
    rows = f'{DATABASE}.{SCHEMA}."{found[1]}/rows"'
    _execute(cursor, f"use schema {DATABASE}.{SCHEMA}")
    _execute(cursor, f"create or replace table {staged} (number int, line variant)")
    lines = "SELECT row_number() OVER (), json FROM read_json_objects(?, format = 'newline_delimited')"
    cursor._duck_conn.execute(f"INSERT INTO {staged} {lines}", [files])
    statement = FROM_STAGE.sub(f"from {staged}", statement).replace("$1:", "line:").replace("SEQ8()", "number")
    if merge := re.fullmatch(r"(merge into \S+ d using )\((.*)\)( s on .*)", statement, re.DOTALL):
        _execute(cursor, f"create or replace table {rows} as {merge[2]}")
        return _execute(cursor, f"{merge[1]}{rows}{merge[3]}")
    copy = re.fullmatch(r"copy into (\S+ \(.*?\)) from \((.*)\)\s*file_format = \(.*\)", statement, re.DOTALL)
    assert copy, statement
    _execute(cursor, f"insert into {copy[1]} {copy[2]}")
    return _execute(cursor, f"select 'file' f, 'LOADED' s, count(*) p, count(*) l from {staged}")  # noqa: S608 - our own names


def main() -> None:
    """Run the target or a query."""
    FakeSnowflakeCursor.execute = execute
    FakeSnowflakeCursor._inline_variables = lambda _, command: command  # it reads "$city" as a session variable
    with fakesnow.patch(db_path=FOLDER):
        if sys.argv[2] == "load":
            from target_snowflake.target import TargetSnowflake  # noqa: PLC0415 - not needed for a query

            sys.argv[1:] = sys.argv[3:]
            TargetSnowflake.cli()
        connection = snowflake.connector.connect(database=DATABASE, schema=SCHEMA)
        cursor = connection.cursor(snowflake.connector.DictCursor)
        for row in cursor.execute(sys.stdin.read()).fetchall():
            sys.stdout.write(json.dumps(row, default=str) + "\n")


if __name__ == "__main__":
    main()
