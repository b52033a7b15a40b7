"""The benchmarks run with `--quick`; their figures are not checked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.__main__ import _FULL
from benchmarks.programs import MINIMAL_TAPS, TAP_VARIANTS

ROOT = Path(__file__).resolve().parents[2]
FILES = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md")


@dataclass
class QuickRun:
    """A quick run of all parts.

    Attributes:
        exit_code: The exit code.
        output: The output by part.
        stderr: Its stderr.
        has_written: Whether the files of the full run changed.
    """

    exit_code: int
    output: dict[str, str]
    stderr: str
    has_written: bool


@pytest.fixture(scope="module")
def quick_run() -> QuickRun:
    before = [file.read_bytes() for file in FILES]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick"],
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""},
        capture_output=True,
        check=False,
        text=True,
    )
    output = {part.split("\n", 1)[0]: part for part in done.stdout.split("\n## ")[1:]}
    has_written = [file.read_bytes() for file in FILES] != before
    return QuickRun(done.returncode, output, done.stderr, has_written)


def test_all_benchmark_parts_run(quick_run: QuickRun) -> None:
    """All parts run without an error."""
    assert quick_run.exit_code == 0, quick_run.stderr
    assert list(quick_run.output) == list(_FULL)
    assert "did not run" not in "".join(quick_run.output.values()), quick_run.stderr


def test_every_route_of_the_tap_is_compared(quick_run: QuickRun) -> None:
    """The comparison has every route of the tap and every obvious alternative."""
    names = [program.name for program in (*TAP_VARIANTS, *MINIMAL_TAPS)]
    assert len(names) > 10
    assert [name for name in names if f"{name} |" not in quick_run.output["comparison"]] == []


def test_the_tap_has_no_differences(quick_run: QuickRun) -> None:
    """The fidelity part finds no lost or changed event."""
    assert "No event is lost or duplicated." in quick_run.output["fidelity"]
    assert quick_run.output["fidelity"].count("| met |") == 3
    assert "missed" not in quick_run.output["fidelity"]


def test_the_simulation_matches_a_real_run(quick_run: QuickRun) -> None:
    """Simulated and real requests agree."""
    assert "| tiny | 10 | " in quick_run.output["requests"]
    assert re.search(r"between emulator and simulation \| 1 \| [01] \| met \|", quick_run.output["requests"])


def test_a_quick_run_writes_no_file(quick_run: QuickRun) -> None:
    """A quick run does not change README.md and docs/benchmarks.md."""
    assert not quick_run.has_written
