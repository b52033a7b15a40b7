"""examples/bulk: batch files into DuckDB, PostgreSQL and ClickHouse, with the state saved after the commit."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject
from tests.docs import pages
from tests.docs.programs import COMMANDS, ENVIRONMENT, ROOT, installed
from tests.targets import clickhouse
from tests.targets.loading import KEYS, PAGE, ClickHouse, DuckDB, Postgres, query_duckdb
from tests.targets.postgresql import PASSWORD
from tests.targets.source import BOOKMARKS, EVENINGS, FIRST_DAY, Reading, Source, event, expected_rows
from tests.targets.test_targets import newest, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tests.targets.postgresql import Server
    from tests.targets.source import Row

    Settings = Mapping[str, Any]

PROGRAM = str(ROOT / "examples" / "bulk" / "bulk.py")
STREAMS = ("events", "profiles")
READINGS = {"duckdb": Reading(doubles=True), "postgres": Reading(without_nul=True), "clickhouse": Reading()}

# Runs a program and lists the executed lines of its folder. The process kills itself before the line PLACE is executed
# for the Nth time.
TRACED = """
import collections, os, runpy, signal, sys
listing, place, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.argv = sys.argv[4:]
folder, seen = os.path.dirname(sys.argv[0]), collections.Counter()
def trace(frame, kind, _):
    if not frame.f_code.co_filename.startswith(folder):
        return None
    if kind == "line" and frame.f_code.co_name in ("load", "save", "_upsert", "_run"):
        line = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
        seen[line] += 1
        if line == place and seen[line] == number:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace
sys.path.insert(0, folder)
sys.settrace(trace)
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    open(listing, "w").write("\\n".join(seen))
"""


class Bulk:
    """A warehouse that examples/bulk loads, and a folder with the state.

    Args:
        name: The warehouse's name on the command line.
        python: A Python with the warehouse's client.
        folder: The folder of configuration and state.
        destination: The database to load into.
        rows: Returns the rows of a stream.
    """

    def __init__(
        self, name: str, python: Path, folder: Path, destination: str, rows: Callable[[str], Iterable[Row]]
    ) -> None:
        self.name = name
        self.python = python
        self.folder = folder
        self.destination = destination
        self.rows = rows
        self.state = folder / "state.json"
        self.reading = READINGS[name]

    @property
    def bookmark(self) -> str | None:
        """The bookmark of events in the saved state."""
        state = json.loads(self.state.read_text())
        bookmark: str | None = state["bookmarks"]["events"].get("replication_key_value")
        return bookmark

    @property
    def files(self) -> list[str]:
        """The remaining batch files."""
        return [file.name for file in self.folder.glob("state.json.batches/*.gz*")]

    def start(self, settings: Settings, *, within: Iterable[str] = (), **options: Any) -> subprocess.Popen[str]:
        """Start a load."""
        config = self.folder / "config.json"
        config.write_text(json.dumps(dict(settings)))
        secrets = {
            "PGPASSWORD": PASSWORD,
            "CLICKHOUSE_USER": clickhouse.USER,
            "CLICKHOUSE_PASSWORD": clickhouse.PASSWORD,
        }
        command = [str(self.python), *within, PROGRAM, self.name, self.destination]
        return subprocess.Popen(
            [*command, f"--state={self.state}", "--config", str(config)],
            env=ENVIRONMENT | secrets | {"PATH": f"{COMMANDS}:{ENVIRONMENT['PATH']}"},
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def load(self, settings: Settings, *, within: Iterable[str] = ()) -> tuple[int, str]:
        """Run a load; return the exit code and the log."""
        with self.start(settings, within=within) as loading:
            _, log = loading.communicate(timeout=120)
        return loading.returncode, log

    def check(self, source: Source, streams: Iterable[str] = STREAMS) -> None:
        """Check that the tables have Mixpanel's rows, each once."""
        for stream in streams:
            expected = expected_rows(source, stream, self.reading, raw=False)
            same(self.rows(stream), newest(expected, KEYS[stream, False]))


