"""`event_columns` and `profile_columns`: properties as columns on every route."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject
from tests.end_to_end.test_batches import records_in_batches
from tests.harness import run_tap

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Run

DAY = dt.date(2024, 1, 15)
VALUES: list[dict[str, Any]] = [
    {"$city": "Zürich", "price": 12.5, "visits": 2**40, "paid": True, "at": "2024-01-15T14:20:00", "tags": ["a"]},
    {"$city": 7, "price": "12.5", "visits": 1.5, "paid": "yes", "at": "soon", "tags": "a"},
    {"$city": None, "price": 2**70, "visits": 2**63, "paid": False, "at": "2024-01-15T14:20:00+02:00", "tags": {}},
    {},
]
WANTED: list[dict[str, Any]] = [
    {"city": "Zürich", "price": 12.5, "visits": 2**40, "paid": True, "at": "2024-01-15T14:20:00+00:00", "tags": ["a"]},
    dict.fromkeys(("city", "price", "visits", "paid", "at", "tags")),
    {"city": None, "price": 2**70, "visits": None, "paid": False, "at": "2024-01-15T12:20:00+00:00", "tags": {}},
    dict.fromkeys(("city", "price", "visits", "paid", "at", "tags")),
]
COLUMNS = [
    {"name": "city", "property": "$city", "type": "string"},
    {"name": "price", "property": "price", "type": "number"},
    {"name": "visits", "property": "visits", "type": "integer"},
    {"name": "paid", "property": "paid", "type": "boolean"},
    {"name": "at", "property": "at", "type": "date-time"},
    {"name": "tags", "property": "tags", "type": "json"},
]
WARNING = "values that do not fit their column's type, null in the column and kept in properties: "

EVENTS = [
    json.dumps({"event": "A", "properties": {"time": 1705328401, "$insert_id": f"i{number}", **values}}).encode()
    for number, values in enumerate(VALUES)
]
PROFILES: list[dict[str, Any]] = [
    {"$distinct_id": f"u{number}", "$properties": values} for number, values in enumerate(VALUES)
]
PROJECT = FixedProject({DAY: EVENTS}, profiles=PROFILES, group_profiles={"-77": PROFILES})
SETTINGS = {
    "start_date": str(DAY),
    "end_date": str(DAY),
    "event_columns": COLUMNS,
    "profile_columns": COLUMNS,
    "group_profiles": [{"name": "companies", "data_group_id": "-77"}],
}


def property_columns(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the property columns of records, in the order of their ids."""
    ordered = sorted(records, key=lambda record: str(record.get("insert_id", record["distinct_id"])))
    assert [record["properties"] for record in ordered] == VALUES
    return [{name: record[name] for name in WANTED[0]} for record in ordered]


def run(more: dict[str, Any], **options: Any) -> Run:
    with Emulator(PROJECT) as emulator:
        return run_tap(emulator.settings | SETTINGS | more, **options).well()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"worker_processes": 2},
        {"strip_nul": True},
        {"stream_maps": {"*": {"more": "'x'"}}},
        {"profile_properties": ["unrelated"], "streams": ["events"]},
    ],
)
def test_property_columns_are_the_same_on_every_route(more: dict[str, Any]) -> None:
    """Copied blocks, worker processes and the SDK's route write equal columns, and one warning per stream."""
    result = run(more)
    for stream in more.get("streams", ["events", "profiles", "companies"]):
        properties = result.schemas()[stream]["schema"]["properties"]
        assert properties["city"] == {"type": ["string", "null"]}
        assert properties["at"] == {"type": ["string", "null"], "format": "date-time"}
        assert property_columns(result.records(stream)) == WANTED
    warnings = [line for line in result.problems if WARNING in line]
    assert len(warnings) == len(more.get("streams", ["events", "profiles", "companies"]))
    assert all("visits 2" in line and "city 1" in line and "tags 1" in line for line in warnings)


def test_batch_files_have_property_columns(tmp_path: Path) -> None:
    """Batch files have the property columns."""
    batches = {
        "batch_config": {
            "encoding": {"format": "jsonl", "compression": "gzip"},
            "storage": {"root": tmp_path.as_uri()},
        }
    }
    result = run(batches)
    for stream in ("events", "profiles", "companies"):
        assert property_columns(records_in_batches(result, stream)) == WANTED


