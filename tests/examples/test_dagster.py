"""examples/dagster: thirteen months into Postgres, a run each, two at a time, by Dagster itself; then two nights."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, Quota, SyntheticProject
from tests.docs.programs import ROOT
from tests.examples.backfill import (
    FIRST_DAY,
    LAST_DAY,
    MONTHS,
    READ_AGAIN_FROM,
    assert_same,
    assert_same_profiles,
    environment,
    exports,
    held,
    loaded_events,
    orchestrator,
    section,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.targets.postgresql import Server

EXAMPLE = ROOT / "examples" / "dagster"
DEV, NIGHTLY = (command.split() for command in re.findall(r"^dagster (.*)$", section("Dagster"), re.MULTILINE))
BACKFILLED_AT = dt.datetime(2024, 2, 3, 12, tzinfo=dt.UTC)
NIGHT = dt.datetime(2024, 2, 5, 23, 59, 59, tzinfo=dt.UTC)
# The first is that of `tables`.
REFUSED = 6
PROJECT = SyntheticProject(first_day=FIRST_DAY, events_per_day=20, profiles=60)
# Dagster looks for runs that wait, and for back-fills, less often of its own accord. It changes nothing but the pace.
PACE = """
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {dequeue_interval_seconds: 1}
"""

LAUNCH = """mutation($assets: [AssetKeyInput!]) {
  launchPartitionBackfill(backfillParams: {assetSelection: $assets, allPartitions: true}) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}"""
STATUS = """query($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } }
}"""
RUNS = """{ runsOrError { ... on Runs { results {
  runId status startTime endTime tags { key value } assetSelection { path }
} } } }"""
LOG = """query($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events {
  __typename
  ... on MessageEvent { message level }
} } } }"""
STATES = """{ assetOrError(assetKey: {path: ["nightly"]}) { ... on Asset { assetMaterializations {
  metadataEntries { label ... on JsonMetadataEntry { jsonString } }
} } } }"""


@dataclass
class Dagster:
    """Dagster over the example, as `dagster dev` runs it."""

    environment: dict[str, str]
    port: int

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [orchestrator("dagster", "dagster"), *arguments],
            cwd=EXAMPLE,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def ask(self, query: str, **variables: Any) -> Any:
        """What the pages in the browser ask; the answer to the query's one question."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        url, headers = f"http://127.0.0.1:{self.port}/graphql", {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
            [told] = json.load(answer)["data"].values()
        return told

    @contextlib.contextmanager
    def running(self, log: Path) -> Iterator[None]:
        with (
            log.open("w") as file,
            subprocess.Popen(
                [orchestrator("dagster", "dagster"), *DEV, "-p", str(self.port)],
                cwd=EXAMPLE,
                env=self.environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            ) as process,
        ):
            try:
                until(lambda: self.is_up() or process.poll() is not None, 120)
                assert process.poll() is None, log.read_text()
                yield
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)

    def is_up(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.ask("{ version }"))
        return False


def until(holds: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.5)


@dataclass
class Story:
    """What happened, in its order.

    Attributes:
        secrets: What must not be heard.
        too_early: What `nightly` said before the back-fill.
        status: How the back-fill ended.
        runs: Dagster's runs of the back-fill.
        logs: What Dagster shows of each run.
        asked: The days that each export asked for, and the answer's status, at the back-fill and each night.
        loaded: The rows of events after the back-fill and after the first night.
        states: The state that each night began with, and the one it ended with.
    """

    secrets: tuple[str, str]
    too_early: subprocess.CompletedProcess[str]
    status: str = ""
    runs: list[dict[str, Any]] = field(default_factory=list)
    logs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    asked: list[list[tuple[str, str, int]]] = field(default_factory=list)
    loaded: list[list[dict[str, Any]]] = field(default_factory=list)
    states: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, warehouse: Server) -> Story:
    folder: Path = tmp_path_factory.mktemp("dagster")
    now = [BACKFILLED_AT]
    faults = [Fault("export", REFUSED, "status:403")]
    with Emulator(PROJECT, now=lambda: now[0], quota=Quota(), faults=faults) as emulator:
        dagster = Dagster(dagsters(environment(folder, emulator, warehouse), folder), free_port())
        secrets = emulator.settings["service_account_secret"], str(warehouse.address["password"])
        story = Story(secrets, dagster.command(*NIGHTLY))
        with dagster.running(folder / "dagster.log"):
            backfill(dagster, story)
            keep(story, emulator, warehouse)
            now[0] = NIGHT
            for _ in range(2):
                night = dagster.command(*NIGHTLY)
                assert night.returncode == 0, night.stdout
                keep(story, emulator, warehouse)
            for each in reversed(dagster.ask(STATES)["assetMaterializations"]):
                told = {
                    entry["label"]: json.loads(entry["jsonString"])
                    for entry in each["metadataEntries"]
                    if len(entry) > 1
                }
                began, ended = (
                    told[name]["bookmarks"]["events"]["replication_key_value"] for name in ("began_with", "state")
                )
                story.states.append((began, ended))
    return story


