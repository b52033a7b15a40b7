"""Running commands and measuring their CPU time, wall time and memory."""

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

# Linux derives the id of a process's CPU clock from the process id and this constant.
_CPU_CLOCK = 2

# Seconds after which a command is killed.
_LIMIT = 900.0

# The environment of measured commands, without settings of the programs and proxies.
_BASE_ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("TAP_", "PYTHON", "MP_")) and not name.lower().endswith("_proxy")
} | {"NO_PROXY": "127.0.0.1"}


class RunFailedError(Exception):
    """A command ended with an error."""


@dataclass(frozen=True)
class Cost:
    """The measured cost of a command.

    Attributes:
        cpu: User and system CPU time of the process and its children, in seconds.
        wall: Wall time in seconds.
        memory: Peak memory of the largest process, in bytes.
        total_memory: Peak memory of all processes, in bytes, with shared pages counted once. Sampled ten times a
            second.
    """

    cpu: float
    wall: float
    memory: int
    total_memory: int


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    output: Path | None = None,
    limit: float = _LIMIT,
) -> Cost:
    """Run a command and return its cost.

    Args:
        command: Command line.
        environment: Additional environment variables.
        output: File for stdout. By default, stdout is a pipe that another process drains, as a target would.
        limit: Seconds after which the command is killed.

    Raises:
        RunFailedError: The command failed. The message contains the last lines of stderr.
    """
    with tempfile.TemporaryDirectory() as folder, output.open("wb") if output else drained_pipe() as stdout:
        return _MeasuredProcess(command, Path(folder), (subprocess.DEVNULL, stdout), environment, limit).cost()


def run_pipeline(
    source: Sequence[str], sink: Sequence[str], *, environment: Mapping[str, str] | None = None
) -> tuple[Cost, Cost]:
    """Run `source | sink` and return the cost of both.

    Args:
        source: Command line of the source.
        sink: Command line of the sink. Its stdout is discarded.
        environment: Additional environment variables of both commands.

    Raises:
        RunFailedError: One of the commands failed.
    """
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        writing = _MeasuredProcess(source, Path(first), (subprocess.DEVNULL, subprocess.PIPE), environment)
        pipe = cast("IO[bytes]", writing.process.stdout)
        reading = _MeasuredProcess(sink, Path(second), (pipe, subprocess.DEVNULL), environment)
        pipe.close()  # so that only the sink has it open and the source gets SIGPIPE if the sink stops
        for process in (reading.process, writing.process):
            process.wait()
        # Check the sink first: if it fails, the source fails as well.
        sink_cost = reading.cost()
        return writing.cost(), sink_cost


def measured_command(command: Sequence[str], report: Path, limit: float = _LIMIT) -> list[str]:
    """Return a command line that runs a command and writes its cost to a file.

    It starts the command from a small process, because on Linux the peak memory of a process includes the memory it had
    before `exec`.
    """
    program = str(Path(__file__).with_name("measure_process.py"))
    return [sys.executable, "-ISE", program, str(report), str(limit), *command]


class _MeasuredProcess:
    """A running command whose cost is measured.

    Args:
        command: Command line.
        folder: Folder for the report and stderr.
        ends: Stdin and stdout.
        environment: Additional environment variables.
        limit: Seconds after which the command is killed.
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
        self._report, self._stderr = folder / "report", folder / "stderr"
        with self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                measured_command(command, self._report, limit),
                stdin=ends[0],
                stdout=ends[1],
                stderr=stderr,
                env=_BASE_ENVIRONMENT | dict(environment or {}),
            )

    def cost(self) -> Cost:
        """Wait for the command to end and return its cost."""
        if code := self.process.wait():
            lines = self._stderr.read_text(errors="replace").splitlines()[-5:]
            raise RunFailedError(f"{self._name} failed with exit code {code}: " + " | ".join(lines))
        return cost_in(self._report)


def cost_in(report: Path) -> Cost:
    """Return the cost that a measured command wrote to a file."""
    return Cost(**json.loads(report.read_text()))


@contextmanager
def drained_pipe() -> Iterator[IO[bytes]]:
    """Provide a pipe that another process drains."""
    cat = shutil.which("cat") or "cat"
    with subprocess.Popen([cat], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0) as drain:
        pipe = cast("IO[bytes]", drain.stdin)
        with pipe:
            yield pipe


def cpu_until_output(
    prefixes: tuple[bytes, ...], command: Sequence[str], environment: Mapping[str, str] | None = None
) -> float:
    """Return the CPU seconds that a command used until it wrote a line that starts with one of `prefixes`.

    The command is then killed.

    Raises:
        RunFailedError: The command ended without such a line.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_BASE_ENVIRONMENT | dict(environment or {}),
    ) as process:
        try:
            for line in process.stdout or ():
                if line.startswith(prefixes):
                    return time.clock_gettime((~process.pid << 3) | _CPU_CLOCK)
        finally:
            process.kill()
    raise RunFailedError(f"{Path(command[0]).name} wrote no line that starts with one of {prefixes}")
