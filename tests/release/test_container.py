"""The Dockerfile and examples/container. The tests have no container engine, so they check the parts."""

from __future__ import annotations

import re
import shutil
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.docs import pages
from tests.docs.programs import ROOT
from tests.release.packaged import BUILDER, TOOLS, WHEEL, made, said

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = ROOT / "examples" / "container"
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COPIED = [source for sources in re.findall(r"^COPY (?!--)(.*) \S+$", TEXT, re.MULTILINE) for source in sources.split()]


@pytest.mark.parametrize("name", ["Dockerfile", "examples/container/Dockerfile"])
def test_it_has_no_known_fault(name: str) -> None:
    said(TOOLS / "hadolint", "--failure-threshold", "style", ROOT / name)


def test_the_compose_file_fits_the_compose_specification() -> None:
    said(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", EXAMPLES / "compose.yml")


def test_the_cron_job_fits_the_schema_of_kubernetes() -> None:
    said(TOOLS / "kubernetes-validate", "--strict", EXAMPLES / "cronjob.yaml")


@pytest.mark.parametrize(("page", "kind"), [("production", "freshness"), ("after-the-load", "indexes")])
@pytest.mark.parametrize("dialect", ["snowflake", "bigquery"])
def test_the_sql_that_does_not_run_parses(page: str, kind: str, dialect: str) -> None:
    """That for Snowflake and BigQuery has no server in the tests."""
    query = pages.named(f"docs/{page}.md")[f"{kind}: {dialect}"]
    said(TOOLS / "python", "-c", "import sqlglot, sys; sqlglot.parse_one(sys.argv[2], sys.argv[1])", dialect, query)


def test_what_it_copies_makes_the_same_wheel(tmp_path: Path) -> None:
    made()
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    said(BUILDER, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path / "dist", tmp_path)
    built = zipfile.ZipFile(tmp_path / "dist" / WHEEL.name)
    assert sorted(built.namelist()) == sorted(zipfile.ZipFile(WHEEL).namelist())


def test_nothing_else_reaches_the_builder() -> None:
    """Above all no `.env`."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in ignored if not line.startswith("#")]
    assert rules[0] == "*"
    assert [line[1:] for line in rules if line.startswith("!")] == COPIED


def test_the_tap_runs_as_nobody_in_particular() -> None:
    last = TEXT[TEXT.rindex("\nFROM ") :]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE)
    assert 'ENTRYPOINT ["tap-mixpanel-stream"]' in last


def test_it_is_slim_and_of_a_python_that_the_project_names() -> None:
    # By its digest: a tag can be moved to another image.
    [version] = set(re.findall(r"^FROM python:([\d.]+)-slim@sha256:[0-9a-f]{64}\b", TEXT, re.MULTILINE))
    assert len(re.findall(r"^FROM ", TEXT, re.MULTILINE)) == 2
    assert f'"Programming Language :: Python :: {version}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
