from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.targets import postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew", action="store_true", help="write the snapshots anew")


@pytest.fixture
def renew(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--renew"))


@pytest.fixture(scope="session")
def _one_server() -> Iterator[postgresql.Server]:
    programs = postgresql.programs()
    if programs is None:
        missing = "PostgreSQL is not installed, so target-postgres was not tried: install the package `postgresql`"
        # Where it decides whether a change lands, nothing is left out.
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with postgresql.running(programs) as server:
        yield server


@pytest.fixture
def postgres(_one_server: postgresql.Server) -> postgresql.Server:
    """A running PostgreSQL with an empty database."""
    for sql in (f"DROP DATABASE IF EXISTS {postgresql.DATABASE}", f"CREATE DATABASE {postgresql.DATABASE}"):
        _one_server.run(sql, "postgres")
    return _one_server
