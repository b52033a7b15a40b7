"""Memory and disk: whatever Mixpanel sends, a run needs little of them, and ends in a clear line."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject, SyntheticProject
from tests.harness import Run, run_tap

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST, LAST = dt.date(2024, 1, 1), dt.date(2024, 1, 3)
CONFIG: dict[str, Any] = {
    "project_timezone": "UTC",
    "start_date": str(FIRST),
    "end_date": str(LAST),
    "window_days": 1,
    "raw": True,
    "max_retries": 0,
}
NOW = dt.datetime.now(dt.UTC)
MIB = 1 << 20

# Runs a command with files held to so many bytes, and says at the end how much memory it took at the most. It stands in
# between because a process begins with what its parent has, and this one is smaller than pytest.
LIMITED = """
import resource, subprocess, sys
limit = int(sys.argv[1])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
code = subprocess.run(sys.argv[2:]).returncode
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def limited(size_of_files: int = 0) -> list[str]:
    return [sys.executable, "-c", LIMITED, str(size_of_files)]


def measured(faults: list[Fault], extra: dict[str, Any], catalog: dict[str, Any]) -> tuple[Run, int]:
    """A run, and how many MiB of memory it took at the most."""
    with Emulator(project(), faults=faults) as emulator:
        run = run_tap(emulator.settings | CONFIG | extra, catalog=catalog, within=limited())
    return run, int(run.stderr.pop().removeprefix("peak ")) // 1024


def project(events_per_day: int = 50) -> SyntheticProject:
    return SyntheticProject(first_day=FIRST, last_day=LAST, events_per_day=events_per_day, profiles=50)


def assert_stopped(run: Run, *says: str) -> None:
    assert run.exit_code == 1
    assert len(run.errors) == 1, run.stderr
    assert [words for words in says if words not in run.errors[0]] == [], run.errors[0]
    assert not any("Traceback" in line for line in run.stderr)


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{"concurrent_exports": 3}, {"concurrent_exports": 1, "worker_processes": 1}])
def test_decompression_bombs_among_the_events_end_in_a_line_and_take_little_memory(
    more: dict[str, Any], only_raw_events: dict[str, Any]
) -> None:
    bombs = [Fault("export", None, "bomb", value=1 << 40)]
    run, peak = measured(bombs, more, only_raw_events)
    assert_stopped(run, "events 2024-01-01", "expands to more than 500 times its size")
    assert peak < 128


def test_a_line_without_an_end_ends_in_a_line_and_takes_little_memory(only_raw_events: dict[str, Any]) -> None:
    endless = [Fault("export", None, "endless-line", value=1 << 40)]
    run, peak = measured(endless, {"concurrent_exports": 1}, only_raw_events)
    assert_stopped(run, "events 2024-01-01", "a line exceeds")
    assert peak < 160


def test_a_page_without_an_end_ends_in_a_line_and_takes_what_a_page_may(only_profiles: dict[str, Any]) -> None:
    run, peak = measured([Fault("engage", None, "bomb", value=1 << 40)], {"raw": False}, only_profiles)
    assert_stopped(run, "profiles page 0", "expands to more than 500 times its size")
    assert peak < 400


# --- disk ------------------------------------------------------------------------------------------------------------


class OneBigDay(SyntheticProject):
    """Its second day is about 3 MB: more than stays in memory."""

    EVENTS = 3000

    def lines(self, first: dt.date, last: dt.date, *, now: dt.datetime, in_ms: bool = False) -> Iterator[bytes]:
        big = first == FIRST + dt.timedelta(days=1)
        days = SyntheticProject(
            first_day=FIRST, last_day=LAST, events_per_day=self.EVENTS if big else self.events_per_day
        )
        return days.lines(first, last, now=now, in_ms=in_ms)


@pytest.mark.parametrize("more", [{}, {"worker_processes": 1}])
def test_a_full_disk_stops_the_run_and_the_state_holds(
    more: dict[str, Any], only_raw_events: dict[str, Any], small_disk: Path
) -> None:
    with Emulator(OneBigDay(first_day=FIRST, last_day=LAST, events_per_day=50)) as emulator:
        config = emulator.settings | CONFIG | more
        run = run_tap(config, catalog=only_raw_events, environment={"TMPDIR": str(small_disk)})
        assert_stopped(run, "events 2024-01-02", f"no space left in the temporary folder {small_disk}", "TMPDIR")
        assert len(run.records()) == 50
        assert run.bookmark == "2024-01-02T00:00:00+00:00"
        assert list(small_disk.iterdir()) == []
        rest = run_tap(config | {"lookback_days": 0}, catalog=only_raw_events, state=run.states[-1]).well()
    assert len(rest.records()) == OneBigDay.EVENTS + 50