@pytest.fixture(params=["duckdb", "postgres", "clickhouse"])
def bulk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bulk]:
    """Yield an empty warehouse."""
    name = request.param
    if name == "duckdb":
        database = str(tmp_path / "warehouse.duckdb")
        target = DuckDB("duckdb", tmp_path)
        yield Bulk(name, installed(name, "python"), tmp_path, database, lambda each: target.rows(each, raw=False))
    elif name == "clickhouse":
        database_of_clickhouse = request.getfixturevalue("clickhouse")
        newest_rows = ClickHouse(name, tmp_path, database_of_clickhouse).rows
        url = f"http://127.0.0.1:{database_of_clickhouse.port}/"
        # It needs only a Python without packages.
        yield Bulk(name, installed("jsonl", "python"), tmp_path, url, lambda each: newest_rows(each, raw=False))
    else:
        server: Server = request.getfixturevalue("postgres")
        url = "postgresql://{user}@{host}:{port}/{database}".format(**server.address)
        database_rows = Postgres(name, tmp_path, server).rows
        yield Bulk(name, installed(name, "python"), tmp_path, url, lambda each: database_rows(each, raw=False))


def days(evening: dt.date, **settings: Any) -> dict[str, Any]:
    return {"start_date": str(FIRST_DAY), "end_date": str(evening), **settings}


def test_two_runs_load_every_value(bulk: Bulk) -> None:
    """The second run has a look-back, a late event, a merged identity and changed profiles."""
    source = Source.new()
    for bookmark, evening in zip(BOOKMARKS, EVENINGS, strict=True):
        with Emulator(source.project()) as emulator:
            code, log = bulk.load(emulator.settings | days(evening))
        assert code == 0, log
        assert bulk.bookmark == bookmark
        assert not bulk.files
        bulk.check(source)
        source.change()


def test_a_kill_before_any_line_loses_nothing(bulk: Bulk, tmp_path: Path) -> None:
    """SIGKILL before a line of the second transaction, then a complete run: nothing is lost."""
    listing = tmp_path / "lines"
    traced = ["-c", TRACED, str(listing)]
    three_days = [FIRST_DAY + dt.timedelta(days=number) for number in range(3)]
    # Without a look-back, which would read lost rows again.
    range_of_days = days(three_days[-1], window_days=1, lookback_days=0)
    lines = [""]
    kills = 0
    for number in itertools.count():
        properties = f'"round":{number}'
        events = {day: [event(day, f"{day} {n}", properties) for n in range(3)] for day in three_days}
        profiles = [{"$distinct_id": f"user {n}", "$properties": {"round": number}} for n in range(3)]
        with Emulator(FixedProject(events, profiles)) as emulator:
            settings = emulator.settings | range_of_days
            code, log = bulk.load(settings, within=[*traced, lines[number], "2"])
            assert code in {0, -signal.SIGKILL}, log
            if code:
                kills += 1
                code, log = bulk.load(settings)
                assert code == 0, log
        assert not bulk.files
        for stream, count in (("events", 9), ("profiles", 3)):
            rows = [row["properties"] for row in bulk.rows(stream)]
            assert rows == count * [bulk.reading.json(f"{{{properties}}}")], lines[number]
        bulk.state.unlink()
        if not number:
            lines += listing.read_text().split("\n")[::4]
        elif number == len(lines) - 1:
            break
    assert kills > 4


@pytest.mark.parametrize("victim", ["loader", "tap", "both"])
def test_a_kill_at_any_time_loses_nothing(bulk: Bulk, victim: str) -> None:
    """SIGKILL for the loader, the tap or both at several times; then one complete run: nothing is lost."""
    source = Source.new()
    with Emulator(source.project()) as emulator:
        settings = emulator.settings | days(EVENINGS[0], window_days=1)
        began = time.monotonic()
        code, log = bulk.load(settings)
        assert code == 0, log
        whole = time.monotonic() - began
        bulk.state.unlink()
        for part in (0.9, 0.5, 0.7):
            with bulk.start(settings, start_new_session=True) as loading:
                time.sleep(whole * part)
                if victim == "both":
                    os.killpg(loading.pid, signal.SIGKILL)
                else:
                    kill(loading.pid if victim == "loader" else child_of(loading.pid))
                loading.communicate(timeout=60)
            assert loading.returncode in ({0, 137} if victim == "tap" else {0, -signal.SIGKILL})
        code, log = bulk.load(settings)
    assert code == 0, log
    assert bulk.bookmark == BOOKMARKS[0]
    bulk.check(source)