def dagsters(variables: dict[str, str], folder: Path) -> dict[str, str]:
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text((EXAMPLE / "dagster.yaml").read_text() + PACE)
    return {
        **variables,
        # Only the nights look at it: the clocks of this machine and of the local Mixpanel are years apart.
        "TAP_MIXPANEL_STREAM_END_DATE": str(NIGHT.date()),
        "DAGSTER_HOME": str(folder / "home"),
        "PATH": f"{orchestrator('dagster', 'dagster').parent}:{variables['PATH']}",
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def backfill(dagster: Dagster, story: Story) -> None:
    """As the button of the page does it: three assets, all partitions."""
    assets = [{"path": [name]} for name in ("tables", "events", "profiles")]
    launched = dagster.ask(LAUNCH, assets=assets)
    assert launched["__typename"] == "LaunchBackfillSuccess", launched

    def ended() -> bool:
        story.status = dagster.ask(STATUS, id=launched["backfillId"])["status"]
        return story.status not in {"REQUESTED", "COMPLETING"}

    until(ended, 480)
    story.runs = [run for run in dagster.ask(RUNS)["results"] if run["assetSelection"] != [{"path": ["nightly"]}]]
    story.logs = {run["runId"]: dagster.ask(LOG, run=run["runId"])["events"] for run in story.runs}


def keep(story: Story, emulator: Emulator, warehouse: Server) -> None:
    story.asked.append(exports(emulator, sum(map(len, story.asked))))
    story.loaded.append(loaded_events(warehouse))


def runs_of(story: Story, asset: str) -> list[dict[str, Any]]:
    return [run for run in story.runs if {"path": [asset]} in run["assetSelection"]]


def test_every_month_is_a_run_of_its_own_that_ended_well(story: Story) -> None:
    assert story.status == "COMPLETED_SUCCESS"
    assert {run["status"] for run in story.runs} == {"SUCCESS"}
    partitions = [tag["value"] for run in story.runs for tag in run["tags"] if tag["key"] == "dagster/partition"]
    assert sorted(partitions) == MONTHS
    assert len(runs_of(story, "events")) == len(MONTHS)


def test_what_is_loaded_is_what_mixpanel_holds_value_by_value(story: Story, warehouse: Server) -> None:
    assert_same(story.loaded[0], held(PROJECT, FIRST_DAY, LAST_DAY, BACKFILLED_AT))
    assert len(story.loaded[0]) > 13 * 28 * 19
    assert_same_profiles(warehouse, PROJECT, NIGHT)


def test_a_shard_asks_for_its_month_alone_and_once(story: Story) -> None:
    made_tables, *asked = story.asked[0]
    assert made_tables == ("2023-01-01", "2023-01-01", 200)
    firsts = [dt.date.fromisoformat(f"{month}-01") for month in MONTHS]
    ends = [*firsts[1:], dt.date(2024, 2, 1)]
    months = [(str(first), str(end - dt.timedelta(days=1))) for first, end in zip(firsts, ends, strict=True)]
    assert sorted((first, last) for first, last, status in asked if status == 200) == months
    assert [status for _, _, status in asked if status != 200] == [403]


def test_the_first_run_is_alone_and_then_two_at_most_are_at_it(story: Story) -> None:
    [first] = runs_of(story, "tables")
    shards = runs_of(story, "events")
    assert all(first["endTime"] <= shard["startTime"] for shard in shards)
    at_once = [sum(other["startTime"] <= shard["startTime"] < other["endTime"] for other in shards) for shard in shards]
    assert max(at_once) == 2


def test_a_shard_that_fails_is_tried_again_and_its_log_says_what_the_tap_said(story: Story) -> None:
    retries = [
        run
        for run, events in story.logs.items()
        for event in events
        if event["__typename"] == "ExecutionStepUpForRetryEvent"
    ]
    [run] = retries
    heard, ended, *_ = [event["message"] for event in story.logs[run] if event.get("level") == "ERROR"]
    assert heard.startswith("tap-mixpanel-stream: ")
    assert "no access" in heard
    assert ended.startswith("tap-mixpanel-stream ended with 1, target-postgres with 0: ")
    assert "no access" in ended


def test_both_programs_are_heard_and_no_secret_is(story: Story) -> None:
    for events in story.logs.values():
        log = "\n".join(event.get("message", "") for event in events)
        assert "tap-mixpanel-stream: " in log
        assert "target-postgres: " in log
        assert [secret for secret in story.secrets if secret in log] == []


def test_the_first_night_begins_with_the_end_of_the_back_fill(story: Story) -> None:
    assert story.states[0] == ("2024-02-01T00:00:00+00:00", "2024-02-06T00:00:00+00:00")
    assert story.asked[1] == [(str(READ_AGAIN_FROM), "2024-02-05", 200)]
    expected = held(PROJECT, FIRST_DAY, LAST_DAY, BACKFILLED_AT) | held(PROJECT, READ_AGAIN_FROM, NIGHT.date(), NIGHT)
    assert_same(story.loaded[1], expected)
    assert len(expected) > len(story.loaded[0])


def test_the_next_night_begins_where_the_first_ended(story: Story) -> None:
    assert story.states[1] == ("2024-02-06T00:00:00+00:00", "2024-02-06T00:00:00+00:00")
    assert story.asked[2] == [("2024-02-01", "2024-02-05", 200)]
    assert sorted(map(str, story.loaded[2])) == sorted(map(str, story.loaded[1]))


def test_a_night_before_the_back_fill_is_done_is_refused(story: Story) -> None:
    assert story.too_early.returncode == 1
    assert "the events of 2023-01 are not loaded: finish the back-fill first" in story.too_early.stdout


def test_the_two_numbers_of_shards_are_the_same() -> None:
    limit = re.search(r"default_limit: (\d+)", (EXAMPLE / "dagster.yaml").read_text())
    shards = re.search(r"^SHARDS_AT_ONCE = (\d+)$", (EXAMPLE / "definitions.py").read_text(), re.MULTILINE)
    assert limit
    assert shards
    assert limit[1] == shards[1]
