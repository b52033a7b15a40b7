"""Lexicon schemas, read from the emulator by the installed command."""

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


def test_lexicon_columns() -> None:
    """A schema has a column for each documented field, and `other` for the rest."""
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
def test_the_lexicon_rejects_other_credentials(setting: str) -> None:
    """The Lexicon accepts only service accounts, so nothing is requested with others."""
    with Emulator(FixedProject(schemas=SCHEMAS)) as emulator:
        run = with_credentials(emulator, **{setting: "emulated"})
        assert emulator.requests == []
    assert run.exit_code == 1
    [error] = run.errors
    assert error.startswith("lexicon_schemas: ")
    for name in ("service_account_username", "service_account_secret", "project_id", setting):
        assert name in error


def test_the_lexicon_rate_limit_is_waited_for() -> None:
    """The sixth run within a minute waits after a 429 and reads all schemas."""
    clock = FakeClock()
    quota = Quota(clock=clock.monotonic)
    with Emulator(SyntheticProject(), quota=quota, now=clock.now) as emulator:
        results = [run_here(emulator.settings, clock, catalog=catalog()) for _ in range(6)]
        statuses = [seen.status for seen in emulator.requests]
    assert [len(result.records("lexicon_schemas")) for result in results] == [9] * 6
    assert statuses == [200] * 5 + [429, 200]
    assert results[-1].waited == pytest.approx(60)


@pytest.mark.parametrize("name", ["cut-json", "empty-body", "empty-object", "gzip-trailer", "status:500", "chunk-cut"])
def test_a_malformed_lexicon_response_is_retried(name: str) -> None:
    """A malformed response is retried, then fails; no part of the schemas is delivered."""
    for number in (1, None):
        with Emulator(FixedProject(schemas=SCHEMAS), faults=[Fault("schemas", number, name)]) as emulator:
            result = run_here(emulator.settings | {"max_retries": 1}, FakeClock(), catalog=catalog())
        assert len(result.records("lexicon_schemas")) == (2 if number else 0)
        assert (result.error or "lexicon_schemas").startswith("lexicon_schemas")
        assert (result.error is None) == bool(number)