def child_of(process: int) -> int | None:
    """Return the process id of the tap that a loader runs, or None."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return int(children[0]) if children else None
    return None


def kill(process: int | None) -> None:
    with contextlib.suppress(ProcessLookupError):
        if process is not None:
            os.kill(process, signal.SIGKILL)


def test_a_failed_tap_keeps_committed_windows(bulk: Bulk) -> None:
    """The exit code is the tap's, the state covers the committed windows, and the next run loads the rest."""
    source = Source.new()
    with Emulator(source.project(), faults=[Fault("export", 5, "status:402")]) as emulator:
        settings = emulator.settings | days(EVENINGS[0], window_days=1, concurrent_exports=1)
        code, log = bulk.load(settings)
        assert code == 1, log
        assert bulk.bookmark == "2024-01-05T00:00:00+00:00"
        code, log = bulk.load(settings)
    assert code == 0, log
    bulk.check(source)


@pytest.mark.parametrize("bulk", ["duckdb", "postgres"], indirect=True)
def test_a_failed_load_saves_no_state(bulk: Bulk) -> None:
    """The warehouse rejects an unpaired surrogate, so the run fails; without it the next run succeeds."""
    source = Source.new()
    source.events[FIRST_DAY].append(event(FIRST_DAY, "half", r'"cut":"a\ud83d"'))
    with Emulator(source.project()) as emulator:
        code, log = bulk.load(emulator.settings | days(EVENINGS[0]))
    assert code == 1
    assert "surrogate" in log.lower()
    assert not bulk.state.exists()
    source.events[FIRST_DAY].pop()
    source.found.clear()
    with Emulator(source.project()) as emulator:
        code, log = bulk.load(emulator.settings | days(EVENINGS[0]))
    assert code == 0, log
    assert not bulk.files
    bulk.check(source)


@pytest.mark.parametrize("bulk", ["duckdb"], indirect=True)
def test_malformed_events_are_written_to_the_file(bulk: Bulk, tmp_path: Path) -> None:
    """`bad_lines_path` works with batch files, and files of an earlier run are deleted."""
    good = event(FIRST_DAY, "good", '"a":1')
    batches = tmp_path / "state.json.batches"
    batches.mkdir()
    (batches / ".left.json.gz.partial").touch()
    (batches / "left.json.gz").touch()
    with Emulator(FixedProject({FIRST_DAY: [good, b'{"event":"bad"}']})) as emulator:
        bad_lines = tmp_path / "bad.jsonl"
        code, log = bulk.load(emulator.settings | days(FIRST_DAY, bad_lines="skip", bad_lines_path=str(bad_lines)))
    assert code == 0, log
    assert [row["insert_id"] for row in bulk.rows("events")] == ["good"]
    assert b"bad" in bad_lines.read_bytes()
    assert not bulk.files


@pytest.mark.parametrize("bulk", ["duckdb"], indirect=True)
def test_raw_events_are_rejected(bulk: Bulk) -> None:
    """Raw events have no key, so nothing is loaded."""
    with Emulator(Source.new().project()) as emulator:
        code, log = bulk.load(emulator.settings | days(FIRST_DAY, raw=True))
    assert code == 1
    assert "events has no key for upserts: set raw to false" in log
    assert not bulk.state.exists()


