"""docs/getting-started.md: its night goes on from its first load, and finds its programs as cron starts it."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
from typing import TYPE_CHECKING

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.docs import pages
from tests.docs.programs import COMMANDS, ENVIRONMENT, asked_days, installed

if TYPE_CHECKING:
    from pathlib import Path

PAGE = pages.text_of("docs/getting-started.md")


def test_the_first_night_goes_on_from_the_first_load_without_the_shell_s_path(tmp_path: Path) -> None:
    for program in (COMMANDS / "tap-mixpanel-stream", installed("jsonl", "target-jsonl")):
        folder = tmp_path / "home" / program.name / "bin"
        folder.mkdir(parents=True)
        (folder / program.name).symlink_to(program)
    _, load, write_and_run, again = [block.text for block in pages.marked(PAGE, "runs in the tests")]
    [line] = [block.text for block in pages.blocks(PAGE) if block.text.startswith("0 3 * * * ")]
    assert again.strip() in line

    def shell(script: str, path: str) -> None:
        done = subprocess.run(
            ["/bin/bash", "-c", script],
            cwd=tmp_path / "home" / "mixpanel",
            env={**ENVIRONMENT, "HOME": str(tmp_path / "home"), "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    own = tmp_path / "home" / "mixpanel"
    own.mkdir()
    (own / "target.json").write_text('{"destination_path": "loaded"}')
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), events_per_day=2, profiles=2)
    with Emulator(project) as emulator:
        days = {"start_date": "2024-01-01", "end_date": "2024-01-20"}
        (own / "config.json").write_text(json.dumps(emulator.settings | days))
        shell(load, f"{COMMANDS}:{installed('jsonl', 'target-jsonl').parent}:/usr/bin:/bin")
        assert asked_days(emulator.requests) == ("2024-01-01", "2024-01-20")
        for script in (write_and_run, line.removeprefix("0 3 * * * ")):
            begin = len(emulator.requests)
            shell(script, "/usr/bin:/bin")
            assert asked_days(emulator.requests[begin:]) == ("2024-01-16", "2024-01-20")
