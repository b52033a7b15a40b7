"""The targets, each with the settings of docs/targets.md, and what can be read from them afterwards."""

from __future__ import annotations

import abc
import csv
import datetime as dt
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tests.docs import pages
from tests.docs.programs import COMMANDS, ENVIRONMENT, installed
from tests.targets.source import Reading, Row, spelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.targets.postgresql import Server

PAGE = "docs/targets.md"
# A cell of a CSV file holds a whole object.
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
    """A configuration that docs/targets.md shows; empty where a target needs none."""
    shown: dict[str, Any] = json.loads(pages.named(PAGE).get(name, "{}"))
    return shown


@dataclass(frozen=True)
class Loaded:
    """How a pipeline ended.

    Attributes:
        codes: The exit codes of tap and target.
        states: What the target handed on, in order.
        log: What both said on stderr.
    """

    codes: tuple[int, int]
    states: list[dict[str, Any]]
    log: str


class Target(abc.ABC):
    """A target that loads into a folder or a server.

    Args:
        folder: Where the run's files are; the target runs there.
        server: The PostgreSQL server, for those that need it.
    """

    environment: ClassVar[str]
    """The name of its folder in .venv-targets."""

    program: ClassVar[str]
    """Its command."""

    updates: ClassVar[bool]
    """Whether rows with a key are updated; appended otherwise."""

    reading = Reading()
    """How it holds values."""

    def __init__(self, name: str, folder: Path, server: Server | None = None) -> None:
        self.name = name
        self.folder = folder
        self.server = server

    def settings(self) -> dict[str, Any]:
        """Its configuration: that of the page."""
        return shown_settings(f"{self.environment}: target.json")

    def tap_settings(self) -> dict[str, Any]:
        """What the tap needs for it: that of the page."""
        return shown_settings(f"{self.name}: config.json")

    @abc.abstractmethod
    def rows(self, stream: str, *, raw: bool) -> Iterator[Row]:
        """What is in it of a stream: text columns, JSON columns in one spelling."""

    @abc.abstractmethod
    def ask(self, query: str) -> list[dict[str, Any]]:
        """Ask it what the page asks, and return the rows."""

    def load(
        self,
        settings: Mapping[str, Any],
        state: Mapping[str, Any] | None = None,
        target_settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Loaded:
        """Run `tap | target`.

        Args:
            settings: The tap's.
            state: The state to go on from.
            target_settings: In place of those of the page.
            environment: The target's, besides.
        """
        tap = [str(COMMANDS / "tap-mixpanel-stream"), f"--config={self._file('config.json', settings)}"]
        if state is not None:
            tap.append(f"--state={self._file('state.json', state)}")
        own = self._file("target.json", self.settings() if target_settings is None else target_settings)
        target = [str(installed(self.environment, self.program)), f"--config={own}"]
        log = self.folder / "log"
        with (
            log.open("w") as errors,
            subprocess.Popen(tap, stdout=subprocess.PIPE, stderr=errors, env=ENVIRONMENT) as source,
            subprocess.Popen(
                target,
                stdin=source.stdout,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=ENVIRONMENT | dict(environment or {}),
                cwd=self.folder,
            ) as sink,
        ):
            assert source.stdout
            source.stdout.close()  # only the target holds it now: should it stop, the tap notices
            out, _ = sink.communicate(timeout=300)
            codes = source.wait(60), sink.returncode
        return Loaded(codes, [json.loads(line) for line in out.splitlines()], log.read_text(encoding="utf-8"))

    def _file(self, name: str, content: Mapping[str, Any]) -> Path:
        path = self.folder / name
        path.write_text(json.dumps(content), encoding="utf-8")
        return path


class JsonLines(Target):
    """target-jsonl: a file for each stream and run, read back by DuckDB where it is asked something."""

    environment = "jsonl"
    program = "target-jsonl"
    updates = False

    def rows(self, stream: str, *, raw: bool) -> Iterator[Row]:
        """The lines of all files."""
        for path in sorted((self.folder / "output").glob(f"{stream}-*.jsonl")):
            for line in path.read_bytes().splitlines():
                record = self.reading.parse(line)
                yield {
                    column: spelled(record[column]) if column.endswith("properties") else _plain(record[column])
                    for column in COLUMNS[stream, raw]
                }

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Ask DuckDB, in the folder where the files are."""
        return list(asked_of_duckdb(query, self.folder))


class Csv(Target):
    """meltanolabs-target-csv, flattened."""

    environment = "csv"
    program = "target-csv"
    updates = False
    reading = Reading(null="")

    def rows(self, stream: str, *, raw: bool) -> Iterator[Row]:
        """The rows of all files."""
        for path in sorted((self.folder / "output").glob(f"{stream}-*.csv")):
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    assert tuple(row) == COLUMNS[stream, raw]
                    yield _row(row, self.reading)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Ask DuckDB, in the folder where the files are."""
        return list(asked_of_duckdb(query, self.folder))


class DuckDB(Target):
    """target-duckdb."""

    environment = "duckdb"
    program = "target-duckdb"
    updates = True
    reading = Reading(doubles=True, empty=None)

    def rows(self, stream: str, *, raw: bool) -> Iterator[Row]:
        """The rows of the table."""
        columns = ", ".join(f'"{column}"::VARCHAR AS "{column}"' for column in COLUMNS[stream, raw])
        query = f"SELECT {columns} FROM mixpanel.{stream}"  # noqa: S608 - our own names
        yield from (_row(row, self.reading) for row in asked_of_duckdb(query, self.folder, "warehouse.duckdb"))

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Ask the database."""
        return list(asked_of_duckdb(query, self.folder, "warehouse.duckdb"))


class Postgres(Target):
    """meltanolabs-target-postgres, by records or by batch files."""

    environment = "postgres"
    program = "target-postgres"
    updates = True
    reading = Reading(without_nul=True)

    def settings(self) -> dict[str, Any]:
        """The page's, with the tests' own server."""
        assert self.server
        return super().settings() | self.server.address

    def tap_settings(self) -> dict[str, Any]:
        """The page's, with a folder of the test's own where files go."""
        settings = super().tap_settings()
        if "batch_config" in settings:
            batches = self.folder / "batches"
            batches.mkdir(exist_ok=True)
            settings["batch_config"]["storage"]["root"] = batches.as_uri()
        return settings

    def rows(self, stream: str, *, raw: bool) -> Iterator[Row]:
        """The rows of the table."""
        assert self.server
        columns = ", ".join(f'"{column}"::text' for column in COLUMNS[stream, raw])
        query = f"SELECT {columns} FROM mixpanel.{stream}"  # noqa: S608 - our own names
        yield from (_row(row, self.reading) for row in self.server.rows(query))

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Ask the database."""
        assert self.server
        return self.server.rows(query)


TARGETS: dict[str, type[Target]] = {
    "postgres": Postgres,
    "postgres-batch": Postgres,
    "duckdb": DuckDB,
    "jsonl": JsonLines,
    "csv": Csv,
}

_ASK = """
import duckdb, json, sys
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[1] != ":memory:")
answer = connection.execute(sys.stdin.read())
names = [column[0] for column in answer.description]
for row in answer.fetchall():
    print(json.dumps(dict(zip(names, row)), default=str))
"""


def asked_of_duckdb(query: str, folder: Path, database: str = ":memory:") -> Iterator[dict[str, Any]]:
    """Run a query in DuckDB, in the version that target-duckdb works with; paths in it start from the folder."""
    command = [str(installed("duckdb", "python")), "-c", _ASK, database]
    done = subprocess.run(
        command, input=query, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    yield from (json.loads(line) for line in done.stdout.split("\n")[:-1])


def _row(row: Mapping[str, str | None], reading: Reading) -> Row:
    return {column: _value(column, value, reading) for column, value in row.items()}


def _value(column: str, value: str | None, reading: Reading) -> str | None:
    if value is None:
        return None
    if column.endswith("properties"):
        return reading.json(value)
    return _instant(value) if column == "event_time" else value


def _instant(text: str) -> str:
    """An instant as the tap spells it; those of a column without a zone are UTC."""
    moment = dt.datetime.fromisoformat(text)
    moment = moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")


def _plain(value: Any) -> str | None:
    """A text, or a number that came as one, as text."""
    return str(value["number"]) if isinstance(value, dict) else value
