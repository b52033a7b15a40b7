"""Generated parts of files match the tap."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from scripts import draw_streams, generate_docs
from scripts.generate_docs import ROOT, UPDATE_HINT

if TYPE_CHECKING:
    from scripts.generate_docs import About

VARIABLE = re.compile(r"^(#?)TAP_MIXPANEL_STREAM_(\w+)=(.*)$", re.MULTILINE)


@pytest.mark.parametrize("name", ["README.md", "meltano.yml", "plugin.yml", "docs/settings.md", "mkdocs.yml"])
def test_generated_parts_are_up_to_date(name: str, about: About) -> None:
    """Settings, capabilities and page lists in the files are those of the tap."""
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text == generate_docs.update_text(text, generate_docs.files(about)[name]), (
        f"{name} is out of step: {UPDATE_HINT}"
    )


def test_every_setting_of_the_command_is_described(about: About) -> None:
    """Every setting has a title and a description, including those of the SDK."""
    settings = about["settings"]["properties"].items()
    assert [name for name, spec in settings if not spec.get("title") or not spec.get("description")] == []


def test_secrets_example_has_all_secrets(about: About) -> None:
    """.secrets.example has all secrets, with empty values, and only settings."""
    settings = about["settings"]["properties"]
    text = (ROOT / ".secrets.example").read_text(encoding="utf-8")
    found = {name.lower(): value for _, name, value in VARIABLE.findall(text)}
    assert set(found) <= set(settings)
    secrets = {name for name, spec in settings.items() if spec.get("secret")}
    assert secrets | {"project_id", "region", "start_date", "raw"} <= set(found)
    assert {found[name] for name in secrets} == {'""'}


def test_secrets_example_shows_defaults(about: About) -> None:
    """.secrets.example shows the defaults of settings."""
    text = (ROOT / ".secrets.example").read_text(encoding="utf-8")
    settings = about["settings"]["properties"]
    for _, name, value in VARIABLE.findall(text):
        if "default" in (spec := settings[name.lower()]):
            assert value.strip("\"'") == generate_docs.plain(spec["default"]), name


def test_secrets_example_enables_one_credential_type(about: About) -> None:
    """Only the service account is enabled in .secrets.example."""
    text = (ROOT / ".secrets.example").read_text(encoding="utf-8")
    in_use = {name.lower() for comment, name, _ in VARIABLE.findall(text) if not comment}
    secrets = {name for name, spec in about["settings"]["properties"].items() if spec.get("secret")}
    assert in_use & secrets == {"service_account_username", "service_account_secret"}


def test_the_drawing_of_the_streams_is_up_to_date() -> None:
    """docs/streams.svg has the columns, types and keys of the catalog."""
    drawn = draw_streams.drawing(draw_streams.catalog())
    assert draw_streams.PICTURE.read_text(encoding="utf-8") == drawn, UPDATE_HINT
