"""The tables and commands in the README match the tap."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING

from tap_mixpanel_stream.emulator import Emulator, FixedProject, SyntheticProject
from tests.docs import pages
from tests.docs.programs import COMMANDS, ENVIRONMENT, ROOT
from tests.harness import run_tap

if TYPE_CHECKING:
    from pathlib import Path


README = (ROOT / "README.md").read_text(encoding="utf-8")
DAYS = {"start_date": "2024-01-01", "end_date": "2024-01-10"}


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_readme_has_at_most_180_lines() -> None:
    """A newcomer reads it in a few minutes; everything else is in docs/."""
    assert README.count("\n") <= 180


def test_columns_and_keys_match_the_table() -> None:
    """The table of streams has the columns and keys of the catalog."""
    rows = [re.split(r" \| ", row.strip("| \n")) for row in section("Streams").splitlines() if row.startswith("| `")]
    for raw in (False, True):
        catalog = json.loads(run_tap({"raw": raw}, "--discover").stdout)
        streams = {stream["tap_stream_id"]: stream for stream in catalog["streams"]}
        assert set(streams) == {row[0].strip("`") for row in rows}
        for name, *cells in rows:
            # Reports are the same with `raw`.
            columns, key = cells[2:] if raw and len(cells) > 2 else cells[:2]
            stream = streams[name.strip("`")]
            assert list(stream["schema"]["properties"]) == re.findall(r"`(.*?)`", columns)
            assert stream["key_properties"] == re.findall(r"`(.*?)`", key)


def test_commands_without_an_account_run(tmp_path: Path) -> None:
    """Doctor, test run, discovery and a run with its catalog succeed."""
    [script] = [block.text for block in pages.marked(README, "runs in the tests")]
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), events_per_day=20, profiles=5)
    with Emulator(project) as emulator:
        (tmp_path / "config.json").write_text(json.dumps(emulator.settings | DAYS))
        done = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=ENVIRONMENT | {"PATH": f"{COMMANDS}:{ENVIRONMENT['PATH']}"},
            capture_output=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()
    messages = [json.loads(line) for line in (tmp_path / "messages.jsonl").read_bytes().splitlines()]
    assert sum(message["type"] == "RECORD" for message in messages) == 10 * 20 + 5


def test_the_emulator_prints_a_configuration(tmp_path: Path) -> None:
    """The commands of the page start the emulator and use its settings."""
    mark = "checked by test_the_emulator_prints_a_configuration"
    page = pages.text_of("docs/getting-started.md")
    [block] = [each.text for each in pages.blocks(page) if each.mark == mark]
    start, *take = block.replace("--port 8642", "--port 0").splitlines()

    def shell(script: str) -> None:
        path = f"{COMMANDS}:{ENVIRONMENT['PATH']}"
        command = ["/bin/bash", "-euo", "pipefail", "-c", script]
        subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT | {"PATH": path}, check=True)

    shell(f"{start}\necho $! > pid")
    try:
        shell("\n".join(take) + "\ntap-mixpanel-stream --config config.json --test > messages.txt")
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    assert '"stream":"events"' in (tmp_path / "messages.txt").read_text()


def test_the_env_file_works_without_meltano(tmp_path: Path) -> None:
    """The commands at the top of .secrets.example run the tap."""
    text = (ROOT / ".secrets.example").read_text(encoding="utf-8")
    [line] = re.findall(r"^#   (set -a; .*)$", text, re.MULTILINE)
    with Emulator(FixedProject()) as emulator:
        for name, value in emulator.settings.items():
            text = re.sub(rf"^TAP_MIXPANEL_STREAM_{name.upper()}=.*$", "", text, flags=re.MULTILINE)
            text += f'TAP_MIXPANEL_STREAM_{name.upper()}="{value}"\n'
        (tmp_path / ".env").write_text(text)
        done = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", f"{line} --test"],
            cwd=tmp_path,
            env=ENVIRONMENT | {"PATH": f"{COMMANDS}:{ENVIRONMENT['PATH']}"},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        assert [seen.query["from_date"] for seen in emulator.requests if seen.kind == "export"] == ["2024-01-01"]
