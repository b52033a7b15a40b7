"""examples/airflow with Airflow 3: its DAGs run by `airflow dags test`, without a scheduler."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, Quota, SyntheticProject
from tests.examples.backfill import (
    FIRST_DAY,
    MONTHS,
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

PROJECT = SyntheticProject(first_day=FIRST_DAY, events_per_day=20, profiles=60)
NOW = dt.datetime(2024, 2, 3, 12, tzinfo=dt.UTC)
REJECTED = 4
MIGRATE, FOLDER, COPY, TABLES, JANUARY = re.findall(r"^(?:airflow|mkdir|cp) .*$", section("Airflow"), re.MULTILINE)
# The first data intervals of the DAGs.
INTERVALS = """
import json, mixpanel
from airflow.serialization.serialized_objects import DagSerialization
found = {}
for name in ("mixpanel_history", "mixpanel_nightly"):
    dag = DagSerialization.from_dict(DagSerialization.to_dict(getattr(mixpanel, name)()))
    found[name], last = [], None
    while len(found[name]) < 15 and (last := dag.next_dagrun_info(last_automated_run_info=last)):
        found[name].append([str(last.data_interval.start), str(last.data_interval.end)])
print(json.dumps(found))
"""


@dataclass
class Airflow:
    """Airflow with the example.

    Attributes:
        variables: Its environment.
        folder: Its home folder.
        emulator: The Mixpanel emulator.
    """

    variables: dict[str, str]
    folder: Path
    emulator: Emulator

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/bash", "-c", command],
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def well(self, command: str) -> str:
        done = self.shell(command)
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, warehouse: Server) -> Iterator[Airflow]:
    folder: Path = tmp_path_factory.mktemp("airflow")
    faults = [Fault("export", REJECTED, "status:403")]
    with Emulator(PROJECT, now=lambda: NOW, quota=Quota(), faults=faults) as emulator:
        variables = environment(folder, emulator, warehouse)
        variables |= {
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PATH": f"{orchestrator('airflow', 'airflow').parent}:{variables['PATH']}",
        }
        airflow = Airflow(variables, folder, emulator)
        for command in (MIGRATE, FOLDER, COPY):
            airflow.well(command)
        yield airflow


def test_the_dags_load_months_and_a_night(airflow: Airflow, warehouse: Server) -> None:
    """Each run of the back-fill DAG loads a month, and the nightly DAG continues."""
    airflow.well(TABLES)
    airflow.well(JANUARY)
    assert exports(airflow.emulator) == [("2023-01-01", "2023-01-01", 200), ("2023-01-01", "2023-01-31", 200)]
    assert_same(loaded_events(warehouse), expected_events(PROJECT, FIRST_DAY, dt.date(2023, 1, 31), NOW))

    # A failed shard is retried, and the log has the output of both programs.
    airflow.well(JANUARY.replace("2023-02-01", "2023-03-01"))
    begin = REJECTED - 1
    log = airflow.well(JANUARY.replace("2023-02-01", "2023-04-01"))
    requested = exports(airflow.emulator, begin)
    assert requested == [("2023-03-01", "2023-03-31", 403), ("2023-03-01", "2023-03-31", 200)]
    assert "tap-mixpanel-stream ended with 1, target-postgres with 0: " in log
    assert "no access" in log
    assert_same(loaded_events(warehouse), expected_events(PROJECT, FIRST_DAY, dt.date(2023, 3, 31), NOW))

    begin = len(exports(airflow.emulator))
    # With March as the last month.
    variables = "MIXPANEL_LAST_MONTH=2023-03 TAP_MIXPANEL_STREAM_LOOKBACK_DAYS=3"
    airflow.well(f"{variables} airflow dags test mixpanel_nightly 2023-04-02T03:00")
    assert exports(airflow.emulator, begin) == [("2023-03-29", "2023-04-01", 200)]
    assert_same(loaded_events(warehouse), expected_events(PROJECT, FIRST_DAY, dt.date(2023, 4, 1), NOW))
    assert_same_profiles(warehouse, PROJECT, NOW)


def test_the_intervals_are_months_then_nights(airflow: Airflow) -> None:
    """The back-fill runs by month, and the nightly runs start after the last month."""
    output = airflow.well(f"cd dags && python -W ignore -c '{INTERVALS}' 2>/dev/null")
    intervals = json.loads(output.splitlines()[-1])
    begins = [f"{month}-01 00:00:00+00:00" for month in [*MONTHS, "2024-02"]]
    assert intervals["mixpanel_history"] == [list(pair) for pair in pairwise(begins)]
    nights = [f"2024-02-0{day} 03:00:00+00:00" for day in range(1, 5)]
    assert intervals["mixpanel_nightly"][:3] == [list(pair) for pair in pairwise(nights)]
