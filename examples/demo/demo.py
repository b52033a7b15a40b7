"""A pipeline from the Mixpanel emulator into DuckDB and a chart, with rows counted at both ends. Run by `make demo`.

    run 1  in the evening of 31 January 2024: a month of events, all profiles
    run 2  three days later, with the state of run 1: the new days and the look-back
    run 3  raw records with the state of run 2, into another schema
    dbt    builds and tests the models of examples/dbt over what runs 1 and 2 loaded, and compares the events of each
           day and name with Mixpanel's own counts

Runs in the environment of DuckDB, the target and dbt; the tap and the emulator are commands in another one.
"""
# ruff: noqa: T201 - its output is for people

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import duckdb

if TYPE_CHECKING:
    from collections.abc import Iterator

    Settings = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(sys.executable).with_name("target-duckdb")
DBT = Path(sys.executable).with_name("dbt")
MODELS = ROOT / "examples" / "dbt"
COMPARISON = "loaded_events_match_mixpanel_counts"
FIRST_EVENING = date(2024, 1, 31)
SECOND_EVENING = FIRST_EVENING + timedelta(days=3)
LOOK_BACK = timedelta(days=5)  # the tap's default
ONE_DAY = timedelta(days=1)
PLOT_ROWS = 5


class Demo:
    """A folder with a DuckDB file, and the programs that load it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.output: Path = options.output
        self.commands: Path = options.commands
        self.first_day = FIRST_EVENING - (options.days - 1) * ONE_DAY
        self.size = f"--events-per-day={options.events_per_day}", f"--profiles={options.profiles}"
        self.database = self.output / "demo.duckdb"
        self.log = self.output / "demo.log"
        self.output.mkdir(parents=True, exist_ok=True)
        for old in (self.database, self.log):
            old.unlink(missing_ok=True)

    @contextlib.contextmanager
    def mixpanel(self, evening: date) -> Iterator[Settings]:
        """Start an emulator whose clock is fixed at an evening. It first prints a configuration."""
        clock = f"--first-day={self.first_day}", f"--now={evening}T23:59:59"
        command = [str(self.commands / "tap-mixpanel-emulator"), *clock, *self.size]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as emulator:
            try:
                settings = json.loads(next(iter(emulator.stdout or []), "{}"))
                yield {**settings, "end_date": str(evening), "streams": ["events", "profiles", "event_counts"]}
            finally:
                emulator.terminate()

    def run(self, title: str, settings: Settings, state: str = "", schema: str = "mixpanel") -> str:
        """Run `tap | target`. The target's last line is the state for the next run."""
        tap = [str(self.commands / "tap-mixpanel-stream"), "--config", self.file("tap-config.json", settings)]
        if state:
            tap += ["--state", self.file("state.json", json.loads(state))]
        target_settings = {"path": str(self.database), "default_target_schema": schema, "primary_key_required": False}
        target = [str(TARGET), "--config", self.file("target-config.json", target_settings)]
        begin = time.monotonic()
        with self.log.open("a") as log:
            source = subprocess.Popen(tap, stdout=subprocess.PIPE, stderr=log)
            sink = subprocess.Popen(target, stdin=source.stdout, stdout=subprocess.PIPE, stderr=log, text=True)
            if source.stdout:
                source.stdout.close()  # Only the target has the pipe open now, so the tap notices if it stops.
            states = sink.communicate()[0].splitlines()
            codes = source.wait(), sink.returncode
        if any(codes) or not states:
            self.fail(f"{title}: tap and target ended with {codes[0]} and {codes[1]}")
        bookmark = json.loads(states[-1])["bookmarks"]["events"]["replication_key_value"]
        print(f"{title:36} {time.monotonic() - begin:4.1f} s   state: {bookmark}")
        return str(states[-1])

    def build(self, title: str) -> None:
        """Build the models with dbt, and run their tests."""
        where = "--project-dir", MODELS, "--profiles-dir", MODELS, "--target-path", self.output / "dbt"
        # Without the test of the model `completeness`: the demo shows the differences itself.
        build = "build", "--vars", "{event_counts_loaded: true}", "--exclude", COMPARISON
        command: list[str | Path] = [DBT, "--no-use-colors", "--log-path", self.output / "dbt", *build, *where]
        begin = time.monotonic()
        with self.log.open("a") as log:
            surroundings = {**os.environ, "MIXPANEL_DUCKDB": str(self.database)}
            code = subprocess.run(command, stdout=log, stderr=log, env=surroundings, check=False).returncode
        if code:
            self.fail(f"{title}: dbt ended with {code}")
        print(f"{title:36} {time.monotonic() - begin:4.1f} s")

    def fail(self, what: str) -> NoReturn:
        """Exit with the end of the log."""
        last_lines = "\n".join(self.log.read_text().splitlines()[-10:])
        sys.exit(f"{what}. See {self.log}:\n{last_lines}")

    def file(self, name: str, content: object) -> str:
        """Write a JSON file into the folder."""
        path = self.output / name
        path.write_text(json.dumps(content, indent=2) + "\n")
        return str(path)


