"""Stream maps apply to selected streams, and a mistake in one is a one-line error."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.docs import pages
from tests.harness import catalog_of, run_tap

DAYS = {"start_date": "2024-01-02", "end_date": "2024-01-02"}
MIXPANEL = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 31), events_per_day=20, profiles=5)
OFFLINE = DAYS | {"oauth_token": "t0ken", "project_id": "1", "api_url": "http://127.0.0.1:9/api"}


@pytest.mark.parametrize(
    ("maps", "selected"),
    [
        ({"*": {"loaded_by": "'x'"}}, ["events", "profiles"]),
        ({"*s": {"loaded_by": "'x'"}, "annotations": {"description": "description.nonsense("}}, ["events"]),
        ({"cohorts": {"__filter__": "count > 1"}, "funnels": {"__alias__": "ways"}}, ["profiles"]),
    ],
)
def test_maps_of_unselected_streams_do_nothing(maps: dict[str, Any], selected: list[str]) -> None:
    """Maps, filters, aliases and wildcards do not affect deselected streams."""
    with Emulator(MIXPANEL) as emulator:
        run = run_tap(emulator.settings | DAYS | {"stream_maps": maps}, catalog=catalog_of(*selected)).well()
    assert list(run.schemas()) == selected
    for stream in selected:
        assert run.records(stream)
        wild = any("*" in key for key in maps)
        assert all((record.get("loaded_by") == "x") == wild for record in run.records(stream))


def test_the_recipe_for_surrogates_works_for_profiles() -> None:
    """The map in docs/targets.md works if only profiles are read."""
    [recipe] = [
        block.text
        for block in pages.blocks(pages.text_of("docs/targets.md"))
        if block.mark.startswith("unpaired surrogate")
    ]
    with Emulator(MIXPANEL) as emulator:
        settings = emulator.settings | DAYS | json.loads(recipe)
        assert run_tap(settings, catalog=catalog_of("profiles")).well().records("profiles")


@pytest.mark.parametrize(
    ("maps", "says"),
    [
        ({"exports": {"a": "'x'"}}, "stream_maps: unknown stream exports: did you mean events?"),
        ({"event*s_": None}, "stream_maps: unknown stream event*s_: did you mean events?"),
        ({"copy": {"__source__": "event"}}, "stream_maps: unknown stream event: did you mean events?"),
        ({"events": {"a": "properties[0"}}, "stream_maps: events.a: `properties[0` is not an expression"),
        ({"events": {"__filter__": "x ="}}, "stream_maps: events.__filter__: `x =` is not an expression"),
        ({"events": {"a": "b = 1"}}, "stream_maps: events.a: `b = 1` is not an expression"),
        ({"events": {"a": ""}}, "stream_maps: events.a: `` is not an expression"),
        ({"events": {"a": "upper(event_name)"}}, "`upper(event_name)`: events has no column or function upper"),
        ({"*": {"a": "insert_id"}}, "stream_maps: *.a: `insert_id`: profiles has no column or function insert_id"),
        ({"events": {"a": "self"}}, "stream_maps: events.a: `self`: events has no column or function self"),
        ({"events": {"a": "fake.name()"}}, "stream_maps: events.a: `fake.name()`: fake requires the package faker"),
        ({"events": {"__key_properties__": ["nope"]}}, "stream_maps: events: Invalid key properties"),
        ({"events": {"insert_id": None}}, "stream_maps: events: Removing key property 'insert_id'"),
        ({"events": "x"}, "setting stream_maps.events: its value is invalid"),
        ({"events": {"a": {"b": "c"}}}, "setting stream_maps.events: its value is invalid"),
        ({"__else__": {"a": "'x'"}}, "stream_maps: __else__ must be null"),
        ({"events": {"__else__": "x"}}, "stream_maps: __else__ must be null"),
        ({"events": {"a": "'x'", "b": "a"}}, "stream_maps: events.b: `a`: events has no column or function a"),
        ({"events": {"__alias__": "profiles"}}, "stream_maps: profiles: the alias profiles belongs to a stream with"),
        ({"__alias__": None}, "stream_maps: __alias__: the only option besides stream names is __else__"),
    ],
)
def test_an_invalid_stream_map_is_rejected(maps: dict[str, Any], says: str) -> None:
    """One error names setting, stream and expression, before any request."""
    run = run_tap(OFFLINE | {"stream_maps": maps})
    assert run.exit_code == 1
    assert run.stdout == b""
    [error] = run.errors
    assert says in error


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"a": "properties['$no_such']"}, "a: `properties['$no_such']` failed on a record: there is no key '$no_such'"),
        ({"__filter__": "1 / 0"}, "__filter__: `1 / 0` failed on a record: ZeroDivisionError"),
        ({"a": "int(distinct_id)"}, "a: `int(distinct_id)` failed on a record: ValueError"),
        ({"a": "properties.get('$no_such').upper()"}, "failed on a record: AttributeDoesNotExist"),
    ],
)
@pytest.mark.parametrize("option", [None, "--test"])
def test_a_map_that_fails_on_a_record_is_reported(rules: dict[str, Any], says: str, option: str | None) -> None:
    """The error has stream, setting and expression, but no value; other streams are read."""
    with Emulator(MIXPANEL) as emulator:
        settings = emulator.settings | DAYS | {"stream_maps": {"events": rules}}
        run = run_tap(settings, *([option] if option else []))
    assert run.exit_code == 1
    assert run.records("events") == []
    error, *more = run.errors
    assert error.startswith("events: stream_maps: ")
    assert says in error
    assert not any("Traceback" in line for line in run.stderr)
    assert more == []
    if option is None:
        assert run.records("profiles")


def test_expressions_may_use_all_names_of_the_sdk() -> None:
    """Functions, comprehension variables, options and other names of the SDK are accepted."""
    rules = {
        "a": "[key for key in properties.keys() if key]",
        "b": "str(config.get('salt')) + md5(record['insert_id']) + _['insert_id'] + __stream_name__",
        "c": "datetime.datetime.now().isoformat() if bool(event_name) else None",
        "event_name": "self + json.dumps(properties)[0]",
        "d": "event if 'event' in record else event_name",
        "e": "event_name or event",
        "__filter__": "event_name != 'nothing'",
    }
    settings = DAYS | {"stream_maps": {"events": rules}, "stream_map_config": {"salt": "x"}}
    with Emulator(MIXPANEL) as emulator:
        run = run_tap(emulator.settings | settings, catalog=catalog_of("events")).well()
    assert all(record["event_name"].endswith("{") and record["a"] for record in run.records())
    assert all(record["d"] == record["e"] != "" for record in run.records())
