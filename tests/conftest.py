from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.targets import object_storage, postgresql
from tests.targets.bigquery import BigQuery, bigquery as bigquery_server
from tests.targets.clickhouse import ClickHouse, clickhouse as clickhouse_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# No deadline for an example, which a busy machine would exceed. The other settings are those of CI.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Under `nohup` SIGHUP is ignored, which every program started by a test would inherit.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew", action="store_true", help="rewrite the snapshots")
    parser.addoption("--seeds", type=_seeds, metavar="FIRST-LAST", help="seeds for the tests that take any")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test marked `seeds(n)` each of the first n seeds, or those of the command line."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", seeds_of(metafunc.definition, metafunc.config))


def seeds_of(item: pytest.Item, config: pytest.Config) -> range:
    """Return the seeds of a marked test."""
    marker = item.get_closest_marker("seeds")
    assert marker is not None
    chosen: range | None = config.getoption("seeds")
    return range(*marker.args) if chosen is None else chosen


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> range:
    """Return all seeds, for a test that needs them together."""
    return seeds_of(request.node, request.config)


@pytest.fixture
def renew(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--renew"))


@pytest.fixture(scope="session")
def _one_server() -> Iterator[postgresql.Server]:
    packages = postgresql.packages()
    if packages is None:
        pytest.fail("PostgreSQL is missing: run `make test-targets`, which sets it up")
    with postgresql.running(packages) as server:
        yield server


@pytest.fixture
def postgres(_one_server: postgresql.Server) -> postgresql.Server:
    """Return a running PostgreSQL with an empty database."""
    for sql in (f"DROP DATABASE IF EXISTS {postgresql.DATABASE}", f"CREATE DATABASE {postgresql.DATABASE}"):
        _one_server.run(sql, "postgres")
    return _one_server


@pytest.fixture
def bigquery(tmp_path: Path) -> Iterator[BigQuery]:
    """Yield a running BigQuery emulator with an empty project."""
    with bigquery_server(tmp_path / "bigquery") as server:
        yield server


@pytest.fixture
def clickhouse(tmp_path: Path) -> Iterator[ClickHouse]:
    """Yield a running ClickHouse with an empty database."""
    with clickhouse_server(tmp_path / "clickhouse") as server:
        yield server


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[object_storage.ObjectStorage]:
    """Yield a running S3 server with an empty bucket."""
    with object_storage.s3(tmp_path / "s3") as storage:
        yield storage


@pytest.fixture
def gcs(tmp_path: Path) -> Iterator[object_storage.ObjectStorage]:
    """Yield a running GCS server with an empty bucket."""
    with object_storage.gcs(tmp_path / "gcs") as storage:
        yield storage
