"""The loaders in docs/targets.md, run by Meltano as shown."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.docs import pages
from tests.docs.programs import ROOT, requested_days
from tests.meltano.project import LOADERS, Project
from tests.records import reference
from tests.targets.loading import KEYS, PAGE, S3, TARGETS, WEEKLY, Target, new_target, shown_settings

if TYPE_CHECKING:
    from tests.targets.postgresql import Server

BLOCKS = pages.named(PAGE)
# Loaders of the weekly targets are not run by Meltano, which would start them without the emulators of their services.
SHOWN = sorted({*LOADERS, *(TARGETS[name].environment for name in WEEKLY)})
MIXPANEL = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 3), events_per_day=100, profiles=7)


def show_loader(project: Project, kind: str) -> None:
    """Put a loader of the page into meltano.yml, replacing one of the same name."""
    own = project.definition.read_text()
    project.definition.write_text(re.sub(rf"  - name: target-{kind}\n(?:    .*\n)*", "", own))
    project.add_loader(BLOCKS[f"{kind}: meltano.yml"])


def use_own_server(project: Project, target: Target) -> dict[str, str]:
    """Return variables that point a loader to the tests' server; for S3 change its definition."""
    if isinstance(target, S3):  # Meltano reads no variable for a setting inside another
        region = "aws_region: eu-central-1\n"
        own = f"{region}          aws_endpoint_override: {target.server.url}\n"
        project.definition.write_text(project.definition.read_text().replace(region, own))
        return {}
    shown = shown_settings(f"{target.environment}: target.json")
    prefix = f"TARGET_{target.environment.upper()}_"
    return {f"{prefix}{key.upper()}": str(own) for key, own in target.settings().items() if shown.get(key) != own}


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - WEEKLY))
def test_a_loader_shown_loads_everything(name: str, project: Project, request: pytest.FixtureRequest) -> None:
    """Each loader loads all events and profiles with the page's definition."""
    target = new_target(name, request, project.folder)
    kind = target.environment
    show_loader(project, kind)
    target.prepare(raw=False)
    script = BLOCKS.get(f"{name}: shell", f"meltano run tap-mixpanel-stream target-{kind}")
    batches = project.folder / "batches"
    if "/var/tmp/" in script:  # noqa: S108 - a folder of the page
        batches.mkdir()
    with Emulator(MIXPANEL) as emulator:
        project.fill_in(emulator.settings | {"start_date": "2024-01-01", "end_date": "2024-01-02"})
        script = script.replace("/var/tmp/mixpanel-batches", str(batches))  # noqa: S108
        project.shell(script, {**target.environment_variables(), **use_own_server(project, target)}).well()
    lines = list(MIXPANEL.lines(dt.date(2024, 1, 1), dt.date(2024, 1, 2), now=dt.datetime.now(dt.UTC)))
    once = {tuple(record[column] for column in KEYS["events", False]) for record in map(reference.normalized, lines)}
    assert len(list(target.rows("events", raw=False))) == len(once if target.updates else lines)
    assert len(list(target.rows("profiles", raw=False))) == 7
    assert bool(list(batches.glob("*"))) == (name == "postgres-batch")


def test_the_nightly_job_shown_continues(project: Project, postgres: Server) -> None:
    """The nightly job stores its state, and cron's line continues from it."""
    target = TARGETS["postgres"]("postgres", project.folder, postgres)
    show_loader(project, "postgres")
    by_cron = BLOCKS["postgres: crontab"].strip().removeprefix("0 3 * * * ")
    home = project.folder / "home"
    home.mkdir()
    outputs: list[str] = []
    (home / "tap-mixpanel-stream").symlink_to(project.folder)
    environment = {f"TARGET_POSTGRES_{key.upper()}": str(value) for key, value in postgres.address.items()}
    with Emulator(MIXPANEL) as emulator:
        for end, script in (("2024-01-02", BLOCKS["postgres: nightly"]), ("2024-01-03", by_cron)):
            project.fill_in(emulator.settings | {"start_date": "2024-01-01", "end_date": end, "lookback_days": "1"})
            begin = len(emulator.requests)
            outputs.append(project.shell(script, environment | {"HOME": str(home)}).well())
        assert requested_days(emulator.requests[:begin]) == ("2024-01-01", "2024-01-02")
        assert requested_days(emulator.requests[begin:]) == ("2024-01-02", "2024-01-03")
    assert "2024-01-03T00:00:00+00:00" in outputs[0]
    assert outputs[1] == ""
    assert "[0 3 * * *] job mixpanel-nightly" in project.shell("meltano schedule list").well()
    lines = MIXPANEL.lines(dt.date(2024, 1, 1), dt.date(2024, 1, 3), now=dt.datetime.now(dt.UTC))
    once = {tuple(record[column] for column in KEYS["events", False]) for record in map(reference.normalized, lines)}
    assert len(list(target.rows("events", raw=False))) == len(once)


@pytest.mark.parametrize("kind", SHOWN)
def test_loader_and_target_have_the_same_settings(kind: str, project: Project) -> None:
    """The loader's settings are those shown for the target without Meltano."""
    show_loader(project, kind)
    outputs = project.shell(f"meltano config print target-{kind} --format json 2>/dev/null").well()
    shown = shown_settings(f"{kind}: target.json")
    shown.pop("password", None)  # it is in .env
    assert json.loads(outputs) == shown


@pytest.mark.parametrize("kind", SHOWN)
def test_the_loader_version_shown_is_tested(kind: str) -> None:
    """The version shown for a loader is the one that the tests run."""
    needed = re.search(rf"^NEEDED_{kind} = (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    shown = re.search(r"^    pip_url: (.*)$", BLOCKS[f"{kind}: meltano.yml"], re.MULTILINE)
    assert needed
    assert shown
    # After the loader there may be other packages for the tests.
    assert f"{needed[1]} ".startswith(f"{shown[1]} ")
