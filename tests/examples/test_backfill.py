"""docs/backfill.md: its commands for a long run and for shards by hand, and its arithmetic."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from scripts.generate_docs import about
from tap_mixpanel_stream.emulator import Emulator, FixedProject, Quota, SyntheticProject
from tests.docs.programs import ROOT, asked_days
from tests.examples.backfill import (
    FIRST_DAY,
    LAST_DAY,
    MONTHS,
    PAGE,
    READ_AGAIN_FROM,
    assert_same,
    assert_same_profiles,
    environment,
    exports,
    held,
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
FOR_A_SHELL = ["Which way"]
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


def test_a_long_run_goes_on_from_its_state(empty: Server, tmp_path: Path) -> None:
    run, goes_on = scripts("One long run")
    now = [BACKFILLED_AT]
    with Emulator(PROJECT, now=lambda: now[0], quota=Quota()) as emulator:
        variables = environment(tmp_path, emulator, empty, FOR_A_SHELL)
        variables |= {"TAP_MIXPANEL_STREAM_START_DATE": str(FIRST_DAY), "TAP_MIXPANEL_STREAM_END_DATE": str(LAST_DAY)}
        shell(run, tmp_path, variables)
        assert_same(loaded_events(empty), held(PROJECT, FIRST_DAY, LAST_DAY, BACKFILLED_AT))
        now[0] = NIGHT
        begin = len(emulator.requests)
        shell(goes_on, tmp_path, variables | {"TAP_MIXPANEL_STREAM_END_DATE": str(NIGHT.date())})
        assert asked_days(emulator.requests[begin:]) == (str(READ_AGAIN_FROM), str(NIGHT.date()))
    expected = held(PROJECT, FIRST_DAY, LAST_DAY, BACKFILLED_AT) | held(PROJECT, READ_AGAIN_FROM, NIGHT.date(), NIGHT)
    assert_same(loaded_events(empty), expected)
    assert_same_profiles(empty, PROJECT, NIGHT)


def test_shards_by_hand_load_all_of_it_and_hand_over(empty: Server, tmp_path: Path) -> None:
    shards, night = scripts("Shards by hand")
    now = [BACKFILLED_AT]
    with Emulator(PROJECT, now=lambda: now[0], quota=Quota()) as emulator:
        variables = environment(tmp_path, emulator, empty, FOR_A_SHELL)
        variables |= {"TAP_MIXPANEL_STREAM_START_DATE": str(FIRST_DAY)}
        shell(shards, tmp_path, variables)
        asked = exports(emulator)
        assert [each[0] for each in sorted(asked)] == [f"{month}-01" for month in MONTHS]
        assert asked[0][0] == "2023-01-01"
        assert_same(loaded_events(empty), held(PROJECT, FIRST_DAY, LAST_DAY, BACKFILLED_AT))
        assert_same_profiles(empty, PROJECT, BACKFILLED_AT)
        assert len([seen for seen in emulator.requests if seen.kind == "engage"]) == 1
        now[0] = NIGHT
        begin = len(emulator.requests)
        shell(night, tmp_path, variables | {"TAP_MIXPANEL_STREAM_END_DATE": str(NIGHT.date())})
        assert asked_days(emulator.requests[begin:]) == (str(READ_AGAIN_FROM), str(NIGHT.date()))
    expected = held(PROJECT, FIRST_DAY, LAST_DAY, BACKFILLED_AT) | held(PROJECT, READ_AGAIN_FROM, NIGHT.date(), NIGHT)
    assert_same(loaded_events(empty), expected)


def test_a_shard_that_failed_is_made_up_for_by_running_all_again(empty: Server, tmp_path: Path) -> None:
    shards, _ = scripts("Shards by hand")
    # The first of the month is as good as a whole one here.
    shards = shards.replace("2023-{02..12} 2024-01", "2023-{02..04}")
    with Emulator(PROJECT, now=lambda: BACKFILLED_AT) as emulator:
        variables = environment(tmp_path, emulator, empty, FOR_A_SHELL)
        variables |= {"TAP_MIXPANEL_STREAM_START_DATE": str(FIRST_DAY)}
        target = tmp_path / "bin" / "target-postgres"
        real = target.resolve()
        target.unlink()
        # Stands in for a database that is away while March is loaded.
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
    assert_same(loaded_events(empty), held(PROJECT, FIRST_DAY, dt.date(2023, 4, 30), BACKFILLED_AT))


def test_the_queries_of_the_table_are_those_that_the_tap_makes() -> None:
    first, last = dt.date(2022, 1, 1), dt.date(2024, 12, 31)
    days = (last - first).days + 1
    starts = [dt.date(2022 + number // 12, 1 + number % 12, 1) for number in range(36)]
    ends = [*(start - dt.timedelta(days=1) for start in starts[1:]), last]
    rows = re.findall(r"^\| .*? \| (\d+) \| (.*?) \|$", section("How long it takes"), re.MULTILINE)
    told = [int(queries) for queries, _ in rows]
    with Emulator(FixedProject()) as emulator:
        long_run = queries(emulator, first, last)
        by_month = [queries(emulator, start, end, window_days=31) for start, end in zip(starts[:2], ends, strict=False)]
        adaptive = [queries(emulator, start, end) for start, end in zip(starts[:2], ends, strict=False)]
    assert by_month == [1, 1]
    # Of 1, 1, 2, 4, 8 days, and the rest: two are on their way before the first shows how small it is.
    assert adaptive == [6, 6]
    assert told == [long_run, days, len(starts), 6 * len(starts), days]
    hours = [int(words.split()[0]) if words[0].isdigit() else 0 for _, words in rows]
    # The first 60 wait for nobody, each 60 after them for an hour.
    assert hours == [(number - 1) // 60 for number in told]


def queries(emulator: Emulator, first: dt.date, last: dt.date, **settings: int) -> int:
    begin = len(exports(emulator))
    config = emulator.settings | {"start_date": str(first), "end_date": str(last)} | settings
    run_tap(config, catalog=catalog_of("events")).well()
    return len(exports(emulator, begin))


def test_every_setting_that_is_named_is_one_that_the_tap_has() -> None:
    # In the environment the tap does not complain of others.
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


def test_what_is_told_to_install_for_the_orchestrators_is_pinned() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in ("dagster", "airflow"):
        needed = re.search(rf"^NEEDED_{name} = (.*)$", makefile, re.MULTILINE)
        assert needed
        assert f"pip install {needed[1]}\n" in section(name.capitalize())
