"""The GitHub workflows, as far as they can be checked without GitHub."""

from __future__ import annotations

import re

from tests.docs.programs import ROOT
from tests.release.packaged import PROJECT, TOOLS, output_of

WORKFLOWS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / ".github" / "workflows").iterdir()}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_workflows_pass_zizmor() -> None:
    """zizmor finds no problem in the workflows."""
    output_of(TOOLS / "zizmor", "--offline", "--no-progress", "--strict-collection", ROOT / ".github")


def test_every_action_is_pinned_to_a_commit() -> None:
    """A tag can be moved to other code; the version is in a comment."""
    used = [action for text in WORKFLOWS.values() for action in re.findall(r"uses: (.*)", text)]
    assert len(used) > 10
    pinned = r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+"
    assert [action for action in used if not re.fullmatch(pinned, action)] == []
    assert len(set(used)) == len({action.partition("@")[0] for action in used})


def test_the_release_is_built_in_its_own_job() -> None:
    """A package installed by the tests cannot change what is published."""
    jobs = dict(re.findall(r"^  (\w+):\n(.*?)(?=^  \w|\Z)", WORKFLOWS["release.yml"], re.MULTILINE | re.DOTALL)[-3:])
    assert list(jobs) == ["test", "build", "publish"]
    assert re.findall(r"run: make (\S+)", jobs["build"]) == ["dist"]
    assert "needs: test" in jobs["build"]
    assert "upload-artifact" in jobs["build"]
    assert "upload-artifact" not in jobs["test"]
    assert "needs: build" in jobs["publish"]
    installs = re.findall(r"^NEEDED_dist = (.*)$", MAKEFILE, re.MULTILINE)
    assert installs == ["build hatchling"]


def test_make_targets_of_workflows_exist() -> None:
    """Every make target used in a workflow exists."""
    phony = set(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[0].split())
    bounds = re.findall(r"^ +bound: \[(.*)\]$", WORKFLOWS["test.yml"], re.MULTILINE)[0].split(", ")
    called = {
        target for text in WORKFLOWS.values() for target in re.findall(r"run: make ([\w-]+)$", text, re.MULTILINE)
    }
    assert {"test", "check", "docs", "test-newest"} <= called
    assert called | {f"test-{bound}" for bound in bounds} <= phony


def test_every_supported_python_is_tested() -> None:
    """The workflow tests every Python version in the classifiers."""
    named = {name.rsplit(" ", 1)[1] for name in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", name)}
    assert named == set(re.findall(r'"(3\.\d+)"', WORKFLOWS["test.yml"]))


def test_only_the_publish_job_has_write_permission() -> None:
    """Only the publish job has a write permission."""
    for text in WORKFLOWS.values():
        before_jobs, jobs = text.split("\njobs:\n")
        assert "permissions:\n  contents: read" in before_jobs
        for job in re.split(r"^  (?=\w)", jobs, flags=re.MULTILINE):
            assert ": write" not in job or job.startswith("publish:")
