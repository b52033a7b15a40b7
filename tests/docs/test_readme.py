"""What the README shows is what happens."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

from tap_mixpanel_stream.emulator import Emulator, FixedProject, SyntheticProject
from tests.docs import pages
from tests.docs.programs import COMMANDS, ENVIRONMENT, ROOT, asked_days, installed
from tests.harness import run_tap

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.generate_docs import About

README = (ROOT / "README.md").read_text(encoding="utf-8")
DAYS = {"start_date": "2024-01-01", "end_date": "2024-01-10"}


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def examples(title: str) -> list[dict[str, Any]]:
    """The JSON examples of a section, numbers as they are spelled."""
    blocks = re.findall(r"```json\n(.*?)```", section(title), re.DOTALL)
    return [json.loads(block, parse_float=str) for block in blocks]


def test_the_records_shown_are_what_the_tap_makes_of_the_event_shown() -> None:
    as_sent, normalized = examples("Records")
    line = re.search(r"```json\n(.*?)```", section("Records"), re.DOTALL)
    assert line
    project = FixedProject({dt.date(2024, 1, 15): ["".join(line[1].splitlines()).encode()]})
    with Emulator(project) as emulator:
        settings = emulator.settings | {"start_date": "2024-01-15", "end_date": "2024-01-15"}
        plain = run_tap(settings).well()
        raw = run_tap(settings | {"raw": True}).well()
    [made], [left] = (
        [json.loads(line, parse_float=str)["record"] for line in run.stdout.splitlines() if b'"RECORD"' in line]
        for run in (plain, raw)
    )
    assert made == normalized
    assert list(made) == list(normalized)
    assert left == as_sent


def test_columns_and_keys_are_those_in_the_table() -> None:
    rows = [re.split(r" \| ", row.strip("| \n")) for row in section("Records").splitlines() if row.startswith("| `")]
    for raw in (False, True):
        catalog = json.loads(run_tap({"raw": raw}, "--discover").stdout)
        streams = {stream["tap_stream_id"]: stream for stream in catalog["streams"]}
        assert set(streams) == {row[0].strip("`") for row in rows}
        for name, *cells in rows:
            # The small streams are the same whether raw or not.
            columns, key = cells[2:] if raw and len(cells) > 2 else cells[:2]
            stream = streams[name.strip("`")]
            assert list(stream["schema"]["properties"]) == re.findall(r"`(.*?)`", columns)
            assert stream["key_properties"] == re.findall(r"`(.*?)`", key)


def test_the_state_shown_leads_to_the_days_shown() -> None:
    [state] = examples("State and look-back")
    with Emulator(FixedProject()) as emulator:
        run = run_tap(emulator.settings | {"start_date": "2024-01-01", "end_date": "2024-01-21"}, state=state).well()
        assert asked_days(emulator.requests) == ("2024-01-15", "2024-01-21")
    assert "| asks for | `start_date` to 20 January | 15 to 21 January |" in README
    assert run.states[-1]["bookmarks"]["events"].keys() == state["bookmarks"]["events"].keys()


def test_the_stream_map_shown_takes_effect() -> None:
    [maps] = examples("Selecting, mapping, flattening, batches")
    lines = [
        b'{"event":"A","properties":{"time":1704067200,"distinct_id":"u","$insert_id":"i","$city":"Bern"}}',
        b'{"event":"A","properties":{"time":1704067201,"distinct_id":"u","$insert_id":"j"}}',
    ]
    with Emulator(FixedProject({dt.date(2024, 1, 1): lines})) as emulator:
        run = run_tap(emulator.settings | DAYS | maps).well()
    assert [record["city"] for record in run.records()] == ["Bern", None]
    assert not any("properties" in record for record in run.records())


def test_the_configuration_shown_has_settings_only(about: About) -> None:
    [config] = examples("Run")
    assert set(config) <= set(about["settings"]["properties"])


def test_the_lines_explained_are_lines_that_the_tap_can_write() -> None:
    package = ROOT / "tap_mixpanel_stream"
    source = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    table = section("When something goes wrong").split("| the line says |")[1]
    told = re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE)
    assert len(told) >= 5
    assert [words for words in told if words not in source] == []


def test_the_commands_that_need_no_account_run(tmp_path: Path) -> None:
    scripts = re.findall(r"<!-- runs in the tests -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert len(scripts) >= 3
    target = installed("jsonl", "target-jsonl")
    (tmp_path / "target.json").write_text(json.dumps({"destination_path": "loaded"}))
    path = f"{COMMANDS}:{target.parent}:{ENVIRONMENT['PATH']}"
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), events_per_day=20, profiles=5)
    with Emulator(project) as emulator:
        (tmp_path / "config.json").write_text(json.dumps(emulator.settings | DAYS))
        for script in scripts:
            done = subprocess.run(
                ["/bin/bash", "-euo", "pipefail", "-c", script],
                cwd=tmp_path,
                env=ENVIRONMENT | {"PATH": path},
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr.decode()
        starts = [seen.query["from_date"] for seen in emulator.requests if seen.kind == "export"]
    # A trial and a run without state, the run with it, and a trial and a run with a catalog.
    assert starts.count("2024-01-01") == 4
    assert "2024-01-06" in starts
    assert json.loads((tmp_path / "last-state.json").read_text())["bookmarks"]["events"]
    assert sum(len(file.read_bytes().splitlines()) for file in (tmp_path / "loaded").glob("events-*")) > 2 * 10 * 20
    [cohorts] = (tmp_path / "loaded").glob("cohorts-*")
    assert len(cohorts.read_bytes().splitlines()) == len(project.cohorts())


def test_the_emulator_started_by_hand_gives_a_configuration(tmp_path: Path) -> None:
    mark = "checked by test_the_emulator_started_by_hand_gives_a_configuration"
    [block] = [each.text for each in pages.blocks(README) if each.mark == mark]
    start, take = block.replace("--port 8642", "--port 0").splitlines()

    def shell(script: str) -> None:
        path = f"{COMMANDS}:{ENVIRONMENT['PATH']}"
        command = ["/bin/bash", "-euo", "pipefail", "-c", script]
        subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT | {"PATH": path}, check=True)

    shell(f"{start}\necho $! > pid")
    try:
        deadline = time.monotonic() + 30
        while not ((tmp_path / "emulator.txt").exists() and (tmp_path / "emulator.txt").read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        shell(f"{take}\ntap-mixpanel-stream --config config.json --test > messages.txt")
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    assert '"stream":"events"' in (tmp_path / "messages.txt").read_text()


def test_the_environment_shown_works_for_the_bare_tap(tmp_path: Path) -> None:
    """The two lines at the top of .secrets.example."""
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
