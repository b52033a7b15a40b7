"""Examples in README.md and docs/ work as shown, and their links are valid."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject, SyntheticProject
from tests.docs import pages
from tests.docs.programs import COMMANDS, ENVIRONMENT, ROOT, installed
from tests.harness import run_tap

if TYPE_CHECKING:
    from pathlib import Path

DAY = dt.date(2024, 1, 15)
# The date range for a page's commands, unless it has its own.
DAYS = {"start_date": "2024-01-01", "end_date": "2024-01-10"}
TESTS = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))


def with_marks(*marks: str) -> list[str]:
    return [name for name in pages.NAMES if pages.marked(pages.text_of(name), *marks)]


@pytest.mark.parametrize("name", pages.NAMES)
def test_every_command_and_configuration_has_a_mark(name: str) -> None:
    """Every block of `sh` or `json` says how it is tested, and the tests named exist."""
    text = pages.text_of(name)
    assert text.count("```") == 2 * len(pages.blocks(text)), "a block is not closed, or is indented"
    unmarked = [block.text for block in pages.blocks(text) if block.language in {"sh", "json"} and not block.mark]
    assert unmarked == []
    # A page with its own marks has its own test.
    foreign = [block.mark for block in pages.blocks(text) if block.mark and not pages.MARKS.fullmatch(block.mark)]
    assert not foreign or name.removeprefix("docs/") in TESTS
    tests = re.findall(r"<!-- checked by (\w+) -->", text)
    assert [test for test in tests if f"def {test}(" not in TESTS] == []


@pytest.mark.parametrize("name", pages.NAMES)
def test_tests_named_on_a_page_exist(name: str) -> None:
    """Every test that a page names exists."""
    named = re.findall(r"`(test_\w+)`", pages.text_of(name))
    assert [test for test in named if f"def {test}(" not in TESTS] == []


@pytest.mark.parametrize("name", pages.NAMES)
def test_every_link_has_a_target(name: str) -> None:
    """Every link leads to an existing file and heading."""
    dead = []
    for link in pages.links(pages.text_of(name)):
        path, _, anchor = link.partition("#")
        page = (ROOT / name).parent / path if path else ROOT / name
        if not page.exists() or (anchor and anchor not in pages.anchors(page)):
            dead.append(link)
    assert dead == []


# Their commands have their own tests, which check more or need other programs.
TESTED_ELSEWHERE = {"README.md", "docs/after-the-load.md"}


@pytest.mark.parametrize("name", [name for name in with_marks("runs in the tests") if name not in TESTED_ELSEWHERE])
def test_the_commands_of_a_page_run_in_order(name: str, tmp_path: Path) -> None:
    """The commands of a page succeed in order."""
    targets = {installed("jsonl", "target-jsonl").parent}
    path = ":".join(map(str, [COMMANDS, *targets, ENVIRONMENT["PATH"]]))
    (tmp_path / "target.json").write_text('{"destination_path": "loaded"}')
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), events_per_day=20, profiles=5)
    with Emulator(project) as emulator:
        (tmp_path / "config.json").write_text(json.dumps(emulator.settings | DAYS))
        for block in pages.blocks(pages.text_of(name)):
            if block.mark.endswith(".json"):
                content = json.loads(block.text)
                is_for_tap = "project_id" in content
                (tmp_path / block.mark).write_text(
                    json.dumps((DAYS | content | emulator.settings) if is_for_tap else content)
                )
            if block.mark != "runs in the tests":
                continue
            done = subprocess.run(
                ["/bin/bash", "-euo", "pipefail", "-c", block.text],
                cwd=tmp_path,
                env=ENVIRONMENT | {"PATH": path, "CHECKOUT": str(ROOT)},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, block.text + done.stdout[-2000:] + done.stderr


def configurations(*kinds: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{name}-{number}")
        for name in pages.NAMES
        for number, block in enumerate(pages.blocks(pages.text_of(name)))
        if block.mark.startswith(kinds)
    ]


@pytest.mark.parametrize("block", configurations("a configuration"))
def test_a_configuration_shown_runs(block: pages.Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tap succeeds with each configuration shown."""
    monkeypatch.chdir(tmp_path)
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), events_per_day=20, profiles=5)
    with Emulator(project) as emulator:
        run_tap(DAYS | json.loads(block.text) | emulator.settings).well()


@pytest.mark.parametrize("block", configurations("rejected: "))
def test_a_rejected_configuration_has_the_error_shown(block: pages.Block) -> None:
    """The tap rejects the configuration with the text shown."""
    run = run_tap({"start_date": "2024-01-01"} | json.loads(block.text))
    assert run.exit_code == 1
    [line] = run.errors
    assert block.mark.removeprefix("rejected: ") in line


def records_of(raw: bool, stream: str, sent: str, **settings: Any) -> list[dict[str, Any]]:
    """Return the tap's records of a line or a result, with numbers as text."""
    if stream == "events":
        project = FixedProject({DAY: sent.encode().splitlines()})
    else:
        project = FixedProject(profiles=[json.loads(sent)])
    with Emulator(project) as emulator:
        run = run_tap(emulator.settings | {"raw": raw, "start_date": str(DAY), "end_date": str(DAY), **settings}).well()
    messages = [json.loads(line, parse_float=str, parse_int=str) for line in run.stdout.splitlines()]
    return [message["record"] for message in messages if message["type"] == "RECORD" and message["stream"] == stream]


