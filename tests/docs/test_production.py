"""docs/production.md: installation, queries, container and limits of expressions."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import simpleeval

from tap_mixpanel_stream.emulator import Emulator, FixedProject, SyntheticProject
from tests.docs import pages
from tests.docs.programs import COMMANDS, ENVIRONMENT, ROOT, installed, requested_days
from tests.harness import catalog_of, run_tap
from tests.targets.loading import TARGETS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.targets.postgresql import Server

PAGE = pages.text_of("docs/production.md")
# The files of the checkout that an installation needs.
SOURCE = ("tap_mixpanel_stream", "pyproject.toml", "constraints.txt", "README.md", "LICENSE")
LOAD = ROOT / "examples" / "container" / "load.sh"


def shell(script: str, folder: Path, **variables: str) -> str:
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=ENVIRONMENT | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_pinned_version_installs(tmp_path: Path) -> None:
    """The commands of the page install a tag with its pinned dependencies and link to it."""
    source = tmp_path / "source"
    source.mkdir()
    for name in SOURCE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    shell(
        "git init -q && git add . && git -c user.name=a -c user.email=a@b commit -qm release && git tag v0.1.0", source
    )
    [install], [link] = (
        [block.text for block in pages.blocks(pages.section(PAGE, title)) if block.language == "sh"]
        for title in ("Install a pinned version", "Upgrade and roll back")
    )
    frozen = shell(install + link + "tap-current/bin/pip freeze\n", tmp_path, REPOSITORY=source.as_uri())
    assert "tap-mixpanel-stream v0.1.0" in frozen
    pinned = set((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    dependencies = [line for line in frozen.splitlines() if "==" in line]
    assert len(dependencies) > 10
    assert [line for line in dependencies if line not in pinned] == []


def test_a_state_of_a_newer_version_is_read() -> None:
    """Unknown keys of a state are ignored, and the bookmark of an unknown stream is kept."""
    bookmark = {"replication_key": "event_time", "replication_key_value": "2024-01-20T00:00:00+00:00"}
    newer = {"events": {**bookmark, "of_a_newer_version": {"days": 3}}, "of_a_newer_version": {"page": 1}}
    with Emulator(FixedProject()) as emulator:
        config = emulator.settings | {"start_date": "2024-01-01", "end_date": "2024-01-21"}
        run = run_tap(config, catalog=catalog_of("events"), state={"bookmarks": newer}).well()
        assert requested_days(emulator.requests) == ("2024-01-15", "2024-01-21")
    assert run.states[-1]["bookmarks"]["of_a_newer_version"] == {"page": 1}


@pytest.mark.parametrize("name", ["postgres", "duckdb"])
def test_freshness_queries_return_age_and_volume(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The freshness query returns age and volume; an event of 2099 does not count as fresh."""
    server: Server | None = request.getfixturevalue("postgres") if name == "postgres" else None
    target = TARGETS[name](name, tmp_path, server)
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    days = {now.date() - dt.timedelta(days=ago): events for ago, events in ((1, 3), (8, 5))}
    lines: dict[dt.date, list[bytes]] = {
        day: [event(dt.datetime.combine(day, dt.time(12), dt.UTC), str(number)) for number in range(events)]
        for day, events in days.items()
    }
    midnight = dt.datetime.combine(now.date(), dt.time(0), dt.UTC)
    # A window in which all events are of other days is rejected, so today has an event of its own.
    lines[now.date()] = [event(midnight, "today"), event(dt.datetime(2099, 1, 1, tzinfo=dt.UTC), "future")]
    with Emulator(FixedProject(lines)) as emulator:
        settings = emulator.settings | {"start_date": str(now.date() - dt.timedelta(days=9)), "project_timezone": "UTC"}
        loaded = target.load(settings | target.tap_settings())
    assert loaded.codes == (0, 0), loaded.log
    [row] = target.ask(pages.named("docs/production.md")[f"freshness: {name}"])
    assert dt.datetime.fromisoformat(row["newest_event"]).replace(tzinfo=dt.UTC) == midnight
    assert float(row["hours_old"]) == pytest.approx((now - midnight).total_seconds() / 3600, abs=0.2)
    assert (row["yesterday"], row["a_week_before"]) == (3, 5)


def test_the_freshness_query_uses_the_index(tmp_path: Path, postgres: Server) -> None:
    """The primary key begins with the event name, so without the index PostgreSQL reads the whole table."""
    target = TARGETS["postgres"]("postgres", tmp_path, postgres)
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), events_per_day=5, profiles=2)
    with Emulator(project) as emulator:
        days = {"start_date": "2024-01-01", "end_date": "2024-01-05"}
        assert target.load(emulator.settings | days | target.tap_settings()).codes == (0, 0)
    freshness = pages.named("docs/production.md")["freshness: postgres"]
    for statement in pages.named("docs/after-the-load.md")["indexes: postgres"].splitlines():
        postgres.run(statement)
    # With so few rows it would read the whole table.
    plan = postgres.run(f"SET enable_seqscan = off; EXPLAIN {freshness}")
    assert "events_event_time_idx" in plan


def event(at: dt.datetime, insert_id: str) -> bytes:
    properties = {"time": int(at.timestamp()), "distinct_id": "u", "$insert_id": insert_id}
    return json.dumps({"event": "E", "properties": properties}).encode()


