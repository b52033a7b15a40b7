"""The nightly load into PostgreSQL in README.md and docs/getting-started.md."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.docs import pages
from tests.docs.programs import COMMANDS, ENVIRONMENT, ROOT, installed, requested_days

if TYPE_CHECKING:
    from pathlib import Path

    from tests.targets.postgresql import Server

PROJECT = SyntheticProject(first_day=dt.date(2024, 1, 1), events_per_day=3, profiles=2)
DAYS = {"start_date": "2024-01-01", "end_date": "2024-01-20"}
EVENTS = 20 * 3


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home folder with the tap and the target installed as on the pages."""
    home = tmp_path / "home"
    for name, program in (
        ("tap", COMMANDS / "tap-mixpanel-stream"),
        ("target", installed("postgres", "target-postgres")),
    ):
        folder = home / name / "bin"
        folder.mkdir(parents=True)
        (folder / program.name).symlink_to(program)
    return home


def run(script: str, home: Path, folder: Path) -> None:
    """Run a script with the PATH of cron."""
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=folder,
        env={**ENVIRONMENT, "HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_script_loads_postgresql_twice(home: Path, tmp_path: Path, postgres: Server) -> None:
    """The README's first script loads PostgreSQL, and its last lines continue the next night."""
    [script] = [each.text for each in pages.blocks(pages.text_of("README.md")) if "target-postgres" in each.text]
    lines = script.splitlines()
    assert len(lines) == 10
    installing, writing, nightly = lines[:2], lines[2:8], lines[8:]
    assert all("pip install" in line for line in installing)
    with Emulator(PROJECT) as emulator:
        config = json.loads(writing[1]) | emulator.settings | DAYS
        target = json.loads(writing[4]) | postgres.address
        writing[1], writing[4] = json.dumps(config), json.dumps(target)
        run("\n".join(writing + nightly), home, tmp_path)
        assert requested_days(emulator.requests) == ("2024-01-01", "2024-01-20")
        begin = len(emulator.requests)
        run("\n".join(nightly), home, tmp_path)
        assert requested_days(emulator.requests[begin:]) == ("2024-01-16", "2024-01-20")
    assert postgres.run("SELECT count(*) FROM mixpanel.events") == f"{EVENTS}\n"
    assert postgres.run("SELECT count(*) FROM mixpanel.profiles") == "2\n"


def test_the_page_loads_postgresql_nightly(home: Path, postgres: Server) -> None:
    """Each block of the page runs in order; cron's line continues from the first load."""
    blocks = pages.blocks(pages.text_of("docs/getting-started.md").split("\n## Without a Mixpanel account\n")[0])
    install, prepare, config, target, check, load, query, cron = blocks
    versions = (ROOT / "tests" / "targets-postgres.txt").read_text(encoding="utf-8")
    [package] = re.findall(r"meltanolabs-target-postgres==\S+", install.text)
    assert package in versions
    folder = home / "mixpanel"
    with Emulator(PROJECT) as emulator:
        run(prepare.text, home, home)
        (folder / "config.json").write_text(json.dumps(json.loads(config.text) | emulator.settings | DAYS))
        (folder / "target.json").write_text(json.dumps(json.loads(target.text) | postgres.address))
        run(prepare.text + check.text, home, folder)
        begin = len(emulator.requests)
        run(load.text, home, folder)
        assert requested_days(emulator.requests[begin:]) == ("2024-01-01", "2024-01-20")
        begin = len(emulator.requests)
        run(cron.text.removeprefix("0 3 * * * "), home, folder)
        assert requested_days(emulator.requests[begin:]) == ("2024-01-16", "2024-01-20")
    rows = postgres.rows(query.text)
    assert sum(row["events"] for row in rows) == EVENTS
    assert len(rows) == 20
