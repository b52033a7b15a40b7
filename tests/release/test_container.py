"""The Dockerfile and examples/container. The tests have no container engine, so they check the parts."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.docs import pages
from tests.docs.programs import ROOT
from tests.release.packaged import BUILDER, TOOLS, WHEEL, output_of, require_package

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = ROOT / "examples" / "container"
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COPIED = [source for sources in re.findall(r"^COPY (?!--)(.*) \S+$", TEXT, re.MULTILINE) for source in sources.split()]


@pytest.mark.parametrize("name", ["Dockerfile", "examples/container/Dockerfile"])
def test_dockerfiles_pass_hadolint(name: str) -> None:
    """hadolint finds no problem in the Dockerfiles."""
    output_of(TOOLS / "hadolint", "--failure-threshold", "style", ROOT / name)


def test_the_compose_file_is_valid() -> None:
    """The Compose file matches the Compose specification."""
    output_of(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", EXAMPLES / "compose.yml")


def test_the_cron_job_is_valid() -> None:
    """The CronJob matches the Kubernetes schema."""
    output_of(TOOLS / "kubernetes-validate", "--strict", EXAMPLES / "cronjob.yaml")


def test_the_secret_of_the_cron_job_has_no_quotes(tmp_path: Path) -> None:
    """kubectl takes each line of an env file up to the first = as the name, and the rest as it is, quotes included."""
    lines = (EXAMPLES / "cronjob.yaml").read_text(encoding="utf-8").splitlines()
    command = "\n".join(line.removeprefix("#   ") for line in lines if line.startswith("#   "))
    (tmp_path / ".env").write_text("TAP_MIXPANEL_STREAM_REGION=\"us\"\nTARGET_POSTGRES_PASSWORD='a b$c'\n")
    (tmp_path / "kubectl").write_text('#!/bin/sh\ncat "${5#--from-env-file=}"\n')
    (tmp_path / "kubectl").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", "-ec", command], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert sorted(done.stdout.decode().splitlines()) == [
        "TAP_MIXPANEL_STREAM_REGION=us",
        "TARGET_POSTGRES_PASSWORD=a b$c",
    ]


@pytest.mark.parametrize(("page", "kind"), [("production", "freshness"), ("after-the-load", "indexes")])
@pytest.mark.parametrize("dialect", ["snowflake", "bigquery"])
def test_sql_without_a_server_parses(page: str, kind: str, dialect: str) -> None:
    """The SQL for Snowflake and BigQuery, which have no server in the tests, parses."""
    query = pages.named(f"docs/{page}.md")[f"{kind}: {dialect}"]
    output_of(
        TOOLS / "python", "-c", "import sqlglot, sys; sqlglot.parse_one(sys.argv[2], sys.argv[1])", dialect, query
    )


def test_the_image_builds_the_same_wheel(tmp_path: Path) -> None:
    """The files that the Dockerfile copies build the same wheel."""
    require_package()
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    output_of(BUILDER, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path / "dist", tmp_path)
    built = zipfile.ZipFile(tmp_path / "dist" / WHEEL.name)
    assert sorted(built.namelist()) == sorted(zipfile.ZipFile(WHEEL).namelist())


def test_only_copied_files_are_in_the_build_context() -> None:
    """The build context has only the copied files, and no `.env`."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in ignored if not line.startswith("#")]
    assert rules[0] == "*"
    assert [line[1:] for line in rules if line.startswith("!")] == COPIED


def test_the_image_has_an_unprivileged_user() -> None:
    """The image runs the tap as a numeric user other than root."""
    last = TEXT[TEXT.rindex("\nFROM ") :]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE)
    assert 'ENTRYPOINT ["tap-mixpanel-stream"]' in last


def test_the_base_image_is_pinned() -> None:
    """The base image is a slim image of a supported Python, pinned by digest."""
    # By digest, because a tag can be moved to another image.
    [version] = set(re.findall(r"^FROM python:([\d.]+)-slim@sha256:[0-9a-f]{64}\b", TEXT, re.MULTILINE))
    assert len(re.findall(r"^FROM ", TEXT, re.MULTILINE)) == 2
    assert f'"Programming Language :: Python :: {version}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
