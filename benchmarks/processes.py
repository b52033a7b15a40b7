"""A command, run to its end and measured: CPU of all its processes, wall time, memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MIB = 1024 * 1024

# Linux: the number of the clock that shows another process's CPU time is made from the process's own.
_CPU_CLOCK = 2

# Seconds after which a command is ended.
_LIMIT = 900.0

# Nothing of the surroundings must reach a program: no settings, no proxies.
_ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("TAP_", "PYTHON", "MP_")) and not name.lower().endswith("_proxy")
} | {"NO_PROXY": "127.0.0.1"}


class RunFailedError(Exception):
    """A command ended with an error."""


@dataclass(frozen=True)
class Cost:
    """What a run took.

    Attributes:
        cpu: Seconds of CPU, user and system, of the process and all it waited for.
        wall: Seconds.
        memory: Bytes of memory at its peak, of the largest process.
        together: The same of all its processes, what they share counted once: looked at ten times a second.
    """

    cpu: float
    wall: float
    memory: int
    together: int


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    output: Path | None = None,
    limit: float = _LIMIT,
) -> Cost:
    """Run a command to its end.

    Args:
        command: The command line.
        environment: Variables to add.
        output: Where its stdout goes to. Without it, into a pipe that another process empties, as a target would.
        limit: Seconds after which it is ended.

    Raises:
        RunFailedError: It ended with an error; the message holds the end of what it said.
    """
    with tempfile.TemporaryDirectory() as folder, output.open("wb") if output else emptied_pipe() as stdout:
        return _Measured(command, Path(folder), (subprocess.DEVNULL, stdout), environment, limit).cost()


def run_pipeline(
    source: Sequence[str], sink: Sequence[str], *, environment: Mapping[str, str] | None = None
) -> tuple[Cost, Cost]:
    """Run `source | sink` to its end, and return the cost of each.

    Args:
        source: The first command line.
        sink: The second; its stdout is dropped.
        environment: Variables to add for both.

    Raises:
        RunFailedError: One of them ended with an error.
    """
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        writing = _Measured(source, Path(first), (subprocess.DEVNULL, subprocess.PIPE), environment)
        pipe = cast("IO[bytes]", writing.process.stdout)
        reading = _Measured(sink, Path(second), (pipe, subprocess.DEVNULL), environment)
        pipe.close()  # only the sink holds it now: should it stop, the source notices
        for process in (reading.process, writing.process):
            process.wait()
        # The sink first: where it fails, the source loses its reader.
        of_sink = reading.cost()
        return writing.cost(), of_sink


def measuring(command: Sequence[str], report: Path, limit: float = _LIMIT) -> list[str]:
    """Return the command line that runs a command and writes its cost into a file.

    A small process stands between, since Linux counts what a process was before it became another.
    """
    program = str(Path(__file__).with_name("measured.py"))
    return [sys.executable, "-ISE", program, str(report), str(limit), *command]


class _Measured:
    """A command that runs and is measured.

    Args:
        command: The command line.
        folder: Where its report and its stderr go.
        ends: Its stdin and its stdout.
        environment: Variables to add.
        limit: Seconds after which it is ended.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        ends: tuple[int | IO[bytes], int | IO[bytes]],
        environment: Mapping[str, str] | None,
        limit: float = _LIMIT,
    ) -> None:
        self._name = Path(command[0]).name
        self._report, self._said = folder / "report", folder / "said"
        with self._said.open("wb") as stderr:
            self.process = subprocess.Popen(
                measuring(command, self._report, limit),
                stdin=ends[0],
                stdout=ends[1],
                stderr=stderr,
                env=_ENVIRONMENT | dict(environment or {}),
            )

    def cost(self) -> Cost:
        """Wait for its end, and return its cost."""
        if code := self.process.wait():
            lines = self._said.read_text(errors="replace").splitlines()[-5:]
            raise RunFailedError(f"{self._name} ended with {code}: " + " | ".join(lines))
        return cost_in(self._report)


def cost_in(report: Path) -> Cost:
    """Return the cost that a measured command left in a file."""
    return Cost(**json.loads(report.read_text()))


@contextmanager
def emptied_pipe() -> Iterator[IO[bytes]]:
    """Give a pipe that another process empties while the block lasts."""
    cat = shutil.which("cat") or "cat"
    with subprocess.Popen([cat], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0) as drain:
        pipe = cast("IO[bytes]", drain.stdin)
        with pipe:
            yield pipe


def cpu_until(marks: tuple[bytes, ...], command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """Return the CPU seconds that a command had spent when it wrote the first line that begins with one of `marks`.

    The command is ended then.

    Raises:
        RunFailedError: It ended without.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_ENVIRONMENT | dict(environment or {}),
    ) as process:
        try:
            for line in process.stdout or ():
                if line.startswith(marks):
                    return time.clock_gettime((~process.pid << 3) | _CPU_CLOCK)
        finally:
            process.kill()
    raise RunFailedError(f"{Path(command[0]).name} wrote no line that begins with one of {marks}")
