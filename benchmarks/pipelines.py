"""Complete pipelines: the tap with each target, and the bulk loaders of examples/bulk.

Each row of the table is a load of the same events and profiles into an empty destination. Tap and loader are measured
separately. Neither figure includes the CPU of a separate database server. DuckDB runs in the process of its loader.
"""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.targets import clickhouse, postgresql

from .data import FIRST_DAY, last_day
from .emulator_process import run_emulator
from .processes import RunFailedError, cost_in, measured_command, run, run_pipeline
from .programs import TAP
from .report import progress
from .virtualenvs import ROOT, NotInstalledError, python_with, version_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .emulator_process import EmulatorServer

    Settings = dict[str, Any]

EVENTS, PROFILES, ROUNDS = 50_000, 1_500, 2
QUICK_EVENTS, QUICK_PROFILES, QUICK_ROUNDS = 4_000, 200, 1

_PIPELINEWISE = "pipelinewise-target-postgres"
_BULK = ROOT / "examples" / "bulk" / "bulk.py"


@dataclass(frozen=True)
class Workspace:
    """The resources of a run.

    Attributes:
        folder: Empty temporary folder.
        postgres: PostgreSQL server with an empty database.
        clickhouse: ClickHouse server with an empty database.
    """

    folder: Path
    postgres: postgresql.Server
    clickhouse: clickhouse.ClickHouse

    @property
    def postgres_url(self) -> str:
        """The connection URL of PostgreSQL, without the password."""
        return "postgresql://{user}@{host}:{port}/{database}".format(**self.postgres.address)

    @property
    def clickhouse_url(self) -> str:
        """The URL of ClickHouse's HTTP interface."""
        return f"http://127.0.0.1:{self.clickhouse.port}/"

    def config(self, name: str, settings: Settings) -> str:
        """Write a configuration file and return its path."""
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(settings))
        return str(path)


@dataclass(frozen=True)
class Pipeline:
    """A tap with a target or bulk loader.

    Attributes:
        name: Name in the table.
        loader: Function that returns the command line of the target or bulk loader; None for the tap alone.
        tap_settings: Additional settings of the tap.
        is_bulk: Whether the loader is a bulk loader, which runs the tap itself.
        in_batches: Whether the tap writes batch files to the folder `batches`.
        is_quick: Whether a quick run includes the pipeline.
    """

    name: str
    loader: Callable[[Workspace], list[str]] | None = None
    tap_settings: Settings = field(default_factory=dict)
    is_bulk: bool = False
    in_batches: bool = False
    is_quick: bool = False


@dataclass
class Load:
    """The results of a pipeline.

    Attributes:
        pipeline: The pipeline.
        events: Number of loaded events.
        rounds: Wall time, CPU of the tap and CPU of the loader in each round, in seconds.
        failure: Reason why the pipeline did not run; empty if it ran.
    """

    pipeline: Pipeline
    events: int
    rounds: list[tuple[float, float, float]] = field(default_factory=list)
    failure: str = ""

    @property
    def wall(self) -> float:
        """Wall time in seconds, the median."""
        return median(wall for wall, _, _ in self.rounds)

    @property
    def tap_cpu(self) -> float:
        """CPU of the tap in seconds, the median."""
        return median(cpu for _, cpu, _ in self.rounds)

    @property
    def loader_cpu(self) -> float:
        """CPU of the target or loader in seconds, the median."""
        return median(cpu for _, _, cpu in self.rounds)


# --- Targets ---------------------------------------------------------------------------------------------------------


def _installed(environment: str, program: str) -> str:
    """Return the path of a program in the virtual environment of a target.

    Raises:
        NotInstalledError: The program is missing.
    """
    path = ROOT / ".venv-targets" / environment / "bin" / program
    if not path.exists():
        raise NotInstalledError(f"{program} is not installed: run `make .venv-targets/{environment}/ready`")
    return str(path)


def _jsonl(workspace: Workspace) -> list[str]:
    config = workspace.config("target", {"destination_path": str(workspace.folder)})
    return [_installed("jsonl", "target-jsonl"), "--config", config]


def _duckdb(workspace: Workspace) -> list[str]:
    settings = {"path": str(workspace.folder / "warehouse.duckdb"), "default_target_schema": "mixpanel"}
    config = workspace.config("target", {**settings, "primary_key_required": False})
    return [_installed("duckdb", "target-duckdb"), "--config", config]


def _postgres(**settings: Any) -> Callable[[Workspace], list[str]]:
    def command(workspace: Workspace) -> list[str]:
        target_config = {**workspace.postgres.address, "default_target_schema": "mixpanel", **settings}
        return [_installed("postgres", "target-postgres"), "--config", workspace.config("target", target_config)]

    return command


def _pipelinewise(workspace: Workspace) -> list[str]:
    address = dict(workspace.postgres.address)
    target_config = {**address, "dbname": address.pop("database"), "default_target_schema": "mixpanel"}
    program = python_with(_PIPELINEWISE).with_name("target-postgres")
    return [str(program), "--config", workspace.config("target", {**target_config, "primary_key_required": False})]


def _bulk(warehouse: str, destination: Callable[[Workspace], str]) -> Callable[[Workspace], list[str]]:
    def command(workspace: Workspace) -> list[str]:
        state = f"--state={workspace.folder / 'state.json'}"
        return [_installed(warehouse, "python"), str(_BULK), warehouse, destination(workspace), state]

    return command


_POSTGRES_TAP_SETTINGS = {"strip_nul": True}
_MELTANO_TARGET = f"meltanolabs-target-postgres {version_of('meltanolabs-target-postgres')}"

