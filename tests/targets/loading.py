"""The targets with the settings of docs/targets.md, and how to read what they loaded."""

from __future__ import annotations

import abc
import csv
import datetime as dt
import gzip
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from tests.docs import pages
from tests.docs.programs import COMMANDS, ENVIRONMENT, installed
from tests.targets.source import Reading, Row, canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.targets import bigquery, clickhouse
    from tests.targets.object_storage import ObjectStorage
    from tests.targets.postgresql import Server

PAGE = "docs/targets.md"
BIGQUERY_CLIENT = Path(__file__).with_name("bigquery_client.py")
SNOWFLAKE_SHIMS = Path(__file__).with_name("snowflake_shims.py")
# A cell of a CSV file can contain a whole object.
csv.field_size_limit(sys.maxsize)

COLUMNS = {
    ("events", False): ("event_name", "event_time", "distinct_id", "insert_id", "properties"),
    ("events", True): ("event", "properties"),
    ("profiles", False): ("distinct_id", "last_seen", "properties"),
    ("profiles", True): ("$distinct_id", "$properties"),
}
KEYS = {
    ("events", False): ("event_name", "event_time", "insert_id"),
    ("profiles", False): ("distinct_id",),
    ("profiles", True): ("$distinct_id",),
}


def shown_settings(name: str) -> dict[str, Any]:
    """Return a configuration of docs/targets.md, empty if a target needs none."""
    shown: dict[str, Any] = json.loads(pages.named(PAGE).get(name, "{}"))
    return shown


@dataclass(frozen=True)
class Loaded:
    """The result of a pipeline.

    Attributes:
        codes: The exit codes of tap and target.
        states: The states that the target emitted, in order.
        log: The stderr of both.
    """

    codes: tuple[int, int]
    states: list[dict[str, Any]]
    log: str


