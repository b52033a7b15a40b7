"""The examples in docs/state.md match the tap."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject
from tests.docs.programs import ROOT, requested_days
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import run_here
from tests.soak.test_random_faults import RAW_EVENTS

TEXT = (ROOT / "docs" / "state.md").read_text(encoding="utf-8")
TWENTIETH = dt.datetime(2024, 1, 20, 9, tzinfo=dt.UTC)


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def examples(title: str) -> list[dict[str, Any]]:
    """Return the JSON examples of a section."""
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section(title), re.DOTALL)]


def state_in(title: str) -> dict[str, Any]:
    """Return the state that a section shows."""
    [state] = examples(title)
    return state


def run_at(
    now: dt.datetime, settings: dict[str, Any], state: dict[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[str, str]]:
    """Return the state after a run at a time, and the first and last day it requested."""
    clock = FakeClock(now)
    with Emulator(FixedProject(), now=clock.now) as emulator:
        # One window, so that no pause between windows advances the clock.
        config = emulator.settings | {"window_days": 90} | settings | {"raw": True}
        result = run_here(config, clock, catalog=RAW_EVENTS, state=state)
        assert result.error is None
        assert result.state
        return result.state, requested_days(emulator.requests)


def test_the_page_links_to_all_its_sections() -> None:
    """The links to headings on the page are those of its sections."""
    titles = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.*)$", TEXT, re.MULTILINE)}
    assert set(re.findall(r"\]\(#(.*?)\)", TEXT)) == titles


@pytest.mark.parametrize(
    ("title", "settings"),
    [("What the state contains", {}), ("By ingestion time", {"incremental_by": "ingestion_time"})],
)
def test_the_state_shown_continues_as_shown(title: str, settings: dict[str, str]) -> None:
    """The first run ends with the state shown, and the second reads the days shown."""
    settings = settings | {"start_date": "2024-01-01"}
    first, _ = run_at(TWENTIETH, settings)
    assert first == state_in(title)
    second, days = run_at(TWENTIETH + dt.timedelta(days=1), settings, first)
    assert days == ("2024-01-15", "2024-01-21")
    hour = "08" if settings.get("incremental_by") else "09"
    assert second["bookmarks"]["events"]["replication_key_value"] == f"2024-01-21T{hour}:00:00+00:00"
    assert f"| state after | `2024-01-20T{hour}:00:00+00:00`" in TEXT
    assert f"`2024-01-21T{hour}:00:00+00:00`" in TEXT


def test_the_newest_first_example_is_true() -> None:
    """A newest-first back-fill has the state and the days shown."""
    settings = {"start_date": "2022-01-01", "backfill": "newest_first", "max_quota_wait": 0}
    settings |= {"concurrent_exports": 1, "window_days": 1}
    tenth = dt.datetime(2024, 6, 10, 9, tzinfo=dt.UTC)
    first, days = run_at(tenth, settings)
    assert days == ("2024-04-12", "2024-06-10")
    assert first == state_in("Newest first")
    second, days = run_at(tenth + dt.timedelta(days=1), settings, first)
    assert days == ("2024-02-19", "2024-06-11")
    [ahead] = [second["bookmarks"]["events"]["ahead"]]
    assert ahead["from_date"] == "2024-02-19"
    assert ahead["before"].startswith("2024-06-11T09:00:")
    assert "10 June back to 12 April | 5 to 11 June, then 11 April back to 19 February" in TEXT


def test_the_shard_example_is_true() -> None:
    """A shard with the settings shown ends with the state shown."""
    settings, state = examples("A back-fill in shards")
    ended, days = run_at(TWENTIETH, settings)
    assert days == (settings["start_date"], settings["end_date"])
    assert ended == state
