"""The loaders that docs/targets.md shows, run by Meltano as they stand there."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.docs import pages
from tests.docs.programs import ROOT, asked_days
from tests.meltano.project import LOADERS, Project
from tests.records import reference
from tests.targets.loading import KEYS, PAGE, S3, TARGETS, WEEKLY, Target, new_target, shown_settings

if TYPE_CHECKING:
    from tests.targets.postgresql import Server

BLOCKS = pages.named(PAGE)
# The loaders of the weekly targets are shown, and not run by Meltano: it would start them without what stands in for
# their service.
SHOWN = sorted({*LOADERS, *(TARGETS[name].environment for name in WEEKLY)})
MIXPANEL = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 3), events_per_day=100, profiles=7)


def show_loader(project: Project, kind: str) -> None:
    """Put a loader of the page into meltano.yml, in place of the one of that name."""
    own = project.definition.read_text()
    project.definition.write_text(re.sub(rf"  - name: target-{kind}\n(?:    .*\n)*", "", own))
    project.add_loader(BLOCKS[f"{kind}: meltano.yml"])


def use_own_server(project: Project, target: Target) -> dict[str, str]:
    """Point a loader to the tests' own server, by the variables returned and, for S3, in its definition."""
    if isinstance(target, S3):  # Meltano reads no variable for a setting inside another
        region = "aws_region: eu-central-1\n"
        own = f"{region}          aws_endpoint_override: {target.server.url}\n"
        project.definition.write_text(project.definition.read_text().replace(region, own))
        return {}
    shown = shown_settings(f"{target.environment}: target.json")
    prefix = f"TARGET_{target.environment.upper()}_"
    return {f"{prefix}{key.upper()}": str(own) for key, own in target.settings().items() if shown.get(key) != own}


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - WEEKLY))
def test_the_loader_shown_loads(name: str, project: Project, request: pytest.FixtureRequest) -> None:
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
    held = list(MIXPANEL.lines(dt.date(2024, 1, 1), dt.date(2024, 1, 2), now=dt.datetime.now(dt.UTC)))
    once = {tuple(record[column] for column in KEYS["events", False]) for record in map(reference.normalized, held)}
    assert len(list(target.rows("events", raw=False))) == len(once if target.updates else held)
    assert len(list(target.rows("profiles", raw=False))) == 7
    assert bool(list(batches.glob("*"))) == (name == "postgres-batch")


def test_the_night_shown_keeps_a_state_and_goes_on_from_it(project: Project, postgres: Server) -> None:
    target = TARGETS["postgres"]("postgres", project.folder, postgres)
    show_loader(project, "postgres")
    by_cron = BLOCKS["postgres: crontab"].strip().removeprefix("0 3 * * * ")
    home = project.folder / "home"
    home.mkdir()
    told: list[str] = []
    (home / "tap-mixpanel-stream").symlink_to(project.folder)
    environment = {f"TARGET_POSTGRES_{key.upper()}": str(value) for key, value in postgres.address.items()}
    with Emulator(MIXPANEL) as emulator:
        for end, script in (("2024-01-02", BLOCKS["postgres: nightly"]), ("2024-01-03", by_cron)):
            project.fill_in(emulator.settings | {"start_date": "2024-01-01", "end_date": end, "lookback_days": "1"})
            begin = len(emulator.requests)
            told.append(project.shell(script, environment | {"HOME": str(home)}).well())
        assert asked_days(emulator.requests[:begin]) == ("2024-01-01", "2024-01-02")
        assert asked_days(emulator.requests[begin:]) == ("2024-01-02", "2024-01-03")
    assert "2024-01-03T00:00:00+00:00" in told[0]
    assert told[1] == ""
    assert "[0 3 * * *] job mixpanel-nightly" in project.shell("meltano schedule list").well()
    held = MIXPANEL.lines(dt.date(2024, 1, 1), dt.date(2024, 1, 3), now=dt.datetime.now(dt.UTC))
    once = {tuple(record[column] for column in KEYS["events", False]) for record in map(reference.normalized, held)}
    assert len(list(target.rows("events", raw=False))) == len(once)


@pytest.mark.parametrize("kind", SHOWN)
def test_the_loader_shown_has_the_settings_shown_for_the_bare_target(kind: str, project: Project) -> None:
    show_loader(project, kind)
    told = project.shell(f"meltano config print target-{kind} --format json 2>/dev/null").well()
    shown = shown_settings(f"{kind}: target.json")
    shown.pop("password", None)  # it stands in .env
    assert json.loads(told) == shown


@pytest.mark.parametrize("kind", SHOWN)
def test_the_version_shown_is_the_one_that_the_tests_run(kind: str) -> None:
    needed = re.search(rf"^NEEDED_{kind} = (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    shown = re.search(r"^    pip_url: (.*)$", BLOCKS[f"{kind}: meltano.yml"], re.MULTILINE)
    assert needed
    assert shown
    # Behind the loader there may be what else the tests have in its environment.
    assert f"{needed[1]} ".startswith(f"{shown[1]} ")