def events_in_mixpanel(settings: Settings, first: date, last: date) -> list[dict[str, Any]]:
    """Export Mixpanel's events without the tap."""
    query = {"project_id": settings["project_id"], "from_date": first, "to_date": last}
    with ask(settings, f"{settings['data_api_url']}/export?{urllib.parse.urlencode(query)}") as answer:
        return [json.loads(line) for line in answer]


def profiles_in_mixpanel(settings: Settings) -> int:
    """Return Mixpanel's number of profiles without the tap."""
    with ask(settings, f"{settings['api_url']}/query/engage?project_id={settings['project_id']}", b"") as answer:
        return int(json.load(answer)["total"])


def ask(settings: Settings, url: str, form: bytes | None = None) -> Any:
    """Send one request with the service account."""
    login = f"{settings['service_account_username']}:{settings['service_account_secret']}"
    signed_in = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    return urllib.request.urlopen(urllib.request.Request(url, form, signed_in))  # noqa: S310 - http, to this machine


def distinct(events: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    """Return the distinct events by identity: a duplicate is one event.

    Without an insert id the identity is all of an event except its user ids, which Mixpanel rewrites.
    """
    rewritten = {"distinct_id", "$distinct_id_before_identity"}
    keys: set[tuple[str, ...]] = set()
    for event in events:
        own = event["properties"]
        contents = json.dumps({name: value for name, value in own.items() if name not in rewritten}, sort_keys=True)
        keys.add((event["event"], str(own["time"]), own.get("$insert_id") or contents))
    return keys


def show_counts(connection: duckdb.DuckDBPyConnection, expected: dict[str, int]) -> bool:
    """Print the counts at both ends. Return whether they are equal."""
    print(f"\n{'table':24} {'in Mixpanel':>12} {'in DuckDB':>12}")
    agreed = True
    for table, count in expected.items():
        arrived = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our own names
        print(f"{table:24} {count:12,} {arrived:12,}{'' if arrived == count else '   DIFFERENT'}")
        agreed = agreed and arrived == count
    return agreed


def show_activity(connection: duckdb.DuckDBPyConnection) -> None:
    """Print results of the dbt models: the last week's active users, and two charts over all days."""
    columns = "day, active_users, new_users, events"
    days = connection.execute(f"SELECT {columns} FROM analytics.daily_active_users ORDER BY day").fetchall()  # noqa: S608
    print("\nday         active users  new users    events")
    for day, active_users, new_users, events in days[-7:]:
        print(f"{day}    {active_users:10,} {new_users:10,} {events:9,}")
    first, last = days[0][0], days[-1][0]
    plot(f"events a day, {first} to {last}", [events for *_, events in days])
    plot(f"new users a day, {first} to {last}", [new_users for _, _, new_users, _ in days])


def plot(title: str, values: list[int]) -> None:
    """Print a column of marks for each value."""
    print(f"\n{title}")
    most = max(*values, 1)
    for row in range(PLOT_ROWS, 0, -1):
        # A mark for half a row or more.
        marks = "".join("#" if value * PLOT_ROWS >= (row - 0.5) * most else " " for value in values)
        print(f"{most * row // PLOT_ROWS:6,} |{marks}".rstrip())


def show_one_event(connection: duckdb.DuckDBPyConnection) -> None:
    """Print the same event from both tables."""
    print("\nOne event, normalized and raw:")
    own_id = """(properties->>'$."$insert_id"')"""
    shared = connection.execute(
        f"SELECT {own_id} FROM mixpanel_raw.events WHERE event = 'Purchase' AND {own_id} IS NOT NULL ORDER BY 1"  # noqa: S608
    ).fetchone()
    for table, insert_id in (("mixpanel.events", "insert_id"), ("mixpanel_raw.events", own_id)):
        event = connection.execute(f"FROM {table} WHERE {insert_id} = ? LIMIT 1", shared).fetchone()
        print(f"  {table}")
        for (column, *_), value in zip(connection.description, event, strict=True):
            print(f"    {column:12} {value!s:.90}{'…' if len(str(value)) > 90 else ''}")  # noqa: PLR2004


def show_completeness(connection: duckdb.DuckDBPyConnection) -> bool:
    """Compare the loaded events with Mixpanel's event counts. Return whether all days agree."""
    days, pairs, loaded, counted, different = connection.execute(
        "SELECT count(DISTINCT day), count(*), sum(loaded), sum(counted), count(*) FILTER (difference != 0) "
        "FROM analytics.completeness"
    ).fetchone()
    print("\nIs everything there? The events of each day and name, beside Mixpanel's own counts:")
    print(f"  {days} days, {pairs} days and names: {loaded:,} loaded, {counted:,} counted, {different} differ")
    return not different


def main() -> int:
    """Run the demo. The exit code is 0 if both ends agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "demo", help="folder for the results")
    parser.add_argument("--commands", type=Path, default=ROOT / ".venv" / "bin", help="folder with the tap's commands")
    parser.add_argument("--days", type=int, default=31, help="days of events before the first run")
    parser.add_argument("--events-per-day", type=int, default=200)
    parser.add_argument("--profiles", type=int, default=300)
    demo = Demo(parser.parse_args())

    with demo.mixpanel(FIRST_EVENING) as settings:
        state = demo.run(f"run 1: {demo.first_day} to {FIRST_EVENING}", settings)
        events = distinct(events_in_mixpanel(settings, demo.first_day, FIRST_EVENING))
    with demo.mixpanel(SECOND_EVENING) as settings:
        # A bookmark at midnight starts with the day after the evening.
        again = max(demo.first_day, FIRST_EVENING + ONE_DAY - LOOK_BACK)
        state = demo.run(f"run 2: {again} to {SECOND_EVENING}", settings, state)
        events |= distinct(events_in_mixpanel(settings, again, SECOND_EVENING))
        again = max(demo.first_day, SECOND_EVENING + ONE_DAY - LOOK_BACK)
        raw = {**settings, "raw": True, "streams": ["events", "profiles"]}
        demo.run(f"run 3: {again} to {SECOND_EVENING}, raw", raw, state, "mixpanel_raw")
        raw_events = events_in_mixpanel(settings, again, SECOND_EVENING)
        profiles = profiles_in_mixpanel(settings)
    demo.build("dbt: models built and tested")

    expected = {
        "mixpanel.events": len(events),
        "mixpanel.profiles": profiles,
        "mixpanel_raw.events": len(raw_events),
        "mixpanel_raw.profiles": profiles,
        "analytics.events": len(events),
    }
    with duckdb.connect(str(demo.database), read_only=True) as connection:
        agreed = show_counts(connection, expected)
        show_activity(connection)
        show_one_event(connection)
        agreed = show_completeness(connection) and agreed
    if not agreed:
        print("\nThe counts differ.", file=sys.stderr)
        return 1
    query = "FROM analytics.funnel ORDER BY step"
    python, database = os.path.relpath(sys.executable), os.path.relpath(demo.database)
    print(f"\nThe data is in {database}. To query it:")
    # The connection must live as long as its query results.
    print(f"  {python} -c \"import duckdb; db = duckdb.connect('{database}'); print(db.sql('{query}'))\"")
    return 0


if __name__ == "__main__":
    sys.exit(main())
