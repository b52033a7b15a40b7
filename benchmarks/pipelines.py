"""Whole pipelines: the tap with each target, and the bulk loaders of examples/bulk.

Each row is a fresh load of the same events and profiles. Tap and loader are measured apart. A database server is a
process of its own, and its CPU is in neither figure. DuckDB runs within its loader.
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

from .data import FIRST_DAY, last_day_of
from .environments import ROOT, NotInstalledError, python_with, version_of
from .processes import RunFailedError, cost_in, measuring, run, run_pipeline
from .programs import TAP
from .report import progress
from .serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from .serving import Site

    Settings = dict[str, Any]

EVENTS, PROFILES, ROUNDS = 50_000, 1_500, 2
QUICK_EVENTS, QUICK_PROFILES, QUICK_ROUNDS = 4_000, 200, 1

_PIPELINEWISE = "pipelinewise-target-postgres"
_BULK = ROOT / "examples" / "bulk" / "bulk.py"


@dataclass(frozen=True)
class Place:
    """Where a pipeline runs and loads.

    Attributes:
        folder: An empty folder, gone after the run.
        postgres: The PostgreSQL server, with an empty database.
        clickhouse: The ClickHouse server, with an empty database.
    """

    folder: Path
    postgres: postgresql.Server
    clickhouse: clickhouse.ClickHouse

    @property
    def postgres_url(self) -> str:
        """The connection string, without the password."""
        return "postgresql://{user}@{host}:{port}/{database}".format(**self.postgres.address)

    @property
    def clickhouse_url(self) -> str:
        """The address of its HTTP interface."""
        return f"http://127.0.0.1:{self.clickhouse.port}/"

    def config(self, name: str, settings: Settings) -> str:
        """Write a configuration and return its path."""
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(settings))
        return str(path)


@dataclass(frozen=True)
class Pipeline:
    """The tap and what loads its records.

    Attributes:
        name: What the table calls it.
        loader: Makes the command line of a target; of the bulk loader for a bulk load; None for the tap alone.
        tap_settings: Settings of the tap besides source and days.
        is_bulk: Whether the loader runs the tap itself.
        in_batches: Whether the tap writes batch files into the folder `batches`.
        is_quick: Whether it runs with small sizes, too.
    """

    name: str
    loader: Callable[[Place], list[str]] | None = None
    tap_settings: Settings = field(default_factory=dict)
    is_bulk: bool = False
    in_batches: bool = False
    is_quick: bool = False


@dataclass
class Load:
    """The measured rounds of a pipeline.

    Attributes:
        pipeline: What ran.
        events: How many events were loaded.
        rounds: The costs of the tap and of what loads, for each round; those of the tap alone have the tap's twice.
        failure: Why it did not run.
    """

    pipeline: Pipeline
    events: int
    rounds: list[tuple[float, float, float]] = field(default_factory=list)
    failure: str = ""

    @property
    def wall(self) -> float:
        """Seconds, the median."""
        return median(wall for wall, _, _ in self.rounds)

    @property
    def tap_cpu(self) -> float:
        """Seconds of the tap's CPU, the median."""
        return median(cpu for _, cpu, _ in self.rounds)

    @property
    def loader_cpu(self) -> float:
        """Seconds of CPU of what loads, the median."""
        return median(cpu for _, _, cpu in self.rounds)


# --- Targets ---------------------------------------------------------------------------------------------------------


def _installed(environment: str, program: str) -> str:
    """Return a program of one of the targets' environments.

    Raises:
        NotInstalledError: It is missing.
    """
    path = ROOT / ".venv-targets" / environment / "bin" / program
    if not path.exists():
        raise NotInstalledError(f"{program} is missing: `make .venv-targets/{environment}/ready` installs it")
    return str(path)


def _jsonl(place: Place) -> list[str]:
    config = place.config("target", {"destination_path": str(place.folder)})
    return [_installed("jsonl", "target-jsonl"), "--config", config]


def _duckdb(place: Place) -> list[str]:
    settings = {"path": str(place.folder / "warehouse.duckdb"), "default_target_schema": "mixpanel"}
    config = place.config("target", {**settings, "primary_key_required": False})
    return [_installed("duckdb", "target-duckdb"), "--config", config]


def _postgres(**settings: Any) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        own = {**place.postgres.address, "default_target_schema": "mixpanel", **settings}
        return [_installed("postgres", "target-postgres"), "--config", place.config("target", own)]

    return command


def _pipelinewise(place: Place) -> list[str]:
    address = dict(place.postgres.address)
    own = {**address, "dbname": address.pop("database"), "default_target_schema": "mixpanel"}
    program = python_with(_PIPELINEWISE).with_name("target-postgres")
    return [str(program), "--config", place.config("target", {**own, "primary_key_required": False})]


def _bulk(warehouse: str, destination: Callable[[Place], str]) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        state = f"--state={place.folder / 'state.json'}"
        return [_installed(warehouse, "python"), str(_BULK), warehouse, destination(place), state]

    return command


_FOR_POSTGRES = {"strip_nul": True}
_OF_MELTANO = f"meltanolabs-target-postgres {version_of('meltanolabs-target-postgres')}"

