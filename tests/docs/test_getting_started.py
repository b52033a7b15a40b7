"""The nightly load into PostgreSQL in README.md and docs/getting-started.md."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import time
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
    done = shell(script, home, folder)
    assert done.returncode == 0, done.stdout + done.stderr


def shell(script: str, home: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=folder,
        env={**ENVIRONMENT, "HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


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
    install, prepare, config, target, check, load, query, cron, older = blocks
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
        days = {"start_date": "2023-12-30", "end_date": "2023-12-31"}
        (folder / "older.json").write_text(json.dumps(json.loads(config.text) | emulator.settings | days))
        begin = len(emulator.requests)
        run(prepare.text + older.text, home, folder)
        assert requested_days(emulator.requests[begin:]) == ("2023-12-30", "2023-12-31")
    rows = postgres.rows(query.text)
    assert sum(row["events"] for row in rows) == EVENTS
    assert len(rows) == 20


GOOD = '{"bookmarks":{"events":{"replication_key_value":"2024-01-21T00:00:00+00:00"}}}'


class Nightly:
    """nightly.sh of the page with scripts instead of tap and target.

    Args:
        home: The home folder, without programs.
    """

    def __init__(self, home: Path) -> None:
        [write] = [
            each.text for each in pages.blocks(pages.text_of("docs/getting-started.md")) if "<<'END'" in each.text
        ]
        self.home = home
        self.state = home / "state.json"
        (home / "nightly.sh").write_text(write.split("<<'END'\n")[1].split("END\n")[0])
        self.program("tap", "tap-mixpanel-stream", 'python3 -m json.tool "$4" > /dev/null || exit 1')

    def program(self, folder: str, name: str, script: str) -> None:
        path = self.home / folder / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def run(self, target: str) -> int:
        self.program("target", "target-postgres", target)
        return shell("bash nightly.sh", self.home, self.home).returncode


def test_the_nightly_script_keeps_a_good_state(tmp_path: Path) -> None:
    """A truncated state, NUL bytes, no state, or a full disk never replace the state, and fail the run."""
    nightly = Nightly(tmp_path)
    assert nightly.run(f"echo '{{}}'; echo '{GOOD}'") == 0
    assert json.loads(nightly.state.read_text()) == json.loads(GOOD)
    assert nightly.run("true") == 0
    for target in (
        f"echo '{GOOD}'; printf '{GOOD[:30]}'; kill -9 $$",
        f"printf '\\0\\0\\0'; echo '{GOOD}'",
        "echo",
    ):
        assert nightly.run(target) != 0
        assert json.loads(nightly.state.read_text()) == json.loads(GOOD)
    (tmp_path / "state.new").unlink(missing_ok=True)
    (tmp_path / "state.new").symlink_to("/dev/full")
    assert nightly.run("echo '{}'") == 1
    assert json.loads(nightly.state.read_text()) == json.loads(GOOD)


def test_the_nightly_script_never_reads_all_days_again(tmp_path: Path) -> None:
    """An empty state.json fails the run. Taken for a first run, it would read everything from start_date."""
    nightly = Nightly(tmp_path)
    nightly.state.touch()
    assert nightly.run("cat") == 1
    assert nightly.state.read_text() == ""


def test_a_second_nightly_run_ends_at_once(tmp_path: Path) -> None:
    """The lock is in the script, so it also covers a run by hand."""
    nightly = Nightly(tmp_path)
    (tmp_path / "go").unlink(missing_ok=True)
    nightly.program(
        "target", "target-postgres", f"for _ in {{1..100}}; do test -e go || sleep 0.1; done; echo '{GOOD}'"
    )
    environment = {**ENVIRONMENT, "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(["/bin/bash", "nightly.sh"], cwd=tmp_path, env=environment) as first:
        while not (tmp_path / "new-states.jsonl").exists():
            time.sleep(0.05)
        second = shell("bash nightly.sh", tmp_path, tmp_path)
        (tmp_path / "go").touch()
        assert first.wait(20) == 0
    assert (second.returncode, second.stdout) == (1, "nightly.sh is still running\n")
    assert json.loads(nightly.state.read_text()) == json.loads(GOOD)
