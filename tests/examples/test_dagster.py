"""examples/dagster: Dagster loads 13 months into PostgreSQL, two at a time, and then two nights."""

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
    expected_events,
    exports,
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
# The first request is that of `tables`.
REJECTED = 6
PROJECT = SyntheticProject(first_day=FIRST_DAY, events_per_day=20, profiles=60)
# Dagster's default interval for queued runs and back-fills is longer. This only changes the pace.
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
    """Dagster with the example, run by `dagster dev`."""

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
        """Send a GraphQL query like the browser, and return its result."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        url, headers = f"http://127.0.0.1:{self.port}/graphql", {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
            [result] = json.load(answer)["data"].values()
        return result

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
        assert time.monotonic() < end, "timed out"
        time.sleep(0.5)


@dataclass
class Results:
    """The results of the back-fill and the nights.

    Attributes:
        secrets: Secrets that must not be logged.
        too_early: The result of `nightly` before the back-fill.
        status: The status of the back-fill.
        runs: Dagster's runs of the back-fill.
        logs: The log of each run in Dagster.
        requested: The days and status of each export, for the back-fill and each night.
        loaded: The rows of events after the back-fill and after each night.
        states: The first and last state of each night.
    """

    secrets: tuple[str, str]
    too_early: subprocess.CompletedProcess[str]
    status: str = ""
    runs: list[dict[str, Any]] = field(default_factory=list)
    logs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    requested: list[list[tuple[str, str, int]]] = field(default_factory=list)
    loaded: list[list[dict[str, Any]]] = field(default_factory=list)
    states: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, warehouse: Server) -> Results:
    folder: Path = tmp_path_factory.mktemp("dagster")
    now = [BACKFILLED_AT]
    faults = [Fault("export", REJECTED, "status:403")]
    with Emulator(PROJECT, now=lambda: now[0], quota=Quota(), faults=faults) as emulator:
        dagster = Dagster(dagsters(environment(folder, emulator, warehouse), folder), free_port())
        secrets = emulator.settings["service_account_secret"], str(warehouse.address["password"])
        results = Results(secrets, dagster.command(*NIGHTLY))
        with dagster.running(folder / "dagster.log"):
            backfill(dagster, results)
            record_night(results, emulator, warehouse)
            now[0] = NIGHT
            for _ in range(2):
                night = dagster.command(*NIGHTLY)
                assert night.returncode == 0, night.stdout
                record_night(results, emulator, warehouse)
            for each in reversed(dagster.ask(STATES)["assetMaterializations"]):
                result = {
                    entry["label"]: json.loads(entry["jsonString"])
                    for entry in each["metadataEntries"]
                    if len(entry) > 1
                }
                began, ended = (
                    result[name]["bookmarks"]["events"]["replication_key_value"] for name in ("began_with", "state")
                )
                results.states.append((began, ended))
    return results


def dagsters(variables: dict[str, str], folder: Path) -> dict[str, str]:
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text((EXAMPLE / "dagster.yaml").read_text() + PACE)
    return {
        **variables,
        # Used only by the nights: the clocks of this machine and of the emulator are years apart.
        "TAP_MIXPANEL_STREAM_END_DATE": str(NIGHT.date()),
        "DAGSTER_HOME": str(folder / "home"),
        "PATH": f"{orchestrator('dagster', 'dagster').parent}:{variables['PATH']}",
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def backfill(dagster: Dagster, results: Results) -> None:
    """Launch a back-fill of three assets and all partitions, like the button in the browser."""
    assets = [{"path": [name]} for name in ("tables", "events", "profiles")]
    launched = dagster.ask(LAUNCH, assets=assets)
    assert launched["__typename"] == "LaunchBackfillSuccess", launched

    def ended() -> bool:
        results.status = dagster.ask(STATUS, id=launched["backfillId"])["status"]
        return results.status not in {"REQUESTED", "COMPLETING"}

    until(ended, 480)
    results.runs = [run for run in dagster.ask(RUNS)["results"] if run["assetSelection"] != [{"path": ["nightly"]}]]
    results.logs = {run["runId"]: dagster.ask(LOG, run=run["runId"])["events"] for run in results.runs}


def record_night(results: Results, emulator: Emulator, warehouse: Server) -> None:
    results.requested.append(exports(emulator, sum(map(len, results.requested))))
    results.loaded.append(loaded_events(warehouse))


def runs_of(results: Results, asset: str) -> list[dict[str, Any]]:
    return [run for run in results.runs if {"path": [asset]} in run["assetSelection"]]


def test_every_month_is_a_successful_run(results: Results) -> None:
    """Every month is a partition with its own successful run."""
    assert results.status == "COMPLETED_SUCCESS"
    assert {run["status"] for run in results.runs} == {"SUCCESS"}
    partitions = [tag["value"] for run in results.runs for tag in run["tags"] if tag["key"] == "dagster/partition"]
    assert sorted(partitions) == MONTHS
    assert len(runs_of(results, "events")) == len(MONTHS)


def test_the_dagster_backfill_loads_every_value(results: Results, warehouse: Server) -> None:
    """The loaded events and profiles are Mixpanel's, value by value."""
    assert_same(results.loaded[0], expected_events(PROJECT, FIRST_DAY, LAST_DAY, BACKFILLED_AT))
    assert len(results.loaded[0]) > 13 * 28 * 19
    assert_same_profiles(warehouse, PROJECT, NIGHT)


