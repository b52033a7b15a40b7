"""The Lexicon's schemas, from the emulator through the installed command."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject, Quota, SyntheticProject
from tests.harness import Run, catalog_of, run_tap
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import run_here

METADATA = {"com.mixpanel": {"tags": ["core"], "hidden": True, "dropped": False, "contacts": ["ada@example.com"]}}
SCHEMAS: list[dict[str, Any]] = [
    {
        "entityType": "event",
        "name": "Größe gewählt",
        "schemaJson": {
            "description": "Somebody chose a size.",
            "properties": {"size": {"type": "number", "description": "In cm.", "metadata": {"com.mixpanel": {}}}},
            "metadata": METADATA,
            "name": "not the name",
        },
        "version": 3,
    },
    {"entityType": "profile", "name": "$user", "schemaJson": {"description": 7}},
]


@cache
def catalog() -> dict[str, Any]:
    return catalog_of("lexicon_schemas")


def test_a_schema_has_a_column_for_each_documented_field() -> None:
    """All that the Lexicon says comes, and what has no column is kept in `other`."""
    with Emulator(FixedProject(schemas=SCHEMAS)) as emulator:
        run = run_tap(emulator.settings, catalog=catalog()).well()
        assert [seen.path for seen in emulator.requests] == ["/api/app/projects/2526451/schemas"]
    event = SCHEMAS[0]["schemaJson"]
    assert run.records("lexicon_schemas") == [
        {
            "entity_type": "event",
            "name": "Größe gewählt",
            "description": event["description"],
            "properties": event["properties"],
            "metadata": METADATA,
            "other": {"version": 3, "schemaJson_name": "not the name"},
        },
        {
            "entity_type": "profile",
            "name": "$user",
            "description": None,
            "properties": None,
            "metadata": None,
            "other": {"description": 7},
        },
    ]


def with_credentials(emulator: Emulator, **credentials: str) -> Run:
    urls = {name: value for name, value in emulator.settings.items() if name.endswith("_url")}
    return run_tap(urls | {"project_id": "2526451"} | credentials, catalog=catalog())


@pytest.mark.parametrize("setting", ["api_secret", "oauth_token"])
def test_other_credentials_are_refused_by_name(setting: str) -> None:
    """The Lexicon takes service accounts only, so nothing is asked with others."""
    with Emulator(FixedProject(schemas=SCHEMAS)) as emulator:
        run = with_credentials(emulator, **{setting: "emulated"})
        assert emulator.requests == []
    assert run.exit_code == 1
    [error] = run.errors
    assert error.startswith("lexicon_schemas: ")
    for name in ("service_account_username", "service_account_secret", "project_id", setting):
        assert name in error


def test_the_limit_of_a_minute_is_waited_out() -> None:
    """Six runs within a minute, of which Mixpanel refuses the last one at first, all bring the schemas."""
    clock = FakeClock()
    quota = Quota(clock=clock.monotonic)
    with Emulator(SyntheticProject(), quota=quota, now=clock.now) as emulator:
        results = [run_here(emulator.settings, clock, catalog=catalog()) for _ in range(6)]
        statuses = [seen.status for seen in emulator.requests]
    assert [len(result.records("lexicon_schemas")) for result in results] == [9] * 6
    assert statuses == [200] * 5 + [429, 200]
    assert results[-1].waited == pytest.approx(60)


@pytest.mark.parametrize("name", ["cut-json", "empty-body", "empty-object", "gzip-trailer", "status:500", "chunk-cut"])
def test_a_broken_answer_costs_a_try_or_fails(name: str) -> None:
    """No part of the dictionary is taken for all of it."""
    for number in (1, None):
        with Emulator(FixedProject(schemas=SCHEMAS), faults=[Fault("schemas", number, name)]) as emulator:
            result = run_here(emulator.settings | {"max_retries": 1}, FakeClock(), catalog=catalog())
        assert len(result.records("lexicon_schemas")) == (2 if number else 0)
        assert (result.error or "lexicon_schemas").startswith("lexicon_schemas")
        assert (result.error is None) == bool(number)
