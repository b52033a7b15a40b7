"""The databases in which the tests build the dbt models."""

from __future__ import annotations

import abc
import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tests.docs.programs import COMMANDS, ENVIRONMENT, ROOT, installed
from tests.targets.loading import shown_settings
from tests.targets.postgresql import DATABASE, Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

PROJECT = ROOT / "examples" / "dbt"
MODELS = sorted(path.stem for path in PROJECT.glob("models/**/*.sql"))
# The two evenings of the tests miss events by design, so the counts differ.
ALL_MODELS = "--vars '{event_counts_loaded: true, count_tolerance: 1}'"

Row = dict[str, Any]


@dataclass(frozen=True)
class Database(abc.ABC):
    """A database with loaded tables and models.

    Attributes:
        folder: The folder of the configurations and of dbt's output.
    """

    environment: ClassVar[str]
    """The folder in .venv-targets with dbt and a Python client."""

    target: ClassVar[str]
    """The folder in .venv-targets with the target, and the name of dbt's output in profiles.yml."""

    query_program: ClassVar[str]
    """Python code that runs the SQL in its argument and prints the rows."""

    folder: Path

    @abc.abstractmethod
    def variables(self) -> dict[str, str]:
        """Return the environment variables of the connection."""

    @abc.abstractmethod
    def target_settings(self) -> Mapping[str, Any]:
        """Return the configuration of the target."""

    @abc.abstractmethod
    def copy(self, folder: Path) -> Database:
        """Copy the database."""

    def shell(self, script: str, folder: Path | None = None) -> str:
        """Run a script with the tap, the target and dbt on the PATH, and return its output."""
        programs = installed(self.environment, "dbt").parent, installed(self.target, f"target-{self.target}").parent
        path = ":".join(map(str, (*programs, COMMANDS, ENVIRONMENT["PATH"])))
        return run(
            ["/bin/bash", "-euo", "pipefail", "-c", script],
            folder or self.folder,
            {"PATH": path, "CHECKOUT": str(ROOT)} | self.variables(),
        )

    def load(self, settings: Mapping[str, Any], options: str = "") -> str:
        """Run the tap and the target, and return the states."""
        for name, content in (("config", settings), ("target", self.target_settings())):
            (self.folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        tap = f"tap-mixpanel-stream --config config.json {options}"
        return self.shell(f"{tap} | target-{self.target} --config target.json")

    def build(self, *options: str, project: Path = PROJECT) -> str:
        """Run `dbt build`, and return its output."""
        output = f'--target-path "{self.folder}/dbt" --log-path "{self.folder}/dbt"'
        where = f'--project-dir "{project}" --profiles-dir "{project}" --target {self.target} {output}'
        return self.shell(f"dbt --no-use-colors build {where} {' '.join(options)}")

    def query(self, sql: str) -> list[Row]:
        """Run SQL, and return the rows of its last statement. Timestamps are text, JSON is parsed."""
        command = [str(installed(self.environment, "python")), "-c", self.query_program, sql]
        return [parsed(json.loads(line)) for line in run(command, self.folder, self.variables()).splitlines()]

    def models(self, names: Iterable[str] = MODELS) -> dict[str, list[Row]]:
        """Return the rows of models, sorted."""
        return {name: sorted(self.query(f"SELECT * FROM analytics.{name}"), key=str) for name in names}  # noqa: S608


class DuckDB(Database):
    """A DuckDB file in the folder."""

    environment = target = "duckdb"
    query_program = """
import duckdb, json, sys
result = duckdb.connect("warehouse.duckdb").execute(sys.argv[1])
names = [column[0] for column in result.description]
for row in result.fetchall():
    print(json.dumps(dict(zip(names, row)), default=str))
"""

    def variables(self) -> dict[str, str]:
        """Return the variable with the path of the file."""
        return {"MIXPANEL_DUCKDB": str(self.folder / "warehouse.duckdb")}

    def target_settings(self) -> Mapping[str, Any]:
        """Return the configuration of target-duckdb."""
        return {"path": "warehouse.duckdb", "default_target_schema": "mixpanel"}

    def copy(self, folder: Path) -> DuckDB:
        """Copy the file."""
        shutil.copy(self.folder / "warehouse.duckdb", folder)
        return DuckDB(folder)


@dataclass(frozen=True)
class PostgreSQL(Database):
    """A PostgreSQL database.

    Attributes:
        server: Its server.
        name: Its name.
    """

    environment = "dbt-postgres"
    target = "postgres"
    query_program = """
import json, psycopg2, sys
connection = psycopg2.connect("")
connection.autocommit = True
cursor = connection.cursor()
cursor.execute(sys.argv[1])
names = [column.name for column in cursor.description or ()]
for row in cursor.fetchall() if names else ():
    print(json.dumps(dict(zip(names, row)), default=str))
"""

    server: Server
    name: str = DATABASE

    def variables(self) -> dict[str, str]:
        """Return the variables of libpq."""
        address = self.server.address | {"database": self.name}
        names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "database": "DATABASE"}
        return {f"PG{names[name]}": str(value) for name, value in address.items()}

    def target_settings(self) -> Mapping[str, Any]:
        """Return the configuration of target-postgres."""
        return shown_settings("postgres: target.json") | self.server.address | {"database": self.name}

    def copy(self, folder: Path) -> PostgreSQL:
        """Create a database from this one."""
        copy = PostgreSQL(folder, self.server, f"{self.name}_copy")
        self.server.run(f"DROP DATABASE IF EXISTS {copy.name} WITH (FORCE)", "postgres")
        self.server.run(f"CREATE DATABASE {copy.name} TEMPLATE {self.name}", "postgres")
        return copy


def run(command: list[str], folder: Path, variables: Mapping[str, str]) -> str:
    """Run a program, and return its output. Fail if its exit code is not 0."""
    environment = ENVIRONMENT | dict(variables)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def parsed(row: Row) -> Row:
    """Return a row with its properties parsed, which DuckDB returns as text."""
    if isinstance(row.get("properties"), str):
        row["properties"] = json.loads(row["properties"])
    return row
