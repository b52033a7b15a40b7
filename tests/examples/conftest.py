from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.targets import postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def warehouse() -> Iterator[postgresql.Server]:
    """A PostgreSQL server with an empty database."""
    programs = postgresql.programs()
    if programs is None:
        pytest.fail("PostgreSQL is not installed: install the package `postgresql`")
    with postgresql.running(programs) as server:
        server.run(f"CREATE DATABASE {postgresql.DATABASE}", "postgres")
        yield server
