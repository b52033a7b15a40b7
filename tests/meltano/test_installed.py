"""The checkout's meltano.yml and plugin.yml installed by Meltano, with the commands of docs/meltano.md."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject, SyntheticProject
from tests.docs import pages
from tests.docs.programs import ROOT, requested_days
from tests.meltano.project import Project, filled_in, without_pip_urls

if TYPE_CHECKING:
    from pathlib import Path

# The files of the checkout that an installation needs, and those that a user copies.
SOURCE = ("tap_mixpanel_stream", "pyproject.toml", "constraints.txt", "README.md", "LICENSE", ".secrets.example")
BLOCKS = pages.named("docs/meltano.md")
MIXPANEL = SyntheticProject(
    first_day=dt.date(2023, 11, 1), last_day=dt.date(2024, 2, 29), events_per_day=20, profiles=5
)

PROFILE = {"$distinct_id": "a", "$properties": {}}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return the project in a copy of the checkout, with nothing installed."""
    project = Project(tmp_path_factory.mktemp("checkout"))
    for name in SOURCE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, project.folder / name)
    shutil.copy(ROOT / "meltano.yml", project.folder)
    for program in (project.folder / "bin").iterdir():
        if program.name != "meltano":
            program.unlink()
    return project


def count_events(first: str, last: str) -> int:
    days = dt.date.fromisoformat(first), dt.date.fromisoformat(last)
    return len(list(MIXPANEL.lines(*days, now=dt.datetime.now(dt.UTC))))


def test_the_first_steps_install_and_run(checkout: Project) -> None:
    """The first steps install and run the pipeline, and the next run continues."""
    script = BLOCKS["first steps"]
    assert script in (ROOT / "README.md").read_text(encoding="utf-8")
    copying, *steps = script.splitlines()
    checkout.shell(copying).well()
    env = checkout.folder / ".env"
    with Emulator(MIXPANEL) as emulator:
        env.write_text(filled_in(env.read_text(), emulator.settings | {"end_date": "2024-01-10"}))
        log = checkout.shell("\n".join(steps)).well()
        assert "ResourceWarning" not in log
        assert requested_days(emulator.requests) == ("2024-01-01", "2024-01-10")
        # Streams that need a paid plan are not requested.
        assert {seen.kind for seen in emulator.requests} == {"export", "engage"}
        assert len(checkout.loaded("events")) == count_events("2024-01-01", "2024-01-10")
        env.write_text(filled_in(env.read_text(), {"end_date": "2024-01-12"}))
        begin = len(emulator.requests)
        checkout.shell(steps[-1]).well()
        # From the state's day, the 11th, minus the look-back.
        assert requested_days(emulator.requests[begin:]) == ("2024-01-06", "2024-01-12")
        assert "No problem found." in checkout.shell(BLOCKS["doctor"]).well()
    again = count_events("2024-01-06", "2024-01-12")
    assert len(checkout.loaded("events")) == count_events("2024-01-01", "2024-01-10") + again
    assert len(checkout.loaded("profiles")) == 2 * 5
    assert checkout.definition.read_bytes() == (ROOT / "meltano.yml").read_bytes()


def test_concurrent_shards_and_the_daily_pipeline(checkout: Project) -> None:
    """Concurrent shards load their months, and the daily pipeline continues; a failed shard fails the command."""
    checkout.shell("meltano install").well()
    (checkout.folder / "backfill.sh").write_text(BLOCKS["backfill.sh"])
    script = BLOCKS["several at once"]
    months = {"2023-11": 30, "2023-12": 31, "2024-01": 31}
    assert re.findall(r"20\d\d-\d\d", script) == list(months)
    with Emulator(MIXPANEL) as emulator:
        checkout.fill_in(emulator.settings)
        checkout.shell(script).well()
        exports = [seen.query for seen in emulator.requests if seen.kind == "export"]
        assert [seen.kind for seen in emulator.requests].count("engage") == 1
    assert {query[day][:7] for query in exports for day in ("from_date", "to_date")} == set(months)
    for month, days in months.items():
        assert len(checkout.loaded("events", f"output/{month}")) == count_events(f"{month}-01", f"{month}-{days}")
        assert not checkout.loaded("profiles", f"output/{month}")
    checkout.shell(BLOCKS["continue from the last shard"]).well()
    assert checkout.state() == "2024-02-01T00:00:00+00:00"
    # The emulator is stopped, so a shard fails, and so does the command.
    _, at_once, _ = script.splitlines()
    assert checkout.shell(at_once, {"TAP_MIXPANEL_STREAM_MAX_RETRIES": "0"}).code == 123


def test_plugin_yml_can_be_added_to_a_project(tmp_path: Path) -> None:
    """`meltano add --from-ref` copies settings and selection; a run reads events, profiles and groups."""
    (tmp_path / "tap-mixpanel-stream").mkdir()
    shutil.copy(ROOT / "plugin.yml", tmp_path / "tap-mixpanel-stream")
    (tmp_path / "own").mkdir()
    own = Project(tmp_path / "own")
    own.definition.write_text(
        'requires_meltano: ">=4.0"\nsend_anonymous_usage_stats: false\ncli: {disable_version_check: true}\n'
    )
    own.shell(f"{BLOCKS['in another project'].strip()} --no-install").well()
    added = own.definition.read_text()
    for name in re.findall(r"^  - name: (\w+)$", (ROOT / "plugin.yml").read_text(encoding="utf-8"), re.MULTILINE):
        assert f"- name: {name}\n" in added
    assert "sensitive: true" in added
    assert "written" not in added
    own.definition.write_text(without_pip_urls(added))
    groups = {"group_profiles": '[{"name": "companies", "data_group_id": "-77"}]'}
    with Emulator(FixedProject(profiles=[PROFILE], group_profiles={"-77": [PROFILE]})) as emulator:
        own.fill_in(emulator.settings | groups | {"start_date": "2024-01-01", "end_date": "2024-01-02"})
        out = own.shell("meltano invoke tap-mixpanel-stream").well()
        assert {seen.kind for seen in emulator.requests} == {"export", "engage"}
    assert set(re.findall(r'"type":"SCHEMA","stream":"(\w+)"', out)) == {"events", "profiles", "companies"}


def test_plugin_yml_and_meltano_yml_select_the_same() -> None:
    """plugin.yml and the checkout's meltano.yml have the same selection."""
    selections = [
        re.findall(r"^ *- '([^']*\.\*)'$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        for name in ("meltano.yml", "plugin.yml")
    ]
    assert selections[0] == selections[1] != []
