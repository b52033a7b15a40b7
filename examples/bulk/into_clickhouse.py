"""Load batch files into ClickHouse with one INSERT per file over HTTP. Requires no package.

ReplacingMergeTree keeps the latest row of each key. ClickHouse has no transactions over several inserts. If a run is
killed between two inserts, the next run inserts the same rows again, and `SELECT … FINAL` returns the latest row of
each key. User and password are read from CLICKHOUSE_USER and CLICKHOUSE_PASSWORD.
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
    # Fail if the table does not have a column.
    "input_format_skip_unknown_fields": "0",
}


class Warehouse:
    """The database `mixpanel` of a ClickHouse server. Objects and arrays are stored as JSON text."""

    tap_settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, destination: str) -> None:
        self._url = destination

    def load(self, tables: list[Table]) -> None:
        """Insert the files of each table in order."""
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
        request = urllib.request.Request(url, body or b"", headers)  # noqa: S310 - the URL is trusted
        try:
            with urllib.request.urlopen(request) as response:  # noqa: S310
                response.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"ClickHouse: {error.read().decode(errors='replace').strip()}") from None


def _type(table: Table, column: str) -> str:
    plain = TYPES[table.columns[column]]
    return plain if column in table.key else f"Nullable({plain})"
