"""docs/backfill.md: its commands for one long run and for shards, and its figures."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from scripts.generate_docs import about
from tap_mixpanel_stream.emulator import Emulator, FixedProject, Quota, SyntheticProject
from tests.docs.programs import ROOT, requested_days
from tests.examples.backfill import (
    FIRST_DAY,
    LAST_DAY,
    MONTHS,
    PAGE,
    READ_AGAIN_FROM,
    assert_same,
    assert_same_profiles,
    environment,
    expected_events,
    exports,
    loaded_events,
    scripts,
    section,
)
from tests.harness import catalog_of, run_tap

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.targets.postgresql import Server

PROJECT = SyntheticProject(first_day=FIRST_DAY, events_per_day=20, profiles=60)
FOR_A_SHELL = ["Choose a method"]
BACKFILLED_AT = dt.datetime(2024, 2, 3, 12, tzinfo=dt.UTC)
NIGHT = dt.datetime(2024, 2, 5, 23, 59, 59, tzinfo=dt.UTC)


def shell(script: str, folder: Path, variables: Mapping[str, str], *, code: int = 0) -> str:
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def empty(warehouse: Server) -> Server:
    warehouse.run("DROP SCHEMA IF EXISTS mixpanel CASCADE")
    return warehouse


def test_a_long_run_is_continued_from_its_state(empty: Server, tmp_path: Path) -> None:
    """The long run loads everything, and the next command continues from its state."""
    run, continue_run = scripts("One long run")
    now = [BACKFILLED_AT]
    with Emulator(PROJECT, now=lambda: now[0], quota=Quota()) as emulator:
        variables = environment(tmp_path, emulator, empty, FOR_A_SHELL)
        variables |= {"TAP_MIXPANEL_STREAM_START_DATE": str(FIRST_DAY), "TAP_MIXPANEL_STREAM_END_DATE": str(LAST_DAY)}
        shell(run, tmp_path, variables)
        assert_same(loaded_events(empty), expected_events(PROJECT, FIRST_DAY, LAST_DAY, BACKFILLED_AT))
        now[0] = NIGHT
        begin = len(emulator.requests)
        shell(continue_run, tmp_path, variables | {"TAP_MIXPANEL_STREAM_END_DATE": str(NIGHT.date())})
        assert requested_days(emulator.requests[begin:]) == (str(READ_AGAIN_FROM), str(NIGHT.date()))
    expected = expected_events(PROJECT, FIRST_DAY, LAST_DAY, BACKFILLED_AT) | expected_events(
        PROJECT, READ_AGAIN_FROM, NIGHT.date(), NIGHT
    )
    assert_same(loaded_events(empty), expected)
    assert_same_profiles(empty, PROJECT, NIGHT)


def test_shards_by_hand_load_everything(empty: Server, tmp_path: Path) -> None:
    """The shards load every month and the profiles once, and the nightly run continues."""
    shards, night = scripts("Shards by hand")
    now = [BACKFILLED_AT]
    with Emulator(PROJECT, now=lambda: now[0], quota=Quota()) as emulator:
        variables = environment(tmp_path, emulator, empty, FOR_A_SHELL)
        variables |= {"TAP_MIXPANEL_STREAM_START_DATE": str(FIRST_DAY)}
        shell(shards, tmp_path, variables)
        requested = exports(emulator)
        assert [each[0] for each in sorted(requested)] == [f"{month}-01" for month in MONTHS]
        assert requested[0][0] == "2023-01-01"
        assert_same(loaded_events(empty), expected_events(PROJECT, FIRST_DAY, LAST_DAY, BACKFILLED_AT))
        assert_same_profiles(empty, PROJECT, BACKFILLED_AT)
        assert len([seen for seen in emulator.requests if seen.kind == "engage"]) == 1
        now[0] = NIGHT
        begin = len(emulator.requests)
        shell(night, tmp_path, variables | {"TAP_MIXPANEL_STREAM_END_DATE": str(NIGHT.date())})
        assert requested_days(emulator.requests[begin:]) == (str(READ_AGAIN_FROM), str(NIGHT.date()))
    expected = expected_events(PROJECT, FIRST_DAY, LAST_DAY, BACKFILLED_AT) | expected_events(
        PROJECT, READ_AGAIN_FROM, NIGHT.date(), NIGHT
    )
    assert_same(loaded_events(empty), expected)


def test_running_all_shards_again_loads_a_failed_one(empty: Server, tmp_path: Path) -> None:
    """Running the command again loads only the failed shard."""
    shards, _ = scripts("Shards by hand")
    # Three months suffice here.
    shards = shards.replace("2023-{02..12} 2024-01", "2023-{02..04}")
    with Emulator(PROJECT, now=lambda: BACKFILLED_AT) as emulator:
        variables = environment(tmp_path, emulator, empty, FOR_A_SHELL)
        variables |= {"TAP_MIXPANEL_STREAM_START_DATE": str(FIRST_DAY)}
        target = tmp_path / "bin" / "target-postgres"
        real = target.resolve()
        target.unlink()
        # Simulates a database that is down while March is loaded.
        target.write_text(
            f'#!/bin/bash\n[ "$TAP_MIXPANEL_STREAM_START_DATE" != 2023-03-01 ] || exit 7\nexec {real} "$@"\n'
        )
        target.chmod(0o755)
        shell(shards, tmp_path, variables, code=123)
        assert {file.stem for file in tmp_path.glob("*.done")} == {"2023-01", "2023-02", "2023-04"}
        assert "the target closed the pipe" in (tmp_path / "2023-03.log").read_text()
        target.unlink()
        target.symlink_to(real)
        begin = len(exports(emulator))
        shell(shards, tmp_path, variables)
        assert exports(emulator, begin) == [("2023-03-01", "2023-03-31", 200)]
    assert_same(loaded_events(empty), expected_events(PROJECT, FIRST_DAY, dt.date(2023, 4, 30), BACKFILLED_AT))


def test_requests_in_the_table_are_the_taps() -> None:
    """The numbers of requests and hours in the table are true."""
    first, last = dt.date(2022, 1, 1), dt.date(2024, 12, 31)
    days = (last - first).days + 1
    starts = [dt.date(2022 + number // 12, 1 + number % 12, 1) for number in range(36)]
    ends = [*(start - dt.timedelta(days=1) for start in starts[1:]), last]
    rows = re.findall(r"^\| .*? \| (\d+) \| (.*?) \|$", section("How long it takes"), re.MULTILINE)
    requests_shown = [int(queries) for queries, _ in rows]
    with Emulator(FixedProject()) as emulator:
        long_run = queries(emulator, first, last)
        by_month = [queries(emulator, start, end, window_days=31) for start, end in zip(starts[:2], ends, strict=False)]
        adaptive = [queries(emulator, start, end) for start, end in zip(starts[:2], ends, strict=False)]
    assert by_month == [1, 1]
    # Windows of 1, 1, 2, 4, 8 days and the rest: two are requested before the first shows its size.
    assert adaptive == [6, 6]
    assert requests_shown == [long_run, days, len(starts), 6 * len(starts), days]
    hours = [int(words.split()[0]) if words[0].isdigit() else 0 for _, words in rows]
    # The first 60 requests do not wait, each further 60 wait for an hour.
    assert hours == [(number - 1) // 60 for number in requests_shown]


def queries(emulator: Emulator, first: dt.date, last: dt.date, **settings: int) -> int:
    begin = len(exports(emulator))
    config = emulator.settings | {"start_date": str(first), "end_date": str(last)} | settings
    run_tap(config, catalog=catalog_of("events")).well()
    return len(exports(emulator, begin))


def test_settings_in_page_and_examples_exist() -> None:
    """Every setting on the page and in the examples is a setting of the tap."""
    # The tap ignores unknown variables of the environment.
    examples = [ROOT / "examples" / name for name in ("dagster/definitions.py", "airflow/mixpanel.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in examples)
    named = {name.lower() for name in re.findall(r"TAP_MIXPANEL_STREAM_([A-Z_]+)", PAGE + code)}
    named |= {
        name
        for inside in re.findall(r"settings ?= ?\{(.*?)\}", code, re.DOTALL)
        for name in re.findall(r'"(\w+)":', inside)
    }
    assert {"hourly_quota", "start_date", "end_date", "window_days", "lookback_days"} <= named
    assert named <= set(about()["settings"]["properties"])


def test_orchestrator_versions_on_the_page_are_tested() -> None:
    """The page installs the versions of Dagster and Airflow that the tests run."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in ("dagster", "airflow"):
        needed = re.search(rf"^NEEDED_{name} = (.*)$", makefile, re.MULTILINE)
        assert needed
        assert f"pip install {needed[1]}\n" in section(name.capitalize())