def test_a_shard_requests_only_its_month(results: Results) -> None:
    """Each shard requests its month once, except for the one that is retried."""
    made_tables, *requested = results.requested[0]
    assert made_tables == ("2023-01-01", "2023-01-01", 200)
    firsts = [dt.date.fromisoformat(f"{month}-01") for month in MONTHS]
    ends = [*firsts[1:], dt.date(2024, 2, 1)]
    months = [(str(first), str(end - dt.timedelta(days=1))) for first, end in zip(firsts, ends, strict=True)]
    assert sorted((first, last) for first, last, status in requested if status == 200) == months
    assert [status for _, _, status in requested if status != 200] == [403]


def test_at_most_two_shards_run_at_once(results: Results) -> None:
    """`tables` runs first, and then at most two shards at once."""
    [first] = runs_of(results, "tables")
    shards = runs_of(results, "events")
    assert all(first["endTime"] <= shard["startTime"] for shard in shards)
    at_once = [sum(other["startTime"] <= shard["startTime"] < other["endTime"] for other in shards) for shard in shards]
    assert max(at_once) == 2


def test_a_failed_shard_is_retried_and_logged(results: Results) -> None:
    """A failed shard is retried, and its log has the tap's error."""
    retries = [
        run
        for run, events in results.logs.items()
        for event in events
        if event["__typename"] == "ExecutionStepUpForRetryEvent"
    ]
    [run] = retries
    logged, ended, *_ = [event["message"] for event in results.logs[run] if event.get("level") == "ERROR"]
    assert logged.startswith("tap-mixpanel-stream: ")
    assert "no access" in logged
    assert ended.startswith("tap-mixpanel-stream ended with 1, target-postgres with 0: ")
    assert "no access" in ended


def test_both_programs_are_logged_without_secrets(results: Results) -> None:
    """The log has the lines of both programs and no secret."""
    for events in results.logs.values():
        log = "\n".join(event.get("message", "") for event in events)
        assert "tap-mixpanel-stream: " in log
        assert "target-postgres: " in log
        assert [secret for secret in results.secrets if secret in log] == []


def test_the_first_night_continues_the_backfill(results: Results) -> None:
    """The first night starts at the end of the back-fill, minus the look-back."""
    assert results.states[0] == ("2024-02-01T00:00:00+00:00", "2024-02-06T00:00:00+00:00")
    assert results.requested[1] == [(str(READ_AGAIN_FROM), "2024-02-05", 200)]
    expected = expected_events(PROJECT, FIRST_DAY, LAST_DAY, BACKFILLED_AT) | expected_events(
        PROJECT, READ_AGAIN_FROM, NIGHT.date(), NIGHT
    )
    assert_same(results.loaded[1], expected)
    assert len(expected) > len(results.loaded[0])


def test_the_next_night_continues_the_first(results: Results) -> None:
    """The second night starts at the end of the first, minus the look-back."""
    assert results.states[1] == ("2024-02-06T00:00:00+00:00", "2024-02-06T00:00:00+00:00")
    assert results.requested[2] == [("2024-02-01", "2024-02-05", 200)]
    assert sorted(map(str, results.loaded[2])) == sorted(map(str, results.loaded[1]))


def test_a_night_before_the_backfill_is_rejected(results: Results) -> None:
    """The nightly run fails until every month is loaded."""
    assert results.too_early.returncode == 1
    assert "the events of 2023-01 are not loaded: finish the back-fill first" in results.too_early.stdout


def test_both_shard_limits_are_equal() -> None:
    """dagster.yaml and definitions.py have the same number of concurrent shards."""
    limit = re.search(r"default_limit: (\d+)", (EXAMPLE / "dagster.yaml").read_text())
    shards = re.search(r"^CONCURRENT_SHARDS = (\d+)$", (EXAMPLE / "definitions.py").read_text(), re.MULTILINE)
    assert limit
    assert shards
    assert limit[1] == shards[1]
