"""Start the servers that targets load into, on free ports of this machine."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from tests.docs.programs import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


@contextlib.contextmanager
def running(
    command: Sequence[str], port: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server, and continue once it listens on its port.

    Args:
        command: Its command.
        port: Its port.
        log: The file for its output.
        environment: Additional variables.
    """
    variables = ENVIRONMENT | dict(environment or {})
    with log.open("wb") as out, subprocess.Popen(command, env=variables, stdout=out, stderr=out) as process:
        try:
            while not _listens(port):
                assert process.poll() is None, log.read_text(encoding="utf-8")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


def free_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
