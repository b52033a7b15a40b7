"""The project's own meltano.yml and plugin.yml, with the real Meltano."""

from __future__ import annotations

import datetime as dt
import re
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.newcomer.programs import ENVIRONMENT, ROOT, asked_days, installed

if TYPE_CHECKING:
    from pathlib import Path

# What installing from the checkout needs of it.
SOURCE = ("tap_mixpanel_stream", "pyproject.toml", "constraints.txt", "README.md", "LICENSE")


def meltano(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [installed("meltano", "meltano"), *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def filled_in(example: str, settings: dict[str, str]) -> str:
    """The example of secrets as somebody fills it in, and what the emulator needs beyond it."""
    for name, value in settings.items():
        line = f'TAP_MIXPANEL_STREAM_{name.upper()}="{value}"\n'
        example, replaced = re.subn(rf"^#?TAP_MIXPANEL_STREAM_{name.upper()}=.*\n", line, example, flags=re.MULTILINE)
        example += "" if replaced else line
    return example


def test_the_project_runs_twice_goes_on_from_its_state_and_can_be_examined(tmp_path: Path) -> None:
    for name in SOURCE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "meltano.yml", tmp_path)
    example = (ROOT / ".secrets.example").read_text(encoding="utf-8")
    run = re.search(r"^meltano (run .*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert run
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), events_per_day=20, profiles=5)
    with Emulator(project) as emulator:
        for end_date in ("2024-01-10", "2024-01-12"):
            (tmp_path / ".env").write_text(filled_in(example, emulator.settings | {"end_date": end_date}))
            begin = len(emulator.requests)
            log = meltano(tmp_path, *run[1].split())
            assert "ResourceWarning" not in log
            profiles = [seen for seen in emulator.requests[begin:] if seen.kind == "engage"]
            assert {seen.kind for seen in emulator.requests} == {"export", "engage"}
            # The second time from the state's day, the 11th, less the look-back.
            first_day = {"2024-01-10": "2024-01-01", "2024-01-12": "2024-01-06"}[end_date]
            assert asked_days(emulator.requests[begin:]) == (first_day, end_date)
            assert len(profiles) == 1
        examine = re.search(r"`meltano (invoke tap-mixpanel-stream --doctor)`", (ROOT / "README.md").read_text("utf-8"))
        assert examine
        assert "No problem found." in meltano(tmp_path, *examine[1].split())

    def loaded(stream: str) -> list[int]:
        return sorted(len(file.read_bytes().splitlines()) for file in (tmp_path / "output").glob(f"{stream}-*.jsonl"))

    now = dt.datetime.now(dt.UTC)
    ranges = [(dt.date(2024, 1, 1), dt.date(2024, 1, 10)), (dt.date(2024, 1, 6), dt.date(2024, 1, 12))]
    expected = [len(list(project.lines(first, last, now=now))) for first, last in ranges]
    assert loaded("events") == sorted(expected)
    assert loaded("profiles") == [5, 5]
    assert (tmp_path / "meltano.yml").read_bytes() == (ROOT / "meltano.yml").read_bytes()
    select = re.search(r"^meltano (select .*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert select
    meltano(tmp_path, *shlex.split(select[1]))
    listed = meltano(tmp_path, "select", "tap-mixpanel-stream", "--list")
    assert set(re.findall(r"\] (\w+)\.", listed)) == {"events", "profiles", "cohorts"}


def test_the_definition_can_be_added_to_another_project(tmp_path: Path) -> None:
    command = re.search(r"^meltano (add .*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert command
    definition = tmp_path / "tap-mixpanel-stream"
    definition.mkdir()
    shutil.copy(ROOT / "plugin.yml", definition)
    own = tmp_path / "own"
    own.mkdir()
    (own / "meltano.yml").write_text(
        'requires_meltano: ">=4.0"\nsend_anonymous_usage_stats: false\ncli: {disable_version_check: true}\n'
    )
    meltano(own, *command[1].split(), "--no-install")
    added = (own / "meltano.yml").read_text()
    for name in re.findall(r"^- name: (\w+)$", (ROOT / "plugin.yml").read_text(encoding="utf-8"), re.MULTILINE):
        assert f"- name: {name}\n" in added
    assert "sensitive: true" in added
    by_default = re.search(r"^ +(select: .*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert by_default
    # The same list as in the project's own file.
    own_list = re.search(r"^    select:\n((?:    - .*\n)+)", (ROOT / "meltano.yml").read_text(), re.MULTILINE)
    assert own_list
    assert re.findall(r"'(.*?)'", by_default[1]) == re.findall(r"'(.*?)'", own_list[1])