PIPELINES = (
    Pipeline("this tap alone", is_quick=True),
    Pipeline(f"target-jsonl {version_of('target-jsonl')}", _jsonl, is_quick=True),
    Pipeline(f"target-duckdb {version_of('target-duckdb')}", _duckdb),
    Pipeline(f"{_OF_MELTANO}, INSERT", _postgres(), _FOR_POSTGRES),
    Pipeline(f"{_OF_MELTANO}, COPY", _postgres(use_copy=True), _FOR_POSTGRES),
    Pipeline(
        f"{_OF_MELTANO}, COPY, without validation",
        _postgres(use_copy=True, validate_records=False),
        _FOR_POSTGRES,
    ),
    Pipeline(
        f"{_OF_MELTANO}, COPY, batch files",
        _postgres(use_copy=True),
        _FOR_POSTGRES,
        in_batches=True,
        is_quick=True,
    ),
    Pipeline(f"{_PIPELINEWISE} {version_of(_PIPELINEWISE)}", _pipelinewise, _FOR_POSTGRES),
    Pipeline(
        "`examples/bulk`, DuckDB",
        _bulk("duckdb", lambda place: str(place.folder / "warehouse.duckdb")),
        is_bulk=True,
        is_quick=True,
    ),
    Pipeline(
        "`examples/bulk`, PostgreSQL", _bulk("postgres", lambda place: place.postgres_url), is_bulk=True, is_quick=True
    ),
    Pipeline(
        "`examples/bulk`, ClickHouse",
        _bulk("clickhouse", lambda place: place.clickhouse_url),
        is_bulk=True,
        is_quick=True,
    ),
)


# --- Measuring -------------------------------------------------------------------------------------------------------


def measure(*, quick: bool) -> list[Load]:
    """Run the pipelines in turns, a few rounds.

    Raises:
        RunFailedError: A database server is missing.
    """
    events, profiles, rounds = (QUICK_EVENTS, QUICK_PROFILES, QUICK_ROUNDS) if quick else (EVENTS, PROFILES, ROUNDS)
    loads = [Load(pipeline, events) for pipeline in PIPELINES if pipeline.is_quick or not quick]
    packages = postgresql.packages()
    if packages is None or not (ROOT / ".venv-targets" / "chdb" / "ready").exists():
        raise RunFailedError("a server is missing: `make .venv-targets/postgresql/ready .venv-targets/chdb/ready`")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        site = stack.enter_context(serving(profiles))
        postgres = stack.enter_context(postgresql.running(packages))
        of_clickhouse = stack.enter_context(clickhouse.clickhouse(folder / "clickhouse"))
        for number in range(rounds):
            for load in loads:
                progress(f"pipelines: round {number + 1}: {load.pipeline.name}")
                if not load.failure:
                    _measure(load, site, postgres, of_clickhouse)
    return loads


def _measure(load: Load, site: Site, postgres: postgresql.Server, of_clickhouse: clickhouse.ClickHouse) -> None:
    for action in ("DROP DATABASE IF EXISTS", "CREATE DATABASE"):
        postgres.run(f"{action} {postgresql.DATABASE}", "postgres")
        of_clickhouse.run(f"{action} {clickhouse.DATABASE}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            load.rounds.append(_round(load, site, Place(Path(folder), postgres, of_clickhouse)))
        except (RunFailedError, NotInstalledError) as failure:
            load.failure = str(failure)
            progress(f"pipelines: {load.pipeline.name}: {failure}")


def _round(load: Load, site: Site, place: Place) -> tuple[float, float, float]:
    """Return the seconds that it took, those of the tap's CPU, and those of the loader's CPU."""
    pipeline = load.pipeline
    days = {"start_date": str(FIRST_DAY), "end_date": str(last_day_of(load.events))}
    settings: Settings = {**site.settings, **days, **pipeline.tap_settings}
    if pipeline.in_batches:
        batches = place.folder / "batches"
        batches.mkdir()
        encoding = {"format": "jsonl", "compression": "gzip"}
        settings["batch_config"] = {"encoding": encoding, "storage": {"root": batches.as_uri()}, "batch_size": 100_000}
    config = place.config("config", settings)
    environment = {
        "PGPASSWORD": postgresql.PASSWORD,
        "PGTZ": "UTC",
        "CLICKHOUSE_USER": clickhouse.USER,
        "CLICKHOUSE_PASSWORD": clickhouse.PASSWORD,
    }
    if pipeline.loader is None:
        alone = run([TAP, "--config", config])
        return alone.wall, alone.cpu, 0.0
    loader = pipeline.loader(place)
    if pipeline.is_bulk:
        tap = _measured_tap(place.folder)
        path = f"{tap.parent}:{os.environ['PATH']}"
        both = run([*loader, "--config", config], environment=environment | {"PATH": path})
        of_tap = cost_in(place.folder / "report")
        return both.wall, of_tap.cpu, both.cpu - of_tap.cpu
    of_tap, of_target = run_pipeline([TAP, "--config", config], loader, environment=environment)
    return of_target.wall, of_tap.cpu, of_target.cpu


def _measured_tap(folder: Path) -> Path:
    """Write a command that runs the tap and leaves its cost in the file `report`. Return its path."""
    command = folder / "bin" / "tap-mixpanel-stream"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.join(measuring([TAP], folder / "report"))} "$@"\n')
    command.chmod(0o755)
    return command
