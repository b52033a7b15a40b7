"""The parts of examples/dagster without Dagster: the pipeline, and the state after the back-fill."""

from __future__ import annotations

import datetime as dt
import os
from typing import TYPE_CHECKING, Any

import pytest
from handover import Shard, start_state
from pipeline import TAP, TARGET, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Program = Callable[[str, str], None]

LOOKBACK = dt.timedelta(days=5)


def day(month: int, number: int, hour: int = 0) -> dt.datetime:
    return dt.datetime(2024, month, number, hour, tzinfo=dt.UTC)


def shard(end: dt.datetime, begun: dt.datetime) -> Shard:
    bookmark = {"replication_key": "event_time", "replication_key_value": end.isoformat()}
    return Shard(begun, {"bookmarks": {"events": bookmark}})


def bookmark(state: dict[str, Any]) -> object:
    return state["bookmarks"]["events"]["replication_key_value"]


def test_the_nightly_run_starts_after_the_last_shard() -> None:
    """The start state is the end of the last shard."""
    shards = [shard(day(3, 1), day(4, 20)), shard(day(4, 1), day(4, 19)), shard(day(2, 1), day(4, 21))]
    state = start_state(shards, LOOKBACK)
    assert state == {
        "bookmarks": {"events": {"replication_key": "event_time", "replication_key_value": "2024-04-01T00:00:00+00:00"}}
    }


def test_an_early_read_of_the_last_shard_is_fine() -> None:
    """A last shard read soon after its end does not change the start state."""
    assert bookmark(start_state([shard(day(4, 1), day(4, 2))], LOOKBACK)) == "2024-04-01T00:00:00+00:00"


def test_an_earlier_shard_read_early_is_covered() -> None:
    """A shard read while late events could still arrive moves the start state back."""
    # February was read on 1 March, March a month later: later events of February are not loaded yet.
    shards = [shard(day(3, 1), day(3, 1, 1)), shard(day(4, 1), day(4, 20))]
    assert bookmark(start_state(shards, LOOKBACK)) == "2024-03-01T01:00:00+00:00"


def test_a_shard_read_after_the_lookback_is_complete() -> None:
    """A shard read a look-back after its end does not move the start state."""
    shards = [shard(day(3, 1), day(3, 6)), shard(day(4, 1), day(4, 20))]
    assert bookmark(start_state(shards, LOOKBACK)) == "2024-04-01T00:00:00+00:00"


def test_start_state_does_not_change_the_shards() -> None:
    """Computing the start state does not change the states of the shards."""
    last = shard(day(4, 1), day(4, 20))
    start_state([shard(day(3, 1), day(3, 1, 1)), last], LOOKBACK)
    assert last.end == day(4, 1)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Return a function that puts a script on the path."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def put(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return put


def test_the_result_has_exit_codes_state_and_log(program: Program) -> None:
    """The result has both exit codes, the last state and every line of stderr."""
    program(TAP, "echo 'now | INFO | tap | hello' >&2; echo record; exit 3")
    program(TARGET, "cat >/dev/null; echo '{\"a\": 1}'; echo '{\"a\": 2}'; echo 'Traceback' >&2; exit 4")
    logged: list[str] = []
    result = run(logged.append)
    assert (result.tap, result.target, result.state) == (3, 4, {"a": 2})
    assert sorted(logged) == [f"{TAP}: now | INFO | tap | hello", f"{TARGET}: Traceback"]
    assert str(result) == f"{TAP} ended with 3, {TARGET} with 4: Traceback"


@pytest.mark.parametrize(("tap", "target", "succeeded"), [(0, 0, True), (3, 0, False), (0, 4, False), (3, 4, False)])
def test_the_pipeline_succeeds_if_both_exit_with_0(program: Program, tap: int, target: int, succeeded: bool) -> None:
    """The pipeline succeeds only if both programs exit with 0."""
    program(TAP, f"exit {tap}")
    program(TARGET, f"cat >/dev/null; exit {target}")
    assert run(lambda _: None).succeeded is succeeded


def test_settings_are_passed_in_the_environment(program: Program) -> None:
    """Settings and the UTC session are passed in the environment."""
    program(TAP, 'echo "$TAP_MIXPANEL_STREAM_START_DATE $@" >&2')
    program(TARGET, 'cat >/dev/null; echo "$PGTZ $@" >&2')
    logged: list[str] = []
    assert run(logged.append, ["--test"], settings={"start_date": "2024-01-01"}).succeeded
    assert sorted(logged) == [f"{TAP}: 2024-01-01 --config=ENV --test", f"{TARGET}: UTC --config=ENV"]


def test_a_target_that_exits_ends_the_tap(program: Program) -> None:
    """A target that exits ends the tap, and the pipeline fails."""
    program(TAP, "while echo record; do :; done 2>/dev/null; exit 1")
    program(TARGET, "exit 5")
    result = run(lambda _: None)
    assert result.target == 5
    assert not result.succeeded


def test_an_interrupt_ends_both_programs(program: Program, tmp_path: Path) -> None:
    """An interrupt ends both programs."""
    program(TAP, f"echo $$ > {tmp_path}/tap; echo begun >&2; exec sleep 600")
    program(TARGET, f"echo $$ > {tmp_path}/target; exec sleep 600")

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt(line)

    with pytest.raises(KeyboardInterrupt):
        run(interrupt)
    # The target may not have written its process id yet.
    for name in ("tap", "target"):
        if (number := (tmp_path / name)).exists() and number.read_text():
            with pytest.raises(ProcessLookupError):
                os.kill(int(number.read_text()), 0)


def test_a_failed_discovery_is_in_the_result(program: Program) -> None:
    """A part needs a catalog: if discovery fails, the log and the result name the cause."""
    program(TAP, "echo 'now | ERROR | tap | region is wrong: set us' >&2; exit 1")
    program(TARGET, "cat >/dev/null")
    logged: list[str] = []
    result = run(logged.append, part="events")
    assert (result.tap, result.target, result.state) == (1, 0, None)
    assert logged == [f"{TAP}: now | ERROR | tap | region is wrong: set us"]
    assert "region is wrong: set us" in str(result)
