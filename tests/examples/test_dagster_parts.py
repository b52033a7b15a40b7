"""The parts of examples/dagster that know nothing of Dagster: the pipeline, and what the back-fill hands over."""

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

LOOK_BACK = dt.timedelta(days=5)


def day(month: int, number: int, hour: int = 0) -> dt.datetime:
    return dt.datetime(2024, month, number, hour, tzinfo=dt.UTC)


def shard(end: dt.datetime, begun: dt.datetime) -> Shard:
    bookmark = {"replication_key": "event_time", "replication_key_value": end.isoformat()}
    return Shard(begun, {"bookmarks": {"events": bookmark}})


def bookmark(state: dict[str, Any]) -> object:
    return state["bookmarks"]["events"]["replication_key_value"]


def test_the_nightly_run_begins_where_the_last_shard_ends() -> None:
    shards = [shard(day(3, 1), day(4, 20)), shard(day(4, 1), day(4, 19)), shard(day(2, 1), day(4, 21))]
    state = start_state(shards, LOOK_BACK)
    assert state == {
        "bookmarks": {"events": {"replication_key": "event_time", "replication_key_value": "2024-04-01T00:00:00+00:00"}}
    }


def test_a_last_shard_read_soon_after_its_end_changes_nothing() -> None:
    assert bookmark(start_state([shard(day(4, 1), day(4, 2))], LOOK_BACK)) == "2024-04-01T00:00:00+00:00"


def test_an_earlier_shard_that_was_read_while_late_events_could_come_is_covered() -> None:
    # February was read on the first of March, March a month later: what came for February after that is still to come.
    shards = [shard(day(3, 1), day(3, 1, 1)), shard(day(4, 1), day(4, 20))]
    assert bookmark(start_state(shards, LOOK_BACK)) == "2024-03-01T01:00:00+00:00"


def test_a_shard_read_a_look_back_after_its_end_is_settled() -> None:
    shards = [shard(day(3, 1), day(3, 6)), shard(day(4, 1), day(4, 20))]
    assert bookmark(start_state(shards, LOOK_BACK)) == "2024-04-01T00:00:00+00:00"


def test_the_states_of_the_shards_stay_as_they_are() -> None:
    last = shard(day(4, 1), day(4, 20))
    start_state([shard(day(3, 1), day(3, 1, 1)), last], LOOK_BACK)
    assert last.end == day(4, 1)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Put a program into the path, by its name and its script."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def put(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return put


def test_both_exit_codes_the_last_state_and_every_line_are_told(program: Program) -> None:
    program(TAP, "echo 'now | INFO | tap | hello' >&2; echo record; exit 3")
    program(TARGET, "cat >/dev/null; echo '{\"a\": 1}'; echo '{\"a\": 2}'; echo 'Traceback' >&2; exit 4")
    heard: list[str] = []
    ended = run(heard.append)
    assert (ended.tap, ended.target, ended.state) == (3, 4, {"a": 2})
    assert sorted(heard) == [f"{TAP}: now | INFO | tap | hello", f"{TARGET}: Traceback"]
    assert str(ended) == f"{TAP} ended with 3, {TARGET} with 4: Traceback"


@pytest.mark.parametrize(("tap", "target", "well"), [(0, 0, True), (3, 0, False), (0, 4, False), (3, 4, False)])
def test_it_went_well_if_both_ended_with_0(program: Program, tap: int, target: int, well: bool) -> None:
    program(TAP, f"exit {tap}")
    program(TARGET, f"cat >/dev/null; exit {target}")
    assert run(lambda _: None).well is well


def test_settings_and_the_session_in_utc_go_by_the_environment(program: Program) -> None:
    program(TAP, 'echo "$TAP_MIXPANEL_STREAM_START_DATE $@" >&2')
    program(TARGET, 'cat >/dev/null; echo "$PGTZ $@" >&2')
    heard: list[str] = []
    assert run(heard.append, ["--test"], settings={"start_date": "2024-01-01"}).well
    assert sorted(heard) == [f"{TAP}: 2024-01-01 --config=ENV --test", f"{TARGET}: UTC --config=ENV"]


def test_a_target_that_stops_ends_the_tap(program: Program) -> None:
    program(TAP, "while echo record; do :; done 2>/dev/null; exit 1")
    program(TARGET, "exit 5")
    ended = run(lambda _: None)
    assert ended.target == 5
    assert not ended.well


def test_where_it_is_interrupted_both_programs_are_ended(program: Program, tmp_path: Path) -> None:
    program(TAP, f"echo $$ > {tmp_path}/tap; echo begun >&2; exec sleep 600")
    program(TARGET, f"echo $$ > {tmp_path}/target; exec sleep 600")

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt(line)

    with pytest.raises(KeyboardInterrupt):
        run(interrupt)
    # The target may not have come so far as to write its number.
    for name in ("tap", "target"):
        if (number := (tmp_path / name)).exists() and number.read_text():
            with pytest.raises(ProcessLookupError):
                os.kill(int(number.read_text()), 0)
