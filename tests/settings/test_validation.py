"""Settings are checked before the first request, and all problems are reported at once."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from tap_mixpanel_stream.settings import Settings, SettingsError
from tap_mixpanel_stream.settings.schema import json_schema
from tap_mixpanel_stream.settings.validation import find_schema_errors, normalize

GOOD = {"project_id": "1", "service_account_username": "user", "service_account_secret": "s3cr3t"}


def read(**given: Any) -> Settings:
    config: dict[str, Any] = GOOD | given
    normalize(config)
    return Settings.read(config, find_schema_errors(config, json_schema()))


def problems(**given: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(**given)
    return str(caught.value).split("; ")


def test_values_are_typed() -> None:
    """Dates, time zones, paths and groups are converted from text."""
    groups = [{"name": "companies", "data_group_id": "7"}]
    settings = read(
        start_date="2024-01-15T23:30:00Z", project_timezone="Europe/Berlin", group_profiles=groups, window_days=3.0
    )
    assert settings.start_date == dt.date(2024, 1, 16)
    assert settings.zone.key == "Europe/Berlin"
    assert [(group.name, group.data_group_id) for group in settings.group_profiles] == [("companies", "7")]
    assert type(settings.window_days) is int


@pytest.mark.parametrize(
    "name",
    ["region", "backfill", "incremental_by", "bad_lines", "start_date", "window_days", "raw", "event_names", "api_url"],
)
def test_an_empty_setting_counts_as_absent(name: str) -> None:
    """Meltano and shells pass a setting that was left empty as an empty string."""
    assert getattr(read(**{name: ""}), name) == getattr(read(), name)


def test_all_problems_are_reported_together() -> None:
    """A value of the wrong type does not hide other problems."""
    found = problems(window_days="three", lookback_day=3, end_date="soon", bad_lines="skip")
    assert [line.split(":")[0] for line in found[:2]] == ["setting window_days", "unknown setting lookback_day"]
    assert "end_date 'soon'" in found[2]
    assert "bad_lines_path" in found[3]


def test_an_invalid_value_is_reported_once() -> None:
    """Checks that need the invalid value are skipped."""
    [problem] = problems(project_id=True)
    assert problem.startswith("setting project_id")
    [problem] = problems(include_all_users=True, cohort_id="x")
    assert problem.startswith("setting cohort_id")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lookback_day", "did you mean lookback_days?"),
        ("ZZZQQQ", "`tap-mixpanel-stream --about` lists the settings"),
    ],
)
def test_a_similar_setting_is_suggested(name: str, says: str) -> None:
    """A setting is suggested only if its name is similar."""
    assert problems(**{name: 1}) == [f"unknown setting {name}: {says}"]


def test_the_repr_of_settings_has_no_secret() -> None:
    """The settings can appear in a traceback."""
    assert "s3cr3t" not in repr(read())


@pytest.mark.parametrize("name", ["lookback_days", "cohort_id"])
def test_a_huge_integer_is_rejected(name: str) -> None:
    """1e300 is an integer in JSON, but not a valid value of a setting."""
    [problem] = problems(**{name: 1e300})
    assert problem.startswith(f"{name}: ")
