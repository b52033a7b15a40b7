"""Selection by the catalog or the setting `streams`; a run with nothing selected fails."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject
from tests.harness import catalog_of, run_tap

DAY = dt.date(2024, 1, 15)
EVENT = b'{"event":"Purchase","properties":{"time":1705328401,"distinct_id":"u1","$insert_id":"a"}}'
PROJECT = FixedProject(
    {DAY: [EVENT]},
    profiles=[{"$distinct_id": "u1", "$properties": {}}],
    group_profiles={"-77": [{"$distinct_id": "acme", "$properties": {}}]},
    cohorts=[{"id": 1000, "name": "Cohort One"}],
)
SETTINGS = {"start_date": str(DAY), "end_date": str(DAY), "oauth_token": "t0ken", "project_id": "1"}
GROUP = {"group_profiles": [{"name": "companies", "data_group_id": "-77"}]}


def changed(name: str, root: dict[str, Any] | None = None, **entry: Any) -> dict[str, Any]:
    """Return a catalog that selects one stream, with changes to its entry or metadata."""
    catalog = catalog_of(name)
    [stream] = [stream for stream in catalog["streams"] if stream["tap_stream_id"] == name]
    stream |= entry
    for each in stream["metadata"]:
        if not each["breadcrumb"]:
            each["metadata"] |= root or {}
    return catalog


@pytest.mark.parametrize("option", [None, "--test", "--test=schema", "--doctor"])
@pytest.mark.parametrize("reason", ["empty catalog", "no streams", "all deselected", "streams"])
def test_nothing_selected_fails(reason: str, option: str | None) -> None:
    """A run that would read nothing ends with exit code 1 and the reason."""
    catalogs: dict[str, dict[str, Any]] = {
        "empty catalog": {},
        "no streams": {"streams": []},
        "all deselected": catalog_of(),
    }
    settings: dict[str, Any] = SETTINGS | ({"streams": []} if reason == "streams" else {})
    run = run_tap(settings, *([option] if option else []), catalog=catalogs.get(reason))
    assert run.exit_code == 1
    assert run.stdout == b""
    [error] = run.errors
    words = {"streams": "streams is empty", "empty catalog": "--catalog is not a Singer catalog"}
    assert words.get(reason, "the catalog selects no stream") in error


def test_streams_selects_without_a_catalog() -> None:
    """`streams` replaces the streams selected by default, which include groups."""
    with Emulator(PROJECT) as emulator:
        settings: dict[str, Any] = {"start_date": str(DAY), "end_date": str(DAY)} | GROUP | emulator.settings
        assert set(run_tap(settings).well().schemas()) == {"events", "profiles", "companies"}
        run = run_tap(settings | {"streams": ["cohorts", "events"]}).well()
    assert list(run.schemas()) == ["events", "cohorts"]
    assert run.records("events")
    assert run.records("cohorts")
    assert run.problems == []


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("exports", "events"),
        ("Events", "events"),
        ("engage", "profiles"),
        ("cohort", "cohorts"),
        ("company", "companies"),
    ],
)
def test_an_unknown_stream_in_streams_is_rejected(name: str, closest: str) -> None:
    """The error suggests the closest stream, also for names of tap-mixpanel's streams."""
    for option in ([], ["--discover"]):
        run = run_tap(SETTINGS | GROUP | {"streams": ["events", name]}, *option)
        assert run.exit_code == 1
        assert run.errors == [f"streams: unknown stream {name}: did you mean {closest}?"]


def test_the_catalog_overrides_streams(only_profiles: dict[str, Any]) -> None:
    """With a catalog `streams` is ignored, with a warning if the two differ."""
    with Emulator(PROJECT) as emulator:
        run = run_tap(emulator.settings | {"streams": ["cohorts"]}, catalog=only_profiles).well()
        agreed = run_tap(emulator.settings | {"streams": ["profiles"]}, catalog=only_profiles).well()
    assert set(run.schemas()) == set(agreed.schemas()) == {"profiles"}
    [warning] = run.problems
    assert "streams is ignored, since the catalog selects profiles" in warning
    assert agreed.problems == []


def test_keys_may_be_in_the_metadata() -> None:
    """`table-key-properties` is used if the entry has no key_properties, as in the SDK."""
    catalog = changed("events", {"table-key-properties": ["event_name", "insert_id"]}, key_properties=None)
    with Emulator(PROJECT) as emulator:
        run = run_tap(emulator.settings | {"start_date": str(DAY), "end_date": str(DAY)}, catalog=catalog).well()
    assert run.schemas()["events"]["key_properties"] == ["event_name", "insert_id"]
    assert len(run.records()) == 1


