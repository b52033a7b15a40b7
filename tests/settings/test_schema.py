"""The JSON schema of the settings is generated from the typed class."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tap_mixpanel_stream.settings.errors import expected
from tap_mixpanel_stream.settings.schema import Configuration, json_schema

PROPERTIES: dict[str, dict[str, Any]] = json_schema()["properties"]


def test_each_setting_has_a_title_and_a_description() -> None:
    """The settings tables and plugin definitions are generated from them."""
    assert all(spec["title"] and spec["description"] for spec in PROPERTIES.values())


def test_unknown_settings_are_not_allowed() -> None:
    """A misspelt setting must not pass for an absent one."""
    assert json_schema()["additionalProperties"] is False


def test_every_setting_may_be_null_and_absent() -> None:
    """The SDK fills in the defaults; Meltano sets null."""
    assert all("null" in spec["type"] for spec in PROPERTIES.values())
    assert "required" not in json_schema()


def test_only_credentials_are_secret() -> None:
    """Secret settings are marked for Meltano and for the SDK."""
    secrets = {name for name, spec in PROPERTIES.items() if spec.get("secret") and spec.get("writeOnly")}
    assert secrets == {"service_account_username", "service_account_secret", "oauth_token", "api_secret"}


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("region", {"type": ["string", "null"], "enum": ["us", "eu", "in"], "default": "us"}),
        ("lookback_days", {"type": ["integer", "null"], "minimum": 0, "default": 5}),
        ("worker_processes", {"type": ["integer", "null"], "minimum": 1, "maximum": 64}),
        ("raw", {"type": ["boolean", "null"], "default": False}),
        ("start_date", {"type": ["string", "null"], "examples": ["2024-01-15"]}),
        ("project_timezone", {"type": ["string", "null"], "examples": ["Europe/Berlin"]}),
        ("bad_lines_path", {"type": ["string", "null"]}),
        ("behaviors", {"type": ["array", "null"], "items": {"type": "object"}}),
        (
            "event_names",
            {"type": ["array", "null"], "items": {"type": "string"}, "examples": [["Signed up", "Purchase"]]},
        ),
        (
            "group_profiles",
            {
                "type": ["array", "null"],
                "items": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "data_group_id": {"type": "string"}},
                    "required": ["name", "data_group_id"],
                    "additionalProperties": False,
                },
                "examples": [[{"name": "companies", "data_group_id": "-1234567890123456789"}]],
            },
        ),
    ],
)
def test_the_schema_follows_the_typed_class(name: str, spec: dict[str, Any]) -> None:
    """Types, limits, allowed values and defaults are defined once, in the typed class."""
    found = {key: value for key, value in PROPERTIES[name].items() if key not in {"title", "description"}}
    assert found == spec


def test_defaults_match_the_schema() -> None:
    """The defaults in the schema are the defaults of the typed settings."""
    settings = msgspec.structs.asdict(Configuration())
    defaults = {name: spec["default"] for name, spec in PROPERTIES.items() if "default" in spec}
    assert {name: settings[name] for name in defaults} == defaults
    assert all(not value for name, value in settings.items() if name not in defaults)


def test_each_setting_has_an_expected_value_text() -> None:
    """The text for an invalid value is made from the schema."""
    assert all(expected(spec) for spec in PROPERTIES.values())
    assert expected(PROPERTIES["bad_lines"]) == "one of fail, skip"