def sources_and_records() -> list[Any]:
    found = []
    for name in pages.NAMES:
        sent = None
        for number, block in enumerate(pages.marked(pages.text_of(name), "an event", "a profile", "normalized", "raw")):
            if block.mark.startswith("a"):
                sent = block
            else:
                found.append(pytest.param(sent, block, id=f"{name}-{number}"))
    return found


@pytest.mark.parametrize(("sent", "made"), sources_and_records())
def test_a_record_shown_is_the_taps(sent: pages.Block, made: pages.Block) -> None:
    """The event or profile shown becomes the record shown."""
    stream = {"an event": "events", "a profile": "profiles"}[sent.mark]
    [record] = records_of(made.mark == "raw", stream, "".join(line.strip() for line in sent.text.splitlines()))
    shown = json.loads(made.text, parse_float=str, parse_int=str)
    assert record == shown
    assert list(record) == list(shown)


def tables() -> list[Any]:
    return [
        pytest.param(mark, rows, id=mark)
        for name in pages.NAMES
        for mark, rows in pages.examples(pages.text_of(name)).items()
    ]


@pytest.mark.parametrize(("mark", "rows"), tables())
def test_every_row_of_an_example_table_is_true(mark: str, rows: list[list[str]]) -> None:
    """Each value in a table of examples becomes the value beside it."""
    found = re.fullmatch(r"examples(?: in (\S+))?: (\S+), (\w+)", mark)
    assert found
    zone, name, column = found.groups()
    lines = []
    for value, *_ in rows:
        values = {"time": "1705328400", "distinct_id": '"u1"', "$insert_id": '"i"'} | {name: value}
        properties = ",".join(f'"{key}":{text}' for key, text in values.items())
        lines.append(f'{{"event":"Signed up","properties":{{{properties}}}}}')
    records = records_of(False, "events", "\n".join(lines), **({"project_timezone": zone} if zone else {}))
    assert [record[column] for record in records] == [row[1] for row in rows]


def schemas() -> list[Any]:
    return [
        pytest.param(block, id=block.mark)
        for name in pages.NAMES
        for block in pages.blocks(pages.text_of(name))
        if block.mark.startswith("schema: ")
    ]


@pytest.mark.parametrize("block", schemas())
def test_a_schema_shown_is_the_streams(block: pages.Block) -> None:
    """The schema shown is that of the stream."""
    name, shape = block.mark.removeprefix("schema: ").split(", ")
    catalog = json.loads(run_tap({"raw": shape == "raw"}, "--discover").stdout)
    [stream] = [stream for stream in catalog["streams"] if stream["tap_stream_id"] == name]
    assert json.dumps(stream["schema"], sort_keys=True) == json.dumps(json.loads(block.text), sort_keys=True)


def test_the_summary_line_shown_is_the_taps() -> None:
    """The summary line of a stream is the one shown, except for its numbers."""
    [shown] = pages.marked(pages.text_of("docs/production.md"), "checked by test_the_summary_line_shown_is_the_taps")
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), events_per_day=20, profiles=5)
    with Emulator(project) as emulator:
        run = run_tap(emulator.settings | DAYS).well()
    logged = [re.sub(r"\d+", "N", line) for line in run.stderr]
    assert any(line.endswith(re.sub(r"\d+", "N", shown.text.strip())) for line in logged), run.stderr


def test_the_log_configuration_shown_writes_json_lines() -> None:
    """Every line of stderr is a JSON object with the fields that the page lists."""
    text = pages.text_of("docs/production.md")
    mark = "checked by test_the_log_configuration_shown_writes_json_lines"
    [shown] = pages.marked(text, mark)
    name, _, path = shown.text.strip().removeprefix("export ").partition("=")
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), events_per_day=20, profiles=5)
    with Emulator(project) as emulator:
        run = run_tap(emulator.settings | DAYS, environment={name: str(ROOT / path)}).well()
    logged = [json.loads(line) for line in run.stderr]
    listed = set(re.findall(r"`(\w+)`", text.split(mark)[1].split("**Rotation.**")[0]))
    summary = next(line for line in logged if line["message"].startswith("events: 20"))
    assert summary["stream_name"] == "events"
    assert set(summary) | set(summary["extra"]) | set(logged[-1]["extra"]) <= listed
    assert logged[-1]["extra"]["exit_code"] == 0
    assert logged[-1]["extra"]["streams_done"] == ["events", "profiles"]


def test_modules_named_on_the_page_exist() -> None:
    """The modules that docs/how-it-works.md names exist."""
    text = pages.text_of("docs/how-it-works.md")
    named = re.findall(r"`((?:\w+/)+(?:\w+\.py)?|\w+\.py)`", text)
    assert len(named) > 20
    places = [ROOT, ROOT / "tap_mixpanel_stream"]
    assert [name for name in named if not any((place / name).exists() for place in places)] == []