def test_a_catalog_may_omit_key_and_method() -> None:
    """A stream keeps its own key and bookmark if a catalog written by hand has neither."""
    catalog = changed("events", key_properties=None, replication_key=None, replication_method=None)
    [entry] = [entry for entry in catalog["streams"] if entry["tap_stream_id"] == "events"]
    entry["metadata"] = [{"breadcrumb": [], "metadata": {"selected": True}}]
    with Emulator(PROJECT) as emulator:
        run = run_tap(emulator.settings | {"start_date": str(DAY), "end_date": str(DAY)}, catalog=catalog).well()
    assert run.schemas()["events"]["key_properties"] == ["event_name", "event_time", "insert_id"]
    assert run.states[-1]["bookmarks"]["events"]["replication_key_value"] == "2024-01-16T00:00:00+00:00"


def schema_with(**columns: dict[str, Any] | None) -> dict[str, Any]:
    """The schema of events with other columns; None removes one."""
    [entry] = [entry for entry in catalog_of("events")["streams"] if entry["tap_stream_id"] == "events"]
    schema: dict[str, Any] = entry["schema"]
    properties = schema["properties"] | columns
    return schema | {"properties": {name: column for name, column in properties.items() if column is not None}}


@pytest.mark.parametrize("columns", [{"event_time": {"type": "integer"}}, {"distinct_id": None}, {"new": {}}], ids=str)
def test_a_catalog_with_other_columns_is_rejected(columns: dict[str, Any]) -> None:
    """A SCHEMA with other columns or types than the records have would mislead the target."""
    run = run_tap(SETTINGS, catalog=changed("events", schema=schema_with(**columns)))
    assert run.exit_code == 1
    assert "the catalog's columns of events differ" in run.errors[0]


def test_a_key_must_be_selected() -> None:
    """A catalog whose key is deselected or is not a column is rejected."""
    deselected = changed("events")
    [entry] = [entry for entry in deselected["streams"] if entry["tap_stream_id"] == "events"]
    for each in entry["metadata"]:
        if each["breadcrumb"] == ["properties", "insert_id"]:
            each["metadata"] = {"inclusion": "available", "selected": False}
    unknown = changed("events", key_properties=["event_name", "id"])
    for catalog, column in ((deselected, "insert_id"), (unknown, "id")):
        run = run_tap(SETTINGS, catalog=catalog)
        assert run.exit_code == 1
        assert run.errors == [f"the catalog does not select {column}, part of the key of events: select it"]


@pytest.mark.parametrize(
    ("catalog", "says"),
    [
        (changed("events", stream="mixpanel_events"), "the catalog renames the stream events"),
        (changed("events", schema={}), "the catalog's columns of events differ"),
        ({"streams": [{}]}, "--catalog is not a Singer catalog"),
        ({"streams": [{"tap_stream_id": "events", "metadata": 1}]}, "--catalog is not a Singer catalog"),
        ({"streams": ["events"]}, "--catalog is not a Singer catalog"),
    ],
    ids=["renamed", "no columns", "no id", "metadata", "names"],
)
def test_an_invalid_catalog_is_rejected(catalog: dict[str, Any], says: str) -> None:
    """A renamed stream, an empty schema and a malformed file are rejected with the cause."""
    run = run_tap(SETTINGS, catalog=catalog)
    assert run.exit_code == 1
    [error] = run.errors
    assert says in error


def test_the_schema_test_writes_selected_schemas() -> None:
    """`--test=schema` writes the selected streams and columns without any request."""
    assert set(run_tap(SETTINGS | GROUP, "--test=schema").well().schemas()) == {"events", "profiles", "companies"}
    catalog = catalog_of("events", "cohorts", deselected={"events": ["distinct_id"]})
    run = run_tap(SETTINGS, "--test=schema", catalog=catalog).well()
    assert list(run.schemas()) == ["events", "cohorts"]
    columns = {name: list(message["schema"]["properties"]) for name, message in run.schemas().items()}
    assert columns["events"] == ["event_name", "event_time", "insert_id", "properties"]
    assert {"id", "name"} <= set(columns["cohorts"])
    assert run.records("events") == []
