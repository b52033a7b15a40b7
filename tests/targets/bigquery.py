"""A BigQuery emulator for the tests, run by bigquery_server.py."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.docs.programs import installed
from tests.targets.servers import free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROGRAM = Path(__file__).with_name("bigquery_server.py")


@dataclass(frozen=True)
class BigQuery:
    """A running server.

    Attributes:
        environment: The variables by which a client finds it.
    """

    environment: Mapping[str, str]


@contextlib.contextmanager
def bigquery(folder: Path) -> Iterator[BigQuery]:
    """Run a server with an empty project."""
    folder.mkdir()
    port, grpc_port = free_port(), free_port()
    command = [str(installed("local-bigquery", "python")), str(PROGRAM), str(folder), str(port), str(grpc_port)]
    with running(command, port, folder.with_suffix(".log")):
        yield BigQuery({"BIGQUERY_EMULATOR_HOST": f"http://127.0.0.1:{port}"})
