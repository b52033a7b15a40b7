"""The workflows on GitHub, as far as they can be tried without it."""

from __future__ import annotations

import re

from tests.newcomer.programs import ROOT
from tests.release.packaged import PROJECT, TOOLS, said

WORKFLOWS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / ".github" / "workflows").iterdir()}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_no_known_fault_and_no_known_hole_is_in_them() -> None:
    said(TOOLS / "zizmor", "--offline", "--no-progress", "--strict-collection", ROOT / ".github")


def test_every_action_is_pinned_to_a_full_version() -> None:
    used = [action for text in WORKFLOWS.values() for action in re.findall(r"uses: (\S+)", text)]
    assert len(used) > 10
    assert [action for action in used if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+", action)] == []


def test_what_they_make_can_be_made() -> None:
    phony = set(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[0].split())
    bounds = re.findall(r"^ +bound: \[(.*)\]$", WORKFLOWS["test.yml"], re.MULTILINE)[0].split(", ")
    called = {
        target for text in WORKFLOWS.values() for target in re.findall(r"run: make ([\w-]+)$", text, re.MULTILINE)
    }
    assert {"test", "lint", "docs", "test-newest"} <= called
    assert called | {f"test-{bound}" for bound in bounds} <= phony


def test_every_python_that_the_project_names_is_tried() -> None:
    named = {name.rsplit(" ", 1)[1] for name in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", name)}
    assert named <= set(re.findall(r'"(3\.\d+)"', WORKFLOWS["test.yml"]))


def test_only_what_publishes_may_write_anything() -> None:
    for text in WORKFLOWS.values():
        before_jobs, jobs = text.split("\njobs:\n")
        assert "permissions:\n  contents: read" in before_jobs
        for job in re.split(r"^  (?=\w)", jobs, flags=re.MULTILINE):
            assert ": write" not in job or job.startswith("publish:")