@pytest.mark.parametrize("bulk", ["duckdb"], indirect=True)
def test_files_without_a_later_state_are_loaded(bulk: Bulk, tmp_path: Path) -> None:
    """The tap omits a STATE equal to the last one: after more pages, more reports, and in a run without news."""
    report = {
        "computed_at": "2024-01-05T00:00:00+00:00",
        "date_range": {"from_date": "2024-01-01T00:00:00+00:00", "to_date": "2024-01-01T23:59:59+00:00"},
        "headers": ["$event"],
        "series": {"Odd": {"2024-01-01T00:00:00+00:00": 1}},
    }
    reports = [{"name": f"Report {number}", "bookmark_id": number} for number in (1, 2, 3)]
    settings = days(FIRST_DAY, streams=[*STREAMS, "insights"], profiles_page_size=1, insights_reports=reports)
    query = """
        SELECT (SELECT sum((properties->>'run')::INTEGER) FROM mixpanel.events) AS run,
            (SELECT count(*) FROM mixpanel.profiles) AS profiles, (SELECT count(*) FROM mixpanel.insights) AS cells
    """
    states = []
    for run in (1, 2):
        events = {FIRST_DAY: [event(FIRST_DAY, "one", f'"run":{run}')]}
        profiles = [{"$distinct_id": f"user {number}", "$properties": {}} for number in range(3 * run)]
        with Emulator(FixedProject(events, profiles, insights={1: report, 2: report, 3: report})) as emulator:
            code, log = bulk.load(emulator.settings | settings)
        assert code == 0, log
        [row] = query_duckdb(query, tmp_path, "warehouse.duckdb")
        assert [int(value) for value in row.values()] == [run, 3 * run, 3]
        assert not bulk.files
        states.append(bulk.state.read_text())
    assert states[0] == states[1]


@pytest.mark.parametrize("bulk", ["duckdb"], indirect=True)
def test_the_path_of_the_state_takes_any_character(bulk: Bulk, tmp_path: Path) -> None:
    """A blank, a letter outside ASCII, or what a URL gives a meaning."""
    source = Source.new()
    folder = tmp_path / "my dätä %20 #1?[a]"
    folder.mkdir()
    bulk.state = folder / "state.json"
    with Emulator(source.project()) as emulator:
        code, log = bulk.load(emulator.settings | days(EVENINGS[0]))
    assert code == 0, log
    bulk.check(source)
    assert [each.name for each in tmp_path.iterdir() if each.is_dir()] == [folder.name]


def test_tiny_numbers_are_loaded(bulk: Bulk) -> None:
    """The tap delivers 1e-400 as it is, and PostgreSQL rejects it as a double."""
    columns = [{"name": "tiny", "property": "tiny", "type": "number"}]
    with Emulator(FixedProject({FIRST_DAY: [event(FIRST_DAY, "tiny", '"tiny":1e-400')]})) as emulator:
        code, log = bulk.load(emulator.settings | days(FIRST_DAY, streams=["events"], event_columns=columns))
    assert code == 0, log
    assert [row["insert_id"] for row in bulk.rows("events")] == ["tiny"]


def test_the_example_has_at_most_100_lines() -> None:
    """The program reads the messages and saves the state in at most 100 lines."""
    assert len(Path(PROGRAM).read_text(encoding="utf-8").splitlines()) <= 100


@pytest.mark.parametrize("bulk", ["duckdb"], indirect=True)
def test_the_command_on_the_page_loads(bulk: Bulk, tmp_path: Path) -> None:
    """The page's command works in the folder of the checkout, with a Python that has duckdb."""
    source = Source.new()
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with Emulator(source.project()) as emulator:
        (tmp_path / "config.json").write_text(json.dumps(emulator.settings | days(EVENINGS[0])))
        path = f"{bulk.python.parent}:{COMMANDS}:{ENVIRONMENT['PATH']}"
        shown = pages.named(PAGE)["bulk: shell"]
        done = subprocess.run(
            ["/bin/sh", "-ec", shown], cwd=tmp_path, env=ENVIRONMENT | {"PATH": path}, capture_output=True, check=False
        )
    assert done.returncode == 0, done.stderr.decode()
    assert bulk.bookmark == BOOKMARKS[0]
    bulk.check(source)
