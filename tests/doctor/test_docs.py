"""The output shown in docs/errors.md and docs/time-zones.md is the tap's. `pytest --renew` rewrites it."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tap_mixpanel_stream.emulator import Credentials, Emulator, FixedProject, SyntheticProject
from tap_mixpanel_stream.mixpanel.request import Hosts
from tap_mixpanel_stream.records.timezone_check import MAJORITY, MIN_EVENTS
from tap_mixpanel_stream.settings import validation as settings_module
from tests.doctor.run_doctor import run_doctor
from tests.harness import catalog_of, run_tap

if TYPE_CHECKING:
    import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
BERLIN = SyntheticProject(first_day=dt.date(2019, 6, 1), events_per_day=4000, profiles=2500, zone="Europe/Berlin")
LOGIN = {
    "project_id": Credentials().project_id,
    "service_account_username": Credentials().username,
    "service_account_secret": Credentials().secret,
}


def shown(name: str, mark: str, text: str, *, renew: bool) -> str:
    """Return the block of a page below a mark; with `renew` replace it first."""
    page = DOCS / name
    before, begin, rest = page.read_text(encoding="utf-8").partition(f"<!-- {mark} -->\n```text\n")
    block, end, after = rest.partition("```\n")
    assert begin
    assert end
    if renew:
        page.write_text(before + begin + text + end + after, encoding="utf-8")
        return text
    return block


def test_the_page_shows_the_doctors_reports(monkeypatch: pytest.MonkeyPatch, renew: bool) -> None:
    """The reports in docs/errors.md are those of the doctor."""
    with Emulator(FixedProject(), credentials=Credentials(username="x")) as us, Emulator(BERLIN) as eu:
        hosts = {name: Hosts(each.data_api_url, each.api_url) for name, each in (("us", us), ("eu", eu))}
        monkeypatch.setattr(settings_module, "REGIONS", hosts)
        config = {**LOGIN, "start_date": "2019-06-01", "end_date": "2022-12-31"}
        for mark, more in (
            ("first", {}),
            ("second", {"region": "eu"}),
            ("third", {"region": "eu", "project_timezone": "Europe/Berlin"}),
        ):
            text = run_doctor(config | more).text
            page = shown("errors.md", mark, text, renew=renew)
            assert without_compressed_size(text) == without_compressed_size(page), "run pytest with --renew"


def without_compressed_size(text: str) -> str:
    """Remove the compressed size, which depends on the compression library."""
    return re.sub(r"\(.*? over the network\)", "", text)


def test_the_page_shows_the_time_zone_error(renew: bool) -> None:
    """The error in docs/time-zones.md is the tap's."""
    project = SyntheticProject(first_day=dt.date(2022, 1, 10), events_per_day=100, zone="Europe/Berlin")
    with Emulator(project) as emulator:
        days = {"start_date": "2022-01-10", "end_date": "2022-01-10"}
        run = run_tap(emulator.settings | days, catalog=catalog_of("events"))
    [error] = run.errors
    text = error + "\n"
    assert text == shown("time-zones.md", "error", text, renew=renew), "run pytest with --renew"


def test_the_example_event_has_the_time_shown() -> None:
    """The example events in docs/time-zones.md get the time shown."""
    text = (DOCS / "time-zones.md").read_text(encoding="utf-8")
    old, new = re.findall(r"`\"time\": (\d+)`", text)
    [zone] = set(re.findall(r"`\"project_timezone\": \"(.*?)\"`", text))
    [instant] = re.findall(r"`(\d{4}-\d\d-\d\dT.*?)`", text)
    days = {"start_date": "2024-01-15", "end_date": "2024-01-15"}
    for time, more in ((old, {"project_timezone": zone}), (new, {})):
        line = json.dumps({"event": "E", "properties": {"time": int(time), "$insert_id": "i"}}).encode()
        with Emulator(FixedProject({dt.date(2024, 1, 15): [line]}, zone=zone)) as emulator:
            [record] = run_tap(emulator.settings | days | more).well().records()
        assert record["event_time"] == instant


def test_numbers_on_the_page_match_the_code() -> None:
    """The thresholds in docs/time-zones.md are those of the code."""
    zones = (DOCS / "time-zones.md").read_text(encoding="utf-8")
    assert f"at least {MIN_EVENTS} events" in zones
    assert MAJORITY == 2 / 3
    assert "two thirds of all checked events" in zones
