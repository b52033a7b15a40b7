"""The pinned package lists, which `make pins` writes."""

from __future__ import annotations

import re

from tests.docs.programs import ROOT
from tests.release.packaged import PROJECT

LISTS = [
    *ROOT.glob("constraints*.txt"),
    *(ROOT / "tests").glob("t*-*.txt"),
    *(ROOT / "benchmarks").rglob("*.txt"),
]


def name_of(package: str) -> str:
    return re.split(r"[^\w.-]", package)[0].lower().replace("_", "-")


def test_pins_are_names_with_versions() -> None:
    """Every line is a name with a version, without an address."""
    assert len(LISTS) >= 12
    lines = [line for path in LISTS for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_the_lowest_pins_are_the_lower_bounds() -> None:
    """Each is the lower bound, or the first version from there on that was not yanked."""
    text = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8")
    lowest = {name_of(line): line.split("==")[1] for line in text.splitlines()}
    for dependency in PROJECT["dependencies"]:
        bound = dependency.split(">=")[1].split(",")[0]
        assert f"{lowest[name_of(dependency)]}.".startswith(f"{bound}."), dependency


def test_both_lists_have_every_dependency() -> None:
    """Both constraints files have every dependency."""
    for path in ROOT.glob("constraints*.txt"):
        pinned = {name_of(line) for line in path.read_text(encoding="utf-8").splitlines()}
        assert {name_of(dependency) for dependency in PROJECT["dependencies"]} <= pinned