def test_a_file_that_may_not_grow_stops_the_run(only_raw_events: dict[str, Any]) -> None:
    with Emulator(OneBigDay(first_day=FIRST, last_day=LAST, events_per_day=50)) as emulator:
        run = run_tap(emulator.settings | CONFIG, catalog=only_raw_events, within=limited(2 * MIB))
    run.stderr.pop()
    assert_stopped(run, "events 2024-01-02", "the temporary folder", "cannot be used (File too large)", "TMPDIR")
    assert len(run.records()) == 50


def test_profiles_need_room_too(only_profiles: dict[str, Any], small_disk: Path) -> None:
    many = [{"$distinct_id": f"u{number}", "$properties": {"text": "x" * 2000}} for number in range(1500)]
    with Emulator(FixedProject(profiles=many)) as emulator:
        run = run_tap(emulator.settings, catalog=only_profiles, environment={"TMPDIR": str(small_disk)})
    assert_stopped(run, "profiles page 0", "no space left in the temporary folder")
    assert run.records("profiles") == []


def test_a_temporary_folder_that_is_not_there_is_no_reason_to_stop(only_raw_events: dict[str, Any]) -> None:
    with Emulator(OneBigDay(first_day=FIRST, last_day=LAST, events_per_day=50)) as emulator:
        run_tap(emulator.settings | CONFIG, catalog=only_raw_events, environment={"TMPDIR": "/nowhere"}).well()


def test_a_stdout_that_takes_no_more_stops_the_run(only_raw_events: dict[str, Any]) -> None:
    with Emulator(project()) as emulator, Path("/dev/full").open("wb") as full:
        run = run_tap(emulator.settings | CONFIG, catalog=only_raw_events, stdout=full)
    assert_stopped(run, "stdout cannot be written: No space left on device")


@pytest.mark.parametrize("batches", [False, True])
def test_lines_that_cannot_be_set_aside_stop_the_run_before_the_state_moves_over_them(
    only_raw_events: dict[str, Any], tmp_path: Path, small_disk: Path, *, batches: bool
) -> None:
    bad = [b"no event of %d" % number for number in range(3)]
    days = [FIRST + dt.timedelta(days=number) for number in range(3)]
    source = FixedProject(
        {day: [line, b"[]", *project().lines(day, day, now=NOW)] for day, line in zip(days, bad, strict=True)}
    )
    storage = {"encoding": {"format": "jsonl"}, "storage": {"root": tmp_path.as_uri()}}
    extra = {"bad_lines": "skip", "lookback_days": 0} | ({"batch_config": storage} if batches else {})
    aside = tmp_path / "aside"
    with Emulator(source) as emulator:
        config = emulator.settings | CONFIG | extra
        with contextlib.suppress(OSError):
            (small_disk / "all of it").write_bytes(b"x" * 3 * MIB)
        run = run_tap(config | {"bad_lines_path": str(small_disk / "aside")}, catalog=only_raw_events)
        assert_stopped(run, f"events: bad_lines_path {small_disk}/aside cannot be written: No space left on device")
        assert run.bookmark is None
        run_tap(config | {"bad_lines_path": str(aside)}, catalog=only_raw_events).well()
    assert aside.read_bytes() == b"".join(line + b"\n[]\n" for line in bad)


def test_lines_set_aside_are_not_doubled_by_a_window_that_is_tried_again(
    only_raw_events: dict[str, Any], tmp_path: Path
) -> None:
    aside = tmp_path / "aside"
    extra = {"bad_lines": "skip", "bad_lines_path": str(aside), "max_retries": 1, "concurrent_exports": 1}
    faults = [Fault("export", (1, 2), "bad-line"), Fault("export", 1, "gzip-no-trailer")]
    with Emulator(project(), faults=faults) as emulator:
        run = run_tap(emulator.settings | CONFIG | extra, catalog=only_raw_events).well()
    assert aside.read_bytes() == b"this line is no JSON\n"
    assert any(line.endswith(f"1 malformed lines written to {aside}") for line in run.problems)
    found = re.compile(r"events \d{4}-.*: 1 malformed, the first at position \d+ of the response")
    assert any(found.search(line) for line in run.stderr)


def test_what_was_set_aside_is_told_after_a_run_that_failed_too(
    only_raw_events: dict[str, Any], tmp_path: Path
) -> None:
    extra = {"bad_lines": "skip", "bad_lines_path": str(tmp_path / "aside"), "concurrent_exports": 1}
    faults = [Fault("export", 1, "bad-line"), Fault("export", 2, "status:403")]
    with Emulator(project(), faults=faults) as emulator:
        run = run_tap(emulator.settings | CONFIG | extra, catalog=only_raw_events)
    assert_stopped(run, "events 2024-01-02")
    assert any("malformed lines written to" in line for line in run.problems)