class Container:
    """`load.sh` as in a container, with a folder for /state."""

    def __init__(self, folder: Path, server: Server, settings: dict[str, Any]) -> None:
        self.folder = folder
        tap = {f"TAP_MIXPANEL_STREAM_{name.upper()}": str(value) for name, value in settings.items()}
        address = server.address | {"default_target_schema": "mixpanel"}
        target = {f"TARGET_POSTGRES_{name.upper()}": str(value) for name, value in address.items()}
        path = f"{COMMANDS}:{installed('postgres', 'target-postgres').parent}:{ENVIRONMENT['PATH']}"
        self._environment = ENVIRONMENT | tap | target | {"PATH": path, "PGTZ": "UTC"}

    def start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen([LOAD], cwd=self.folder, env=self._environment, stdout=log, stderr=log)

    def bookmark(self) -> str:
        state = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        return str(state["bookmarks"]["events"]["replication_key_value"])

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")


def test_load_sh_loads_and_keeps_the_state(tmp_path: Path, postgres: Server) -> None:
    """The second load continues from the state of the first, and a failed tap fails the script."""
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), events_per_day=5, profiles=2)
    with Emulator(project) as emulator:
        days = {"start_date": "2024-01-01", "end_date": "2024-01-10"}
        container = Container(tmp_path, postgres, emulator.settings | days)
        assert container.start().wait(120) == 0, container.log()
        assert container.bookmark() == "2024-01-11T00:00:00+00:00"
        begin = len(emulator.requests)
        assert container.start().wait(120) == 0, container.log()
        assert requested_days(emulator.requests[begin:]) == ("2024-01-06", "2024-01-10")
        wrong = Container(tmp_path, postgres, emulator.settings | days | {"service_account_secret": "wrong"})
        assert wrong.start().wait(120) == 1
    assert container.bookmark() == "2024-01-11T00:00:00+00:00"


def test_load_sh_keeps_complete_windows_after_sigterm(tmp_path: Path, postgres: Server) -> None:
    """SIGTERM ends the tap; the target stores the complete windows, and the state covers them."""
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), events_per_day=5, profiles=2)
    days = {"start_date": "2024-01-01", "end_date": "2024-06-30", "project_timezone": "UTC"}
    slow = {"window_days": 1, "concurrent_exports": 1, "hourly_quota": 30}
    with Emulator(project) as emulator:
        container = Container(tmp_path, postgres, emulator.settings | days | slow)
        running = container.start()
        deadline = time.monotonic() + 60
        while len(emulator.requests) < 4:
            assert time.monotonic() < deadline, container.log()
            time.sleep(0.1)
        os.kill(running.pid, signal.SIGTERM)
        assert running.wait(60) == 128 + signal.SIGTERM, container.log()
    bookmark = container.bookmark()
    assert "2024-01-02" <= bookmark < "2024-06-30"
    [row] = postgres.rows(f"SELECT count(*) FROM mixpanel.events WHERE event_time < '{bookmark}'")  # noqa: S608 - ours
    assert row["count"] >= 5


def test_load_sh_keeps_a_good_state(tmp_path: Path) -> None:
    """A truncated state, an empty state.json or a second load never replace the state, and fail the load."""
    good = '{"bookmarks":{"events":{"replication_key_value":"2024-01-21T00:00:00+00:00"}}}'

    def load(target: str) -> int:
        for name, script in (("tap-mixpanel-stream", 'test -s "$3"'), ("target-postgres", f"cat; {target}")):
            (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
            (tmp_path / name).chmod(0o755)
        variables = ENVIRONMENT | {"PATH": f"{tmp_path}:{ENVIRONMENT['PATH']}"}
        return subprocess.run([LOAD], cwd=tmp_path, env=variables, check=False, timeout=30).returncode

    state = tmp_path / "state.json"
    assert load(f"echo '{good}'") == 0
    assert json.loads(state.read_text()) == json.loads(good)
    assert load(f"printf '{good[:30]}'") == 1
    # The lock is taken while the target runs.
    assert load("flock -n load.lock echo '{}'") != 0
    assert json.loads(state.read_text()) == json.loads(good)
    state.write_text("")
    assert load("true") == 1
    assert state.read_text() == ""


def test_the_secret_file_keeps_any_secret(tmp_path: Path) -> None:
    """The secret reaches the tap whatever its characters, and only its owner can read the files."""
    [block] = [block for block in pages.blocks(pages.section(PAGE, "Security")) if "secret.env" in block.text]
    secret = """a b$HOME;`id`'"#"""
    (tmp_path / "config.json").write_text(json.dumps({"service_account_secret": secret}))
    program = tmp_path / "tap-mixpanel-stream"
    program.write_text('#!/bin/sh\nprintf %s "$TAP_MIXPANEL_STREAM_SERVICE_ACCOUNT_SECRET"\n')
    program.chmod(0o755)
    assert shell(block.text, tmp_path, PATH=f"{tmp_path}:{ENVIRONMENT['PATH']}") == secret
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("secret.env", "public.json")] == [0o600, 0o600]


def test_limits_of_expressions_match_the_page() -> None:
    """They are simpleeval's limits and can change with its version."""
    page = " ".join(PAGE.split())
    assert f"limits strings to {simpleeval.MAX_STRING_LENGTH:,} characters" in page
    assert f"powers to {simpleeval.MAX_POWER:,}" in page
    assert "_" in simpleeval.DISALLOW_PREFIXES


@pytest.mark.parametrize("expression", ["event_name.__class__", "__import__('os')", "open('/etc/passwd')", "9**9**9"])
def test_an_expression_cannot_access_the_system(expression: str) -> None:
    """Underscore attributes, imports, files and huge powers are rejected."""
    day = dt.date(2024, 1, 1)
    with Emulator(SyntheticProject(first_day=day, last_day=day, events_per_day=2, profiles=0)) as emulator:
        maps = {"stream_maps": {"events": {"leaked": expression}}}
        run = run_tap(emulator.settings | {"start_date": str(day), "end_date": str(day)} | maps)
    assert run.exit_code == 1
    assert run.records() == []