class Target(abc.ABC):
    """A target that loads into a folder or a server.

    Args:
        folder: The folder of the run's files, in which the target runs.
        server: The PostgreSQL server, for those that need it.
    """

    environment: ClassVar[str]
    """The name of its folder in .venv-targets."""

    program: ClassVar[str]
    """Its command."""

    updates: ClassVar[bool]
    """Whether rows with a key are updated; appended otherwise."""

    needs: ClassVar[str | None] = None
    """The fixture of its server."""

    shapes: ClassVar[tuple[bool, ...]] = (False, True)
    """The values of `raw` that it accepts."""

    reading = Reading()
    """How it stores values."""

    def __init__(self, name: str, folder: Path, server: Any = None) -> None:
        self.name = name
        self.folder = folder
        self.server = server

    def settings(self) -> dict[str, Any]:
        """Return its configuration from the page."""
        return shown_settings(f"{self.environment}: target.json")

    def tap_settings(self) -> dict[str, Any]:
        """Return the tap's settings for it from the page."""
        return shown_settings(f"{self.name}: config.json")

    def key(self, stream: str, *, raw: bool) -> tuple[str, ...] | None:
        """Return the columns by which its rows are updated; None if they are appended."""
        return KEYS.get((stream, raw)) if self.updates else None

    def prepare(self, *, raw: bool) -> None:  # noqa: B027 - most need no preparation
        """Prepare the target for the first run."""

    @abc.abstractmethod
    def rows(self, stream: str, *, raw: bool) -> Iterator[Row]:
        """Yield its rows of a stream: text columns, and JSON columns in canonical form."""

    @abc.abstractmethod
    def ask(self, query: str) -> list[dict[str, Any]]:
        """Run a query of the page and return the rows."""

    def command(self) -> list[str]:
        """Return its command without options."""
        return [str(installed(self.environment, self.program))]

    def environment_variables(self) -> Mapping[str, str]:
        """Return its additional environment variables."""
        return {}

    def load(
        self,
        settings: Mapping[str, Any],
        state: Mapping[str, Any] | None = None,
        target_settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Loaded:
        """Run `tap | target`.

        Args:
            settings: The tap's settings.
            state: The state to continue from.
            target_settings: The target's settings, instead of the page's.
            environment: Additional variables of the target.
        """
        self.prepare(raw=settings.get("raw", False))
        tap = [str(COMMANDS / "tap-mixpanel-stream"), f"--config={self._file('config.json', settings)}"]
        if state is not None:
            tap.append(f"--state={self._file('state.json', state)}")
        own = self._file("target.json", self.settings() if target_settings is None else target_settings)
        target = [*self.command(), f"--config={own}"]
        log = self.folder / "log"
        with (
            log.open("w") as errors,
            subprocess.Popen(tap, stdout=subprocess.PIPE, stderr=errors, env=ENVIRONMENT) as source,
            subprocess.Popen(
                target,
                stdin=source.stdout,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=ENVIRONMENT | dict(self.environment_variables()) | dict(environment or {}),
                cwd=self.folder,
            ) as sink,
        ):
            assert source.stdout
            source.stdout.close()  # Only the target has the pipe open now, so the tap notices if it stops.
            out, _ = sink.communicate(timeout=300)
            codes = source.wait(60), sink.returncode
        return Loaded(codes, [json.loads(line) for line in out.splitlines()], log.read_text(encoding="utf-8"))

    def _file(self, name: str, content: Mapping[str, Any]) -> Path:
        path = self.folder / name
        path.write_text(json.dumps(content), encoding="utf-8")
        return path


class JsonLines(Target):
    """target-jsonl: a file for each stream and run, queried with DuckDB."""

    environment = "jsonl"
    program = "target-jsonl"
    updates = False

    def rows(self, stream: str, *, raw: bool) -> Iterator[Row]:
        """Yield the lines of all files."""
        for path in sorted((self.folder / "output").glob(f"{stream}-*.jsonl")):
            yield from _rows_of_lines(path.read_bytes(), COLUMNS[stream, raw], self.reading)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Run a query in DuckDB, in the folder of the files."""
        return list(query_duckdb(query, self.folder))


class Csv(Target):
    """meltanolabs-target-csv, flattened."""

    environment = "csv"
    program = "target-csv"
    updates = False
    reading = Reading(null="")

    def rows(self, stream: str, *, raw: bool) -> Iterator[Row]:
        """Yield the rows of all files."""
        for path in sorted((self.folder / "output").glob(f"{stream}-*.csv")):
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    assert tuple(row) == COLUMNS[stream, raw]
                    yield _row(row, self.reading)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Run a query in DuckDB, in the folder of the files."""
        return list(query_duckdb(query, self.folder))


class DuckDB(Target):
    """target-duckdb."""

    environment = "duckdb"
    program = "target-duckdb"
    updates = True
    reading = Reading(doubles=True, empty=None)

    def rows(self, stream: str, *, raw: bool) -> Iterator[Row]:
        """Yield the rows of the table."""
        columns = ", ".join(f'"{column}"::VARCHAR AS "{column}"' for column in COLUMNS[stream, raw])
        query = f"SELECT {columns} FROM mixpanel.{stream}"  # noqa: S608 - our own names
        yield from (_row(row, self.reading) for row in query_duckdb(query, self.folder, "warehouse.duckdb"))

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Run a query in the database."""
        return list(query_duckdb(query, self.folder, "warehouse.duckdb"))


class Postgres(Target):
    """meltanolabs-target-postgres, by records or by batch files."""

    environment = "postgres"
    program = "target-postgres"
    updates = True
    needs = "postgres"
    server: Server
    reading = Reading(without_nul=True)

    def settings(self) -> dict[str, Any]:
        """Return the page's configuration with the tests' server."""
        return super().settings() | self.server.address

    def tap_settings(self) -> dict[str, Any]:
        """Return the page's settings with a folder of the test for batch files."""
        return _with_folder(super().tap_settings(), self.folder)

    def rows(self, stream: str, *, raw: bool) -> Iterator[Row]:
        """Yield the rows of the table."""
        columns = ", ".join(f'"{column}"::text' for column in COLUMNS[stream, raw])
        query = f"SELECT {columns} FROM mixpanel.{stream}"  # noqa: S608 - our own names
        yield from (_row(row, self.reading) for row in self.server.rows(query))

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Run a query in the database."""
        return self.server.rows(query)


class ClickHouse(Target):
    """shaped-target-clickhouse: updates by ReplacingMergeTree in prepared tables; raw records are appended."""

    environment = "clickhouse"
    program = "target-clickhouse"
    updates = True
    needs = "clickhouse"
    reading = Reading(whole_seconds=True)
    server: clickhouse.ClickHouse

    def settings(self) -> dict[str, Any]:
        """Return the page's configuration with the tests' server."""
        return super().settings() | self.server.address

    def key(self, stream: str, *, raw: bool) -> tuple[str, ...] | None:
        """Return None for raw records."""
        return None if raw else super().key(stream, raw=raw)

    def prepare(self, *, raw: bool) -> None:
        """Create the tables of the page for normalized records."""
        if not raw:
            for statement in pages.named(PAGE)["clickhouse: tables"].split(";")[:-1]:
                self.server.run(statement)

    def rows(self, stream: str, *, raw: bool) -> Iterator[Row]:
        """Yield the rows of the table."""
        # The target removes the dollar sign from column names.
        columns = ", ".join(f'toString({column.removeprefix("$")}) AS "{column}"' for column in COLUMNS[stream, raw])
        query = f"SELECT {columns} FROM {stream} {'' if raw else 'FINAL'}"  # noqa: S608 - our own names
        yield from (_row(row, self.reading) for row in self.server.rows(query))

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Run a query in the database."""
        return self.server.rows(query)


class BigQuery(Target):
    """z3-target-bigquery with load jobs and `properties` as text; it accepts no raw records."""

    environment = "bigquery"
    program = "python"
    updates = True
    needs = "bigquery"
    shapes = (False,)
    server: bigquery.BigQuery

    def command(self) -> list[str]:
        """Return the command of the target without credentials."""
        return [*super().command(), "-Wignore", str(BIGQUERY_CLIENT), "load"]

    def environment_variables(self) -> Mapping[str, str]:
        """Return the variables with the emulator's address."""
        return self.server.environment

    def rows(self, stream: str, *, raw: bool) -> Iterator[Row]:
        """Yield the rows of the table."""
        columns = ", ".join(COLUMNS[stream, raw])
        rows = self.ask(f"SELECT {columns} FROM mixpanel.{stream}")  # noqa: S608 - our own names
        yield from (_row(row, self.reading) for row in rows)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Run a query on the server."""
        command = [*super().command(), "-Wignore", str(BIGQUERY_CLIENT), "ask"]
        return list(_answers_of(command, query, self.folder, self.server.environment))


class S3(Target):
    """plinxore-target-s3: gzip-compressed JSON lines."""

    environment = "s3"
    program = "target-s3"
    updates = False
    needs = "s3"
    server: ObjectStorage

    def settings(self) -> dict[str, Any]:
        """Return the page's configuration with the tests' server."""
        settings = super().settings()
        settings["cloud_provider"]["aws"]["aws_endpoint_override"] = self.server.url
        return settings

    def environment_variables(self) -> Mapping[str, str]:
        """Return the variables with the keys."""
        return self.server.environment

    def rows(self, stream: str, *, raw: bool) -> Iterator[Row]:
        """Yield the lines of all objects."""
        for path in sorted(self.server.bucket.glob(f"mixpanel/{stream}/**/*.jsonl.gz")):
            yield from _rows_of_lines(gzip.decompress(path.read_bytes()), COLUMNS[stream, raw], self.reading)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Run a query in DuckDB on the bucket's folder: its S3 extension is not in a package."""
        return list(query_duckdb(query.replace("s3://lake", str(self.server.bucket)), self.folder))


class Gcs(Target):
    """target-gcs: JSON lines, with `properties` as text."""

    environment = "gcs"
    program = "target-gcs"
    updates = False
    needs = "gcs"
    server: ObjectStorage

    def environment_variables(self) -> Mapping[str, str]:
        """Return the variables with the emulator's address."""
        return self.server.environment

    def rows(self, stream: str, *, raw: bool) -> Iterator[Row]:
        """Yield the lines of all objects."""
        for path in sorted(self.server.bucket.glob(f"mixpanel/{stream}_*.jsonl")):
            yield from _rows_of_lines(path.read_bytes(), COLUMNS[stream, raw], self.reading)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Run a query in DuckDB on the bucket's folder: its GCS extension is not in a package."""
        return list(query_duckdb(query.replace("gs://lake", str(self.server.bucket)), self.folder))


class Snowflake(Target):
    """meltanolabs-target-snowflake, by records or by batch files."""

    environment = "snowflake"
    program = "python"
    updates = True

    def command(self) -> list[str]:
        """Return the command of the target with the Snowflake emulator in the same process."""
        return [*super().command(), str(SNOWFLAKE_SHIMS), str(self._database), "load"]

    def tap_settings(self) -> dict[str, Any]:
        """Return the page's settings with a folder of the test for batch files."""
        return _with_folder(super().tap_settings(), self.folder)

    def rows(self, stream: str, *, raw: bool) -> Iterator[Row]:
        """Yield the rows of the table."""
        columns = ", ".join(f'"{column.upper()}" AS "{column}"' for column in COLUMNS[stream, raw])
        rows = self._answers(f"SELECT {columns} FROM mixpanel.{stream}")  # noqa: S608 - our own names
        yield from (_row(row, self.reading) for row in rows)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Run a query in the database, which has upper-case names."""
        return [{name.lower(): value for name, value in row.items()} for row in self._answers(query)]

    @property
    def _database(self) -> Path:
        folder = self.folder / "snowflake"
        folder.mkdir(exist_ok=True)
        return folder

    def _answers(self, query: str) -> Iterator[dict[str, Any]]:
        command = [*super().command(), str(SNOWFLAKE_SHIMS), str(self._database), "ask"]
        yield from _answers_of(command, query, self.folder)


TARGETS: dict[str, type[Target]] = {
    "postgres": Postgres,
    "postgres-batch": Postgres,
    "duckdb": DuckDB,
    "jsonl": JsonLines,
    "csv": Csv,
    "clickhouse": ClickHouse,
    "s3": S3,
    "gcs": Gcs,
    "bigquery": BigQuery,
    "snowflake": Snowflake,
    "snowflake-batch": Snowflake,
}

WEEKLY = {"bigquery", "snowflake", "snowflake-batch"}
"""Targets whose environment is too large for `make test`."""


def each_target() -> list[Any]:
    """Return all targets as parameters, with the weekly ones marked."""
    return [pytest.param(name, marks=pytest.mark.weekly if name in WEEKLY else ()) for name in TARGETS]


def new_target(name: str, request: pytest.FixtureRequest, folder: Path) -> Target:
    """Return an empty target, and start the server that it needs."""
    target = TARGETS[name]
    return target(name, folder, request.getfixturevalue(target.needs) if target.needs else None)


_ASK = """
import duckdb, json, sys
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[1] != ":memory:")
answer = connection.execute(sys.stdin.read())
names = [column[0] for column in answer.description]
for row in answer.fetchall():
    print(json.dumps(dict(zip(names, row)), default=str))