def test_the_test_option_writes_property_columns() -> None:
    """`--test` writes records with the property columns."""
    with Emulator(PROJECT) as emulator:
        result = run_tap(emulator.settings | SETTINGS, "--test").well()
    assert {"city", "tags"} <= result.records("events")[0].keys()


def test_column_properties_are_requested() -> None:
    """With `profile_properties` the properties of the columns are also requested."""
    with Emulator(PROJECT) as emulator:
        result = run_tap(
            emulator.settings | SETTINGS | {"profile_properties": ["paid"], "streams": ["profiles"]}
        ).well()
    records = {record["distinct_id"]: record for record in result.records("profiles")}
    assert {name: records["u0"][name] for name in WANTED[0]} == WANTED[0]


def test_a_property_column_can_be_deselected() -> None:
    """A deselected property column is in neither the schema nor the records."""
    with Emulator(PROJECT) as emulator:
        catalog = json.loads(run_tap(emulator.settings | SETTINGS, "--discover").well().stdout)
        for stream in catalog["streams"]:
            for entry in stream["metadata"]:
                if entry["breadcrumb"] == ["properties", "city"]:
                    entry["metadata"]["selected"] = False
        result = run_tap(emulator.settings | SETTINGS, catalog=catalog).well()
    for stream in ("events", "profiles", "companies"):
        assert "city" not in result.schemas()[stream]["schema"]["properties"]
        assert all("city" not in record and "price" in record for record in result.records(stream))


@pytest.mark.parametrize(("discovered", "now"), [([], COLUMNS), (COLUMNS, []), (COLUMNS[:1], COLUMNS[1:])])
def test_a_catalog_with_other_columns_is_rejected(discovered: list[object], now: list[object]) -> None:
    """A catalog discovered with other columns is rejected, so that schema and records agree."""
    with Emulator(PROJECT) as emulator:
        settings = emulator.settings | {"start_date": str(DAY)}
        catalog = json.loads(run_tap(settings | {"event_columns": discovered}, "--discover").well().stdout)
        result = run_tap(settings | {"event_columns": now}, catalog=catalog)
    assert result.exit_code == 1
    [error] = result.errors
    assert "differ from those of the settings" in error


def test_a_deselected_stream_may_have_other_columns() -> None:
    """Only the columns of selected streams must match the catalog."""
    with Emulator(PROJECT) as emulator:
        settings = emulator.settings | {"start_date": str(DAY)}
        catalog = json.loads(run_tap(settings, "--discover").well().stdout)
        for stream in catalog["streams"]:
            for entry in stream["metadata"]:
                if not entry["breadcrumb"]:
                    entry["metadata"]["selected"] = stream["tap_stream_id"] == "profiles"
        run_tap(settings | {"event_columns": COLUMNS}, catalog=catalog).well()


CITY = COLUMNS[0]


@pytest.mark.parametrize("setting", ["event_columns", "profile_columns"])
@pytest.mark.parametrize(
    ("columns", "more", "says"),
    [
        ([CITY], {"raw": True}, "raw records have no such columns"),
        ([CITY | {"name": "properties"}], {}, "another column is named properties"),
        ([CITY | {"name": "Distinct_ID"}], {}, "another column is named Distinct_ID"),
        ([CITY, CITY | {"name": "CITY"}], {}, "another column is named CITY"),
        ([CITY | {"name": "$city"}], {}, "'$city' cannot be a column's name"),
        ([CITY | {"name": ""}], {}, "'' cannot be a column's name"),
        ([CITY | {"type": "text"}], {}, "is not one of"),
        ([{"name": "city"}], {}, "required"),
        (["city"], {}, "columns"),
        ([CITY | {"key": True}], {}, "the names are name, property, type"),
    ],
)
@pytest.mark.parametrize("option", [None, "--discover"])
def test_invalid_property_columns_are_rejected(
    setting: str, columns: list[object], more: dict[str, Any], says: str, option: str | None
) -> None:
    """One error names the setting, before any request."""
    with Emulator(PROJECT) as emulator:
        settings = emulator.settings | {"start_date": str(DAY), setting: columns} | more
        result = run_tap(settings, *([option] if option else []))
        assert emulator.requests == []
    assert (result.exit_code, result.stdout) == (1, b"")
    [error] = result.errors
    assert setting in error
    assert says in error or option == "--discover"
