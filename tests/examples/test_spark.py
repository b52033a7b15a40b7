"""examples/spark: a night's batch files overwrite their days in Parquet, with Spark on this machine."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.docs import pages
from tests.docs.programs import COMMANDS, ENVIRONMENT, ROOT
from tests.harness import run_tap
from tests.targets.loading import KEYS, PAGE, query_duckdb
from tests.targets.source import EVENINGS, FIRST_DAY, Reading, Source, expected_rows
from tests.targets.test_targets import newest, same

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.targets.source import Row

SPARK = ROOT / ".venv-tools" / "spark" / "bin"
# Small data on one machine.
DEFAULTS = "spark.master local[2]\nspark.sql.shuffle.partitions 2\nspark.ui.enabled false\n"


@pytest.fixture(autouse=True)
def _spark() -> None:
    if not (SPARK / "spark-submit").exists():
        pytest.skip("Spark is not set up: `make test-examples` does that")
    if not shutil.which("java", path=ENVIRONMENT["PATH"]):
        pytest.fail("Spark is set up, and needs Java 17, which is not here")


def load(folder: Path, settings: dict[str, Any], zone: str = "UTC", only: str = "") -> None:
    """Run the page's commands for a night in a folder; with `only`, those that contain it."""
    shown = pages.named(PAGE)
    for name, text in (("config", json.dumps(settings)), ("night", shown["spark: night.json"])):
        (folder / f"{name}.json").write_text(text.replace("file:///data", folder.as_uri()))
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(ROOT / "examples")
    lines = [line for line in shown["spark: shell"].splitlines() if only in line]
    script = "\n".join(lines).replace("/data", str(folder)).replace("--zone UTC", f"--zone {zone}")
    (folder / "spark-defaults.conf").write_text(DEFAULTS)
    local = {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_CONF_DIR": str(folder)}
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=folder,
        env=ENVIRONMENT | local | {"PATH": f"{SPARK}:{COMMANDS}:{ENVIRONMENT['PATH']}"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def rows(folder: Path) -> Iterator[Row]:
    """Yield the rows in the lake with their days."""
    query = """
        SELECT day::VARCHAR AS day, event_name, strftime(event_time, '%Y-%m-%dT%H:%M:%S.%g') AS event_time, distinct_id,
            insert_id, properties
        FROM read_parquet('lake/events/*/*.parquet', hive_partitioning = true)
    """
    for row in query_duckdb("SET timezone = 'UTC';" + query, folder):
        row["event_time"] = row["event_time"].removesuffix(".000") + "+00:00"
        row["properties"] = Reading().json(row["properties"])
        yield row


def test_nights_overwrite_the_days_they_read(tmp_path: Path) -> None:
    """Two nights with late and merged events, value by value, and the same files again."""
    source = Source.new()
    for evening in EVENINGS:
        with Emulator(source.project()) as emulator:
            days = {"start_date": str(FIRST_DAY), "end_date": str(evening)}
            load(tmp_path, emulator.settings | days)
        check_lake(source, tmp_path)
        source.change()
    load(tmp_path, {}, only="spark-submit")
    check_lake(source, tmp_path)


def check_lake(source: Source, folder: Path) -> None:
    expected = newest(expected_rows(source, "events", Reading(), raw=False), KEYS["events", False])
    same(rows(folder), [{"day": str(row["event_time"])[:10], **row} for row in expected])


def test_lake_days_are_in_the_project_time_zone(tmp_path: Path) -> None:
    """A night of a project in Tokyo keeps the events of the days before it."""
    project = SyntheticProject(events_per_day=40, profiles=5, zone="Asia/Tokyo")
    counts = []
    for first, last in ((1, 4), (3, 5)):
        with Emulator(project) as emulator:
            days = {"start_date": f"2024-01-0{first}", "end_date": f"2024-01-0{last}", "project_timezone": "Asia/Tokyo"}
            (tmp_path / "state.json").unlink(missing_ok=True)
            load(tmp_path, emulator.settings | days, zone="Asia/Tokyo")
        found = list(rows(tmp_path))
        assert {dt.date.fromisoformat(str(row["day"])).day for row in found} == set(range(1, last + 1))
        counts.append(sum(str(row["day"]) <= "2024-01-02" for row in found))
    assert counts[0] == counts[1] > 70


@pytest.mark.parametrize(
    ("setting", "reason"),
    [({"raw": True}, "set raw to false"), ({"incremental_by": "ingestion_time"}, "set incremental_by to event_time")],
)
def test_a_night_with_partial_days_is_rejected(tmp_path: Path, setting: dict[str, Any], reason: str) -> None:
    """Raw records and ingestion time are rejected; neither lake nor state is written."""
    with Emulator(SyntheticProject(events_per_day=5, profiles=5)) as emulator:
        days = {"start_date": "2024-01-01", "end_date": "2024-01-03"}
        night = json.loads(pages.named(PAGE)["spark: night.json"].replace("file:///data", tmp_path.as_uri()))
        tap = run_tap(emulator.settings | days | setting | night).well()
    (tmp_path / "messages.jsonl").write_bytes(tap.stdout)
    program = ROOT / "examples" / "spark" / "lake.py"
    places = [tmp_path / name for name in ("messages.jsonl", "lake", "state.json")]
    done = subprocess.run(
        [SPARK / "python", program, *places], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 1
    assert reason in done.stderr
    assert not places[1].exists()
    assert not places[2].exists()


@pytest.mark.parametrize(
    "messages", ["", '{"type":"STATE","value":{"bookmarks":{"profiles":{}}}}\n'], ids=["empty", "without events"]
)
def test_messages_without_events_are_rejected(tmp_path: Path, messages: str) -> None:
    """An output without events or state fails with a remedy, and saves no state."""
    (tmp_path / "messages.jsonl").write_text(messages)
    done = subprocess.run(
        [SPARK / "python", ROOT / "examples" / "spark" / "lake.py", "messages.jsonl", "lake", "state.json"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "messages.jsonl has no events or no state: select events, and load a run that exited with 0\n"
    )
    assert not (tmp_path / "state.json").exists()