PIPELINES = (
    Pipeline("this tap alone", is_quick=True),
    Pipeline(f"target-jsonl {version_of('target-jsonl')}", _jsonl, is_quick=True),
    Pipeline(f"target-duckdb {version_of('target-duckdb')}", _duckdb),
    Pipeline(f"{_MELTANO_TARGET}, INSERT", _postgres(), _POSTGRES_TAP_SETTINGS),
    Pipeline(f"{_MELTANO_TARGET}, COPY", _postgres(use_copy=True), _POSTGRES_TAP_SETTINGS),
    Pipeline(
        f"{_MELTANO_TARGET}, COPY, without validation",
        _postgres(use_copy=True, validate_records=False),
        _POSTGRES_TAP_SETTINGS,
    ),
    Pipeline(
        f"{_MELTANO_TARGET}, COPY, batch files",
        _postgres(use_copy=True),
        _POSTGRES_TAP_SETTINGS,
        in_batches=True,
        is_quick=True,
    ),
    Pipeline(f"{_PIPELINEWISE} {version_of(_PIPELINEWISE)}", _pipelinewise, _POSTGRES_TAP_SETTINGS),
    Pipeline(
        "`examples/bulk`, DuckDB",
        _bulk("duckdb", lambda workspace: str(workspace.folder / "warehouse.duckdb")),
        is_bulk=True,
        is_quick=True,
    ),
    Pipeline(
        "`examples/bulk`, PostgreSQL",
        _bulk("postgres", lambda workspace: workspace.postgres_url),
        is_bulk=True,
        is_quick=True,
    ),
    Pipeline(
        "`examples/bulk`, ClickHouse",
        _bulk("clickhouse", lambda workspace: workspace.clickhouse_url),
        is_bulk=True,
        is_quick=True,
    ),
)


# --- Measuring -------------------------------------------------------------------------------------------------------


def measure(*, quick: bool) -> list[Load]:
    """Run the pipelines in alternating rounds.

    Raises:
        RunFailedError: A database server is not installed.
    """
    events, profiles, rounds = (QUICK_EVENTS, QUICK_PROFILES, QUICK_ROUNDS) if quick else (EVENTS, PROFILES, ROUNDS)
    loads = [Load(pipeline, events) for pipeline in PIPELINES if pipeline.is_quick or not quick]
    packages = postgresql.packages()
    if packages is None or not (ROOT / ".venv-targets" / "chdb" / "ready").exists():
        raise RunFailedError(
            "a database server is not installed: run `make .venv-targets/postgresql/ready .venv-targets/chdb/ready`"
        )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(run_emulator(profiles))
        postgres = stack.enter_context(postgresql.running(packages))
        clickhouse_server = stack.enter_context(clickhouse.clickhouse(folder / "clickhouse"))
        for number in range(rounds):
            for load in loads:
                progress(f"pipelines: round {number + 1}: {load.pipeline.name}")
                if not load.failure:
                    _measure(load, server, postgres, clickhouse_server)
    return loads


def _measure(
    load: Load, server: EmulatorServer, postgres: postgresql.Server, clickhouse_server: clickhouse.ClickHouse
) -> None:
    for action in ("DROP DATABASE IF EXISTS", "CREATE DATABASE"):
        postgres.run(f"{action} {postgresql.DATABASE}", "postgres")
        clickhouse_server.run(f"{action} {clickhouse.DATABASE}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            load.rounds.append(_round(load, server, Workspace(Path(folder), postgres, clickhouse_server)))
        except (RunFailedError, NotInstalledError) as failure:
            load.failure = str(failure)
            progress(f"pipelines: {load.pipeline.name}: {failure}")


def _round(load: Load, server: EmulatorServer, workspace: Workspace) -> tuple[float, float, float]:
    """Run a pipeline and return wall time, CPU of the tap and CPU of the loader, in seconds."""
    pipeline = load.pipeline
    days = {"start_date": str(FIRST_DAY), "end_date": str(last_day(load.events))}
    settings: Settings = {**server.settings, **days, **pipeline.tap_settings}
    if pipeline.in_batches:
        batches = workspace.folder / "batches"
        batches.mkdir()
        encoding = {"format": "jsonl", "compression": "gzip"}
        settings["batch_config"] = {"encoding": encoding, "storage": {"root": batches.as_uri()}, "batch_size": 100_000}
    config = workspace.config("config", settings)
    environment = {
        "PGPASSWORD": postgresql.PASSWORD,
        "PGTZ": "UTC",
        "CLICKHOUSE_USER": clickhouse.USER,
        "CLICKHOUSE_PASSWORD": clickhouse.PASSWORD,
    }
    if pipeline.loader is None:
        alone = run([TAP, "--config", config])
        return alone.wall, alone.cpu, 0.0
    loader = pipeline.loader(workspace)
    if pipeline.is_bulk:
        tap = _measured_tap(workspace.folder)
        path = f"{tap.parent}:{os.environ['PATH']}"
        both = run([*loader, "--config", config], environment=environment | {"PATH": path})
        tap_cost = cost_in(workspace.folder / "report")
        return both.wall, tap_cost.cpu, both.cpu - tap_cost.cpu
    tap_cost, target_cost = run_pipeline([TAP, "--config", config], loader, environment=environment)
    return target_cost.wall, tap_cost.cpu, target_cost.cpu


def _measured_tap(folder: Path) -> Path:
    """Write a script that runs the tap and writes its cost to the file `report`. Return its path."""
    command = folder / "bin" / "tap-mixpanel-stream"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.join(measured_command([TAP], folder / "report"))} "$@"\n')
    command.chmod(0o755)
    return command
