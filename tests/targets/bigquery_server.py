"""A BigQuery emulator: local-bigquery, which translates GoogleSQL for DuckDB and serves BigQuery's REST API.

    PYTHON_WITH_LOCAL_BIGQUERY bigquery_server.py FOLDER PORT GRPC_PORT

Shims: DuckDB loads its extensions from packages instead of the network; uploads are decompressed, since DuckDB detects
gzip by file name. Not emulated: permissions, quotas of load jobs, the streaming buffer, limits of rows and columns.
"""

from __future__ import annotations

import gzip
import shutil
import sys
from pathlib import Path
from typing import Any

import duckdb
from local_bigquery import cli
from local_bigquery.jobs import runner

FOLDER, PORT, GRPC_PORT = sys.argv[1:]
GZIP = b"\x1f\x8b"
_connect, _load = duckdb.connect, runner.HANDLERS["load"]


def connect(*place: Any, config: dict[str, Any] | None = None, **options: Any) -> Any:
    """Connect to a database with its extensions in the folder."""
    return _connect(*place, config={"extension_directory": f"{FOLDER}/extensions", **(config or {})}, **options)


def load(cursor: Any, config: Any, upload: str | None) -> Any:
    """Decompress an upload and load it."""
    if upload and (content := Path(upload).read_bytes()).startswith(GZIP):
        Path(upload).write_bytes(gzip.decompress(content))
    return _load(cursor, config, upload)


def main() -> None:
    """Serve until the process is ended."""
    packages = Path(duckdb.__file__).parents[1]
    for file in packages.glob("duckdb_extension_*/extensions/*/*.duckdb_extension"):
        platform = Path(FOLDER, "extensions", file.parent.name, duckdb.sql("PRAGMA platform").fetchall()[0][0])
        platform.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, platform)
    duckdb.connect, runner.HANDLERS["load"] = connect, load
    options = ["--host=127.0.0.1", f"--port={PORT}", f"--grpc-port={GRPC_PORT}", "--project=warehouse"]
    sys.argv[1:] = ["serve", *options, f"--data-dir={FOLDER}/data"]
    cli.main()


if __name__ == "__main__":
    main()
