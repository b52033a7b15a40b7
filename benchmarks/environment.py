"""The environment of a benchmark run: date, machine and versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .programs import IGZIP
from .virtualenvs import ROOT


@dataclass(frozen=True)
class Environment:
    """The environment of a benchmark run.

    Attributes:
        day: Date of the run, in UTC.
        machine: Processor, number of cores, operating system and Python version.
        load: Load average of the last minute before the run.
        versions: Versions of the tap and its main packages.
        tools: Versions of `gzip` and `igzip`.
    """

    day: str
    machine: str
    load: float
    versions: str
    tools: str

    @classmethod
    def capture(cls) -> Environment:
        """Return the current environment. Call this before the benchmarks, because they change the load."""
        release = f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"
        python = f"{platform.python_implementation()} {platform.python_version()}"
        packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("singer-sdk", "msgspec", "isal"))
        return cls(
            day=str(datetime.now(UTC).date()),
            machine=f"{_processor()}, {os.cpu_count()} cores, {release}, {python}",
            load=os.getloadavg()[0],
            versions=f"tap-mixpanel-stream {importlib.metadata.version('tap-mixpanel-stream')}{_commit()}, {packages}",
            tools=", ".join(_version(command) for command in (["gzip"], [*IGZIP[:-1]])),
        )

    def describe(self, part: str) -> str:
        """Return the description for a part of docs/benchmarks.md."""
        return (
            f"Measured on {self.day} by `python -m benchmarks --only {part}`: {self.machine}, load {self.load:.1f} "
            f"before the start; {self.versions}; {self.tools}."
        )

    def brief(self) -> str:
        """Return the description for the README."""
        return f"Measured on {self.day}: {self.machine}; {self.versions}."


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    """Return the commit in parentheses; an empty string outside of a Git checkout."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], check=False, capture_output=True, text=True)
    if commit.returncode:
        return ""
    changed = subprocess.run([*git, "status", "--porcelain", "tap_mixpanel_stream"], check=False, capture_output=True)
    return f" ({commit.stdout.strip()}{', changed' if changed.stdout else ''})"


def _version(command: list[str]) -> str:
    if len(command) > 1:  # the Python package, whose command has no --version option
        return f"isal.igzip {importlib.metadata.version('isal')}"
    said = subprocess.run([*command, "--version"], check=False, capture_output=True, text=True)
    first = (said.stdout or said.stderr).strip().splitlines()[0]
    number = re.search(r"\d+(?:\.\d+)+", first)
    return f"{command[0]} {number[0] if number else first}"
