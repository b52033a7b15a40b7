from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.targets.postgresql import DATABASE

if TYPE_CHECKING:
    from tests.targets.postgresql import Server


@pytest.fixture(scope="module")
def warehouse(_one_server: Server) -> Server:
    """Return a running PostgreSQL with a database for this module."""
    for sql in (f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)", f"CREATE DATABASE {DATABASE}"):
        _one_server.run(sql, "postgres")
    return _one_server
