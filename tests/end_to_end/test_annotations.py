"""Annotations, read from the emulator by the installed command."""

from __future__ import annotations

import datetime as dt
from functools import cache
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject
from tests.harness import Run, catalog_of, run_tap

ANNOTATIONS: list[dict[str, Any]] = [
    {
        "id": 1,
        "date": "2023-01-15T12:00:00+01:00",
        "description": "Größe 🚀",
        "user": {"id": 3, "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
        "tags": [{"id": 1, "name": "release"}],
    },
    {"id": 2, "date": "2031-01-15 12:00:00", "description": "later", "user": None, "tags": [], "pinned": True},
]


@cache
def catalog(*, raw: bool) -> dict[str, Any]:
    return catalog_of("annotations", raw=raw)


@pytest.mark.parametrize("raw", [False, True])
def test_all_annotations_are_read(raw: bool) -> None:
    """All annotations are read, whatever their date, with the same columns when raw."""
    with Emulator(FixedProject(annotations=ANNOTATIONS)) as emulator:
        settings = emulator.settings | {"raw": raw, "start_date": "2024-01-01"}
        run = run_tap(settings, catalog=catalog(raw=raw)).well()
    assert run.records("annotations") == [
        {
            "id": 1,
            "date": "2023-01-15T12:00:00+01:00",
            "description": "Größe 🚀",
            "user_id": 3,
            "user_first_name": "Ada",
            "user_last_name": "Lovelace",
            "tags": [{"id": 1, "name": "release"}],
            "project_id": 2526451,
            "other": {"user_email": "ada@example.com"},
        },
        {
            "id": 2,
            "date": "2031-01-15 12:00:00",
            "description": "later",
            "user_id": None,
            "user_first_name": None,
            "user_last_name": None,
            "tags": [],
            "project_id": 2526451,
            "other": {"pinned": True},
        },
    ]


def test_a_limited_history_is_read_from_start_date() -> None:
    """With a limited history, annotations from `start_date` on are read, with a warning."""
    faults = [Fault("annotations", 1, "status:403-history")]
    with Emulator(FixedProject(annotations=ANNOTATIONS), faults=faults) as emulator:
        run = run_tap(emulator.settings | {"start_date": "2024-01-01"}, catalog=catalog(raw=False)).well()
    assert [record["id"] for record in run.records("annotations")] == [2]
    [problem] = run.problems
    assert problem.endswith("the plan's history is limited: annotations before start_date (2024-01-01) are not read")


@pytest.mark.parametrize("start_date", [{}, {"start_date": "2024-01-01"}])
def test_a_limited_history_needs_a_start_date(start_date: dict[str, str]) -> None:
    """Without a `start_date` that the plan allows, the stream fails and names the first allowed day."""
    faults = [Fault("annotations", None, "status:403-history")]
    with Emulator(FixedProject(annotations=ANNOTATIONS), faults=faults) as emulator:
        run = run_tap(emulator.settings | start_date, catalog=catalog(raw=False))
    assert run.exit_code == 1
    assert len(run.errors) == 1
    words = "annotations: HTTP 403, the request begins before the plan's history: set start_date to "
    assert run.errors[0].startswith(words)
    first_day = dt.date.fromisoformat(run.errors[0].removeprefix(words)[:10])
    # The day may have changed since the run.
    assert (dt.datetime.now(dt.UTC).date() - first_day).days in {90, 91}


def with_credentials(emulator: Emulator, **credentials: str) -> Run:
    urls = {name: value for name, value in emulator.settings.items() if name.endswith("_url")}
    return run_tap(urls | {"project_id": "2526451"} | credentials, catalog=catalog(raw=False))


def test_an_oauth_token_reads_annotations() -> None:
    """The app API accepts OAuth tokens."""
    with Emulator(FixedProject(annotations=ANNOTATIONS)) as emulator:
        run = with_credentials(emulator, oauth_token=emulator.credentials.oauth_token).well()
    assert len(run.records("annotations")) == 2


def test_a_project_secret_is_rejected_for_annotations() -> None:
    """The app API does not accept project secrets, so nothing is requested."""
    with Emulator(FixedProject(annotations=ANNOTATIONS)) as emulator:
        run = with_credentials(emulator, api_secret="emulated-project-secret")
        assert emulator.requests == []
    assert run.exit_code == 1
    assert len(run.errors) == 1
    for name in ("annotations", "service_account_username", "service_account_secret", "project_id", "oauth_token"):
        assert name in run.errors[0]
