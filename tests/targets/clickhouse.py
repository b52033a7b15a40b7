"""A ClickHouse server for the tests, run by clickhouse_server.py."""

from __future__ import annotations

import base64
import contextlib
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.docs.programs import installed
from tests.targets.servers import free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, PASSWORD, DATABASE = "loader", "on-loopback-only", "mixpanel"
PROGRAM = Path(__file__).with_name("clickhouse_server.py")


@dataclass(frozen=True)
class ClickHouse:
    """A running server.

    Attributes:
        port: Its HTTP port on 127.0.0.1.
    """

    port: int

    @property
    def address(self) -> dict[str, Any]:
        """The settings with which a target connects to the database."""
        access = {"username": USER, "password": PASSWORD, "database": DATABASE}
        return {"host": "127.0.0.1", "port": self.port, **access}

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        answer = self.run(f"{query.strip().removesuffix(';')}\nFORMAT JSONEachRow", DATABASE)
        return [json.loads(line) for line in answer.split("\n")[:-1]]

    def run(self, query: str, database: str = "default") -> str:
        """Run a query and return the response."""
        access = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        url = f"http://127.0.0.1:{self.port}/?database={database}"
        request = urllib.request.Request(url, query.encode(), {"Authorization": f"Basic {access}"})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - on loopback
                return str(response.read().decode())
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None


@contextlib.contextmanager
def clickhouse(folder: Path) -> Iterator[ClickHouse]:
    """Run a server with an empty database."""
    port = free_port()
    command = [str(installed("chdb", "python")), str(PROGRAM), str(folder), str(port), USER, PASSWORD]
    with running(command, port, folder.with_suffix(".log")):
        server = ClickHouse(port)
        server.run(f"CREATE DATABASE {DATABASE}")
        yield server
