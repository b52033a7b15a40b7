"""Load batch files into DuckDB with `read_json`, then delete and insert by key. Requires the package duckdb."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import duckdb

if TYPE_CHECKING:
    from bulk import Table

TYPES = {
    "string": "VARCHAR",
    "date": "DATE",
    "date-time": "TIMESTAMP",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "json": "JSON",
}


class Warehouse:
    """The schema `mixpanel` of a DuckDB database file. Timestamps are in UTC."""

    tap_settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, destination: str) -> None:
        self._connection = duckdb.connect(destination)

    def load(self, tables: list[Table]) -> None:
        """Upsert the files of all tables in one transaction."""
        self._connection.begin()
        for table in tables:
            self._upsert(table)
        self._connection.commit()

    def _upsert(self, table: Table) -> None:
        name = f'mixpanel."{table.name}"'
        columns = {column: TYPES[type_] for column, type_ in table.columns.items()}
        key = ", ".join(f'"{column}"' for column in table.key)
        same = " AND ".join(f'old."{column}" = batch."{column}"' for column in table.key)
        declared = ", ".join(f'"{column}" {type_}' for column, type_ in columns.items())
        self._connection.execute(f"""
            CREATE SCHEMA IF NOT EXISTS mixpanel;
            CREATE TABLE IF NOT EXISTS {name} ({declared});
        """)
        self._connection.execute(
            """
            CREATE OR REPLACE TEMP TABLE batch AS
            FROM read_json($files, format = 'newline_delimited', compression = 'gzip', columns = $columns)
            """,
            {"files": [str(file) for file in table.files], "columns": columns},
        )
        self._connection.execute(f"""
            DELETE FROM {name} AS old USING batch WHERE {same};
            INSERT INTO {name} BY NAME FROM batch WHERE rowid IN (SELECT max(rowid) FROM batch GROUP BY {key});
        """)  # noqa: S608 - the names are from the tap's schema
