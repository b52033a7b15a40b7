"""The benchmarks run. What they measure is of no interest here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.__main__ import _FULL
from benchmarks.programs import OBVIOUS, OURS

ROOT = Path(__file__).resolve().parents[2]
FILES = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md")


@dataclass
class Hurried:
    """One run of all parts in a hurry.

    Attributes:
        exit_code: How it ended.
        said: What it wrote, by part.
        complained: Its stderr.
        wrote: Whether the files of the full run have changed.
    """

    exit_code: int
    said: dict[str, str]
    complained: str
    wrote: bool


@pytest.fixture(scope="module")
def hurried() -> Hurried:
    before = [file.read_bytes() for file in FILES]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick"],
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""},
        capture_output=True,
        check=False,
        text=True,
    )
    said = {part.split("\n", 1)[0]: part for part in done.stdout.split("\n## ")[1:]}
    wrote = [file.read_bytes() for file in FILES] != before
    return Hurried(done.returncode, said, done.stderr, wrote)


def test_all_parts_run(hurried: Hurried) -> None:
    assert hurried.exit_code == 0, hurried.complained
    assert list(hurried.said) == list(_FULL)
    assert "did not run" not in "".join(hurried.said.values()), hurried.complained


def test_every_way_of_the_tap_is_in_the_comparison(hurried: Hurried) -> None:
    names = [program.name for program in (*OURS, *OBVIOUS)]
    assert len(names) > 10
    assert [name for name in names if f"{name} |" not in hurried.said["comparison"]] == []


def test_the_tap_loses_nothing(hurried: Hurried) -> None:
    assert "All events came, each as often as it was sent." in hurried.said["fidelity"]
    assert hurried.said["fidelity"].count("| holds |") == 3
    assert "does not hold" not in hurried.said["fidelity"]


def test_what_is_simulated_agrees_with_what_is_read(hurried: Hurried) -> None:
    assert "| tiny | 10 | " in hurried.said["asking"]
    assert re.search(r"reading and sizes disagree \| 1 \| [01] \| holds \|", hurried.said["asking"])


def test_no_file_is_written_in_a_hurry(hurried: Hurried) -> None:
    assert not hurried.wrote
