"""ClickHouse: each file is one INSERT over HTTP; ReplacingMergeTree keeps the newest row of each key. Needs no package.

ClickHouse has no transaction over several inserts. After a kill between two of them the next run inserts the same rows
again, and `SELECT … FINAL` sees the newest of each key. User and password come from CLICKHOUSE_USER and
CLICKHOUSE_PASSWORD.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.parse
import urllib.request
from typing import IO, TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from bulk import Table

TYPES = {
    "string": "String",
    "date": "Date32",
    "date-time": "DateTime64(3, 'UTC')",
    "integer": "Int64",
    "number": "Float64",
    "boolean": "Bool",
    "json": "String",
}
SETTINGS = {
    "date_time_input_format": "best_effort",
    "input_format_json_read_objects_as_strings": "1",
    # A column that the table lacks is an error.
    "input_format_skip_unknown_fields": "0",
}


class Warehouse:
    """Loads into the database `mixpanel` of the ClickHouse at a URL. Objects and lists are JSON text."""

    tap_settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, destination: str) -> None:
        self._url = destination

    def load(self, tables: list[Table]) -> None:
        """Insert the files of each table, in their order."""
        self._run("CREATE DATABASE IF NOT EXISTS mixpanel")
        for table in tables:
            name = f'mixpanel."{table.name}"'
            columns = ", ".join(f'"{column}" {_type(table, column)}' for column in table.columns)
            key = ", ".join(f'"{column}"' for column in table.key)
            self._run(f"""
                CREATE TABLE IF NOT EXISTS {name} ({columns}, loaded_at DateTime64(6, 'UTC') DEFAULT now64(6))
                ENGINE = ReplacingMergeTree(loaded_at) ORDER BY ({key})
            """)
            for path in table.files:
                with path.open("rb") as file:
                    self._run(f"INSERT INTO {name} FORMAT JSONEachRow", file)

    def _run(self, query: str, body: IO[bytes] | None = None) -> None:
        headers = {
            "X-ClickHouse-User": os.environ.get("CLICKHOUSE_USER", "default"),
            "X-ClickHouse-Key": os.environ.get("CLICKHOUSE_PASSWORD", ""),
        }
        if body:
            headers |= {"Content-Encoding": "gzip", "Content-Length": str(os.fstat(body.fileno()).st_size)}
        url = f"{self._url}?{urllib.parse.urlencode({'query': query, **SETTINGS})}"
        request = urllib.request.Request(url, body or b"", headers)  # noqa: S310 - the user's own server
        try:
            with urllib.request.urlopen(request) as answer:  # noqa: S310
                answer.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"ClickHouse: {error.read().decode(errors='replace').strip()}") from None


def _type(table: Table, column: str) -> str:
    plain = TYPES[table.columns[column]]
    return plain if column in table.key else f"Nullable({plain})"
