"""Load batch files into PostgreSQL with COPY into a temporary table and INSERT … ON CONFLICT.

Requires the package psycopg.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg

if TYPE_CHECKING:
    from bulk import Table

TYPES = {
    "string": "text",
    "date": "date",
    "date-time": "timestamptz",
    "integer": "bigint",
    # A double would reject 1e-400, which the tap delivers as it is.
    "number": "numeric",
    "boolean": "boolean",
    "json": "jsonb",
}
# JSON lines contain neither this quote character nor this delimiter, so each line is a single value.
COPY = r"COPY batch (line) FROM STDIN (FORMAT csv, QUOTE e'\x01', DELIMITER e'\x02')"
BLOCK = 1 << 20


class Warehouse:
    """The schema `mixpanel` of a PostgreSQL database."""

    tap_settings: ClassVar[dict[str, Any]] = {"strip_nul": True}

    def __init__(self, destination: str) -> None:
        self._connection = psycopg.connect(destination, autocommit=True, client_encoding="utf8")

    def load(self, tables: list[Table]) -> None:
        """Upsert the files of all tables in one transaction."""
        with self._connection.transaction():
            for table in tables:
                self._upsert(table)

    def _upsert(self, table: Table) -> None:
        name = f'mixpanel."{table.name}"'
        key = ", ".join(f'"{column}"' for column in table.key)
        declared = ", ".join(f'"{column}" {TYPES[type_]}' for column, type_ in table.columns.items())
        columns = ", ".join(f'"{column}"' for column in table.columns)
        values = ", ".join(
            f"nullif(line->'{column}', 'null')" if type_ == "json" else f"(line->>'{column}')::{TYPES[type_]}"
            for column, type_ in table.columns.items()
        )
        updates = ", ".join(f'"{column}" = EXCLUDED."{column}"' for column in table.columns)
        cursor = self._connection.cursor()
        cursor.execute("CREATE SCHEMA IF NOT EXISTS mixpanel")
        cursor.execute(f"CREATE TABLE IF NOT EXISTS {name} ({declared}, PRIMARY KEY ({key}))")
        cursor.execute("CREATE TEMP TABLE batch (n bigint GENERATED ALWAYS AS IDENTITY, line jsonb)")
        with cursor.copy(COPY) as copy:
            for path in table.files:
                with gzip.open(path) as lines:
                    while block := lines.read(BLOCK):
                        copy.write(block)
        cursor.execute(f"""
            INSERT INTO {name} ({columns})
            SELECT DISTINCT ON ({key}) {columns} FROM (SELECT n, {values} FROM batch) AS rows (n, {columns})
            ORDER BY {key}, n DESC
            ON CONFLICT ({key}) DO UPDATE SET {updates}
        """)  # noqa: S608 - the names are from the tap's schema
        cursor.execute("DROP TABLE batch")
