"""Settings mean the same in a file and in environment variables."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject, SyntheticProject
from tests.harness import run_tap

if TYPE_CHECKING:
    from pathlib import Path

DAY = "2024-01-02"
MIXPANEL = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 31), events_per_day=20, profiles=5)


def variables(settings: dict[str, Any]) -> dict[str, str]:
    """Return settings as environment variables."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
    return {f"TAP_MIXPANEL_STREAM_{name.upper()}": text for name, text in texts.items()}


@pytest.mark.parametrize("from_environment", [False, True])
def test_ids_may_be_numbers(from_environment: bool, only_profiles: dict[str, Any]) -> None:
    """project_id and workspace_id may be numbers, also in the environment."""
    ids = {"project_id": 2526451, "workspace_id": 77}
    project = FixedProject(profiles=[{"$distinct_id": "a", "$properties": {}}])
    with Emulator(project) as emulator:
        settings = emulator.settings | ids
        if from_environment:
            run_tap({}, "--config=ENV", catalog=only_profiles, environment=variables(settings)).well()
        else:
            run_tap(settings, catalog=only_profiles).well()
        [seen] = emulator.requests
    assert {name: seen.query[name] for name in ids} == {"project_id": "2526451", "workspace_id": "77"}


def test_objects_flattened_by_meltano_are_accepted(only_events: dict[str, Any], tmp_path: Path) -> None:
    """Meltano passes an object of meltano.yml with paths as keys."""
    objects = {
        "batch_config": {
            "encoding.format": "jsonl",
            "encoding.compression": "none",
            "storage.root": tmp_path.as_uri(),
        },
        "stream_maps": {"events.copy": "insert_id", "events.distinct_id": None},
    }
    with Emulator(MIXPANEL) as emulator:
        settings = emulator.settings | {"start_date": DAY, "end_date": DAY} | objects
        run_tap({}, "--config=ENV", catalog=only_events, environment=variables(settings)).well()
    [file] = tmp_path.iterdir()
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert records
    assert all(record["copy"] == record["insert_id"] and "distinct_id" not in record for record in records)
