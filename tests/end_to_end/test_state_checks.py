"""A wrong state is rejected or warned about, with the name of its file."""

from __future__ import annotations

import datetime as dt
import json
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject
from tests.harness import Run, catalog_of, run_tap

if TYPE_CHECKING:
    from pathlib import Path

NOW = dt.datetime.now(dt.UTC)
DAY = NOW.date() - dt.timedelta(days=3)
LINE = b'{"event":"A","properties":{"time":%d}}' % dt.datetime.combine(DAY, dt.time(12), dt.UTC).timestamp()
FUTURE = "2099-01-01T00:00:00+00:00"
PAST = "2024-01-02T00:00:00+00:00"
NEXT_YEAR = f"{NOW.year + 1}-01-02T00:00:00+00:00"


@cache
def catalog(*streams: str) -> dict[str, Any]:
    return catalog_of(*streams)


def run(bookmarks: dict[str, Any], *streams: str, options: tuple[str, ...] = (), **extra: Any) -> tuple[Run, int]:
    with Emulator(FixedProject({DAY: [LINE]})) as emulator:
        config = emulator.settings | {"start_date": str(DAY)} | extra
        done = run_tap(config, *options, catalog=catalog(*streams), state={"bookmarks": bookmarks})
        return done, len(emulator.requests)


@pytest.mark.parametrize("options", [(), ("--doctor",)])
@pytest.mark.parametrize(
    ("stream", "bookmark", "name", "value"),
    [
        ("events", {"replication_key_value": FUTURE}, "replication_key_value", FUTURE),
        ("events", {"replication_key_value": NEXT_YEAR}, "replication_key_value", NEXT_YEAR),
        ("events", {"ahead": {"from_date": "2024-01-01", "before": FUTURE}}, "ahead.before", FUTURE),
        (
            "events",
            {"ahead": {"from_date": "9999-12-31", "before": PAST}},
            "ahead.from_date",
            "9999-12-31T00:00:00+00:00",
        ),
        (
            "events",
            {
                "replication_key_value": PAST,
                "ingested": [{"from_date": "2024-01-01", "to_date": "2024-01-01", "before": FUTURE}],
            },
            "ingested.before",
            FUTURE,
        ),
        ("profiles", {"replication_key_value": FUTURE}, "replication_key_value", FUTURE),
        ("profiles", {"replication_key_value": PAST, "full_refresh": FUTURE}, "full_refresh", FUTURE),
        ("funnels", {"replication_key_value": FUTURE}, "replication_key_value", FUTURE),
        ("funnels", {"by_funnel": {"1": PAST, "2": FUTURE}}, "by_funnel", FUTURE),
    ],
)
def test_a_future_bookmark_is_rejected(
    stream: str, bookmark: dict[str, Any], name: str, value: str, options: tuple[str, ...]
) -> None:
    """The error has the value and what to write instead; the doctor rejects it too."""
    done, requests = run({stream: bookmark}, stream, options=options, profiles_incremental=True)
    assert (done.exit_code, requests) == (1, 0)
    assert len(done.errors) == 1
    assert f"state.json: the bookmark of {stream} is in the future: {name} is {value}" in done.errors[0]
    assert f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H}" in done.errors[0]


@pytest.mark.parametrize(
    ("stream", "bookmark", "says"),
    [
        ("events", {"ahead": {"from_date": 5}}, "ahead.from_date is 5, not a date such as"),
        ("events", {"replication_key_value": PAST, "rows": [1]}, "rows is [1], not an object"),
        ("profiles", {"replication_key_value": PAST, "full_refresh": 7}, "full_refresh is 7, not a date-time such as"),
        ("cohort_members", {"finished": "all"}, 'finished is "all", not a list'),
    ],
)
def test_an_invalid_bookmark_is_rejected_before_requests(stream: str, bookmark: dict[str, Any], says: str) -> None:
    """The error has the key, its value and the expected type, before the first request."""
    done, requests = run({stream: bookmark}, stream, profiles_incremental=True)
    assert (done.exit_code, requests, done.stdout) == (1, 0, b"")
    assert len(done.errors) == 1
    assert f"state.json: the bookmark of {stream} is broken: {says}" in done.errors[0]


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/Los_Angeles"])
def test_a_bookmark_at_the_end_of_today_is_accepted(zone: str) -> None:
    """A bookmark written by hand may be the end of today in the project's time zone."""
    now = dt.datetime.now(dt.UTC)
    end = (now + dt.timedelta(hours=14)).date() if zone.startswith("Pacific") else now.date()
    offset = {"UTC": 0, "Pacific/Kiritimati": 14, "America/Los_Angeles": -7}[zone]
    midnight = dt.datetime.combine(end, dt.time(), tzinfo=dt.UTC) - dt.timedelta(hours=offset)
    done, _ = run(
        {"events": {"replication_key_value": midnight.isoformat()}}, "events", project_timezone=zone, end_date=str(DAY)
    )
    done.well()


def test_a_bookmark_of_an_unselected_stream_is_kept() -> None:
    """The bookmark of a stream that is not read is not checked and is kept."""
    done, _ = run({"funnels": {"replication_key_value": FUTURE}}, "events")
    done.well()
    assert done.states[-1]["bookmarks"]["funnels"] == {"replication_key_value": FUTURE}


@pytest.mark.parametrize(
    ("name", "meant"), [("event", "events"), ("export", "events"), ("engage", "profiles"), ("cohort", "cohorts")]
)
def test_a_bookmark_of_an_unknown_stream_is_a_warning(name: str, meant: str) -> None:
    """A warning names the unknown stream and suggests the closest one, also in the doctor."""
    bookmarks = {name: {"replication_key_value": PAST}}
    done, _ = run(bookmarks, "events")
    done.well()
    assert len(done.problems) == 1
    assert f"state.json: unknown stream '{name}'" in done.problems[0]
    assert f"did you mean {meant}?" in done.problems[0]
    doctor, _ = run(bookmarks, "events", options=("--doctor",))
    [warning] = [line for line in doctor.stdout.decode().splitlines() if line.startswith("warning  state ")]
    assert f"unknown stream '{name}'" in warning


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_state_may_have_a_byte_order_mark(encoding: str, tmp_path: Path) -> None:
    """Windows tools write a byte order mark."""
    file = tmp_path / "last.json"
    bookmark = f"{DAY + dt.timedelta(days=1)}T00:00:00+00:00"
    file.write_text(json.dumps({"bookmarks": {"events": {"replication_key_value": bookmark}}}), encoding=encoding)
    with Emulator(FixedProject({DAY: [LINE]})) as emulator:
        config = emulator.settings | {"start_date": "2024-01-01", "lookback_days": 0, "end_date": str(NOW.date())}
        run_tap(config, "--state", str(file), catalog=catalog("events")).well()
        first = min(seen.query["from_date"] for seen in emulator.requests)
    assert first == str(DAY + dt.timedelta(days=1))
