"""When, where and with what something was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .environments import ROOT
from .programs import IGZIP


@dataclass(frozen=True)
class Circumstances:
    """When, where and with what.

    Attributes:
        day: The day.
        machine: Processor, cores, system, Python.
        load: How busy the machine was before it began.
        versions: This tap's and those of what it is made of.
        tools: Those of `gzip` and `igzip`.
    """

    day: str
    machine: str
    load: float
    versions: str
    tools: str

    @classmethod
    def now(cls) -> Circumstances:
        """Look around. To be called before anything is measured."""
        release = f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"
        python = f"{platform.python_implementation()} {platform.python_version()}"
        made_of = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("singer-sdk", "msgspec", "isal"))
        return cls(
            day=str(datetime.now(UTC).date()),
            machine=f"{_processor()}, {os.cpu_count()} cores, {release}, {python}",
            load=os.getloadavg()[0],
            versions=f"tap-mixpanel-stream {importlib.metadata.version('tap-mixpanel-stream')}{_commit()}, {made_of}",
            tools=", ".join(_version(command) for command in (["gzip"], [*IGZIP[:-1]])),
        )

    def text(self, part: str) -> str:
        """Say it, for a part."""
        return (
            f"Measured on {self.day} by `python -m benchmarks --only {part}`: {self.machine}, load {self.load:.1f} "
            f"before the start; {self.versions}; {self.tools}."
        )

    def brief(self) -> str:
        """Say it in the README."""
        return f"Measured on {self.day}: {self.machine}; {self.versions}."


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    """The commit that is measured, in brackets; nothing outside of a checkout."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], check=False, capture_output=True, text=True)
    if commit.returncode:
        return ""
    changed = subprocess.run([*git, "status", "--porcelain", "tap_mixpanel_stream"], check=False, capture_output=True)
    return f" ({commit.stdout.strip()}{', changed' if changed.stdout else ''})"


def _version(command: list[str]) -> str:
    if len(command) > 1:  # Python's isal, which does not say its version
        return f"isal.igzip {importlib.metadata.version('isal')}"
    said = subprocess.run([*command, "--version"], check=False, capture_output=True, text=True)
    first = (said.stdout or said.stderr).strip().splitlines()[0]
    number = re.search(r"\d+(?:\.\d+)+", first)
    return f"{command[0]} {number[0] if number else first}"