"""


def query_duckdb(query: str, folder: Path, database: str = ":memory:") -> Iterator[dict[str, Any]]:
    """Run a query in target-duckdb's version of DuckDB, with paths relative to the folder."""
    yield from _answers_of([str(installed("duckdb", "python")), "-c", _ASK, database], query, folder)


def _answers_of(
    command: list[str], query: str, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """Pass a query to a program and parse the rows that it prints."""
    done = subprocess.run(
        command,
        input=query,
        cwd=folder,
        env=ENVIRONMENT | dict(environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    yield from (json.loads(line) for line in done.stdout.split("\n")[:-1])


def _with_folder(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the tap's settings with batch files, if any, in a folder of the test."""
    if "batch_config" in settings:
        batches = folder / "batches"
        batches.mkdir(exist_ok=True)
        settings["batch_config"]["storage"]["root"] = batches.as_uri()
    return settings


def _rows_of_lines(lines: bytes, columns: Iterable[str], reading: Reading) -> Iterator[Row]:
    for line in lines.splitlines():
        record = reading.parse(line)
        yield {column: _member(column, record[column], reading) for column in columns}


def _member(column: str, value: Any, reading: Reading) -> str | None:
    if column.endswith("properties"):  # an object or its text
        return reading.json(value) if isinstance(value, str) else canonical_json(value)
    return _instant(value) if column == "event_time" else _plain(value)


def _row(row: Mapping[str, str | None], reading: Reading) -> Row:
    return {column: _value(column, value, reading) for column, value in row.items()}


def _value(column: str, value: str | None, reading: Reading) -> str | None:
    if value is None:
        return None
    if column.endswith("properties"):
        return reading.json(value)
    return _instant(value) if column == "event_time" else value


def _instant(text: str) -> str:
    """Return an instant in the tap's format; without a zone it is UTC."""
    moment = dt.datetime.fromisoformat(text)
    moment = moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")


def _plain(value: Any) -> str | None:
    """Return a value as text, also if it is a number."""
    return str(value["number"]) if isinstance(value, dict) else value
