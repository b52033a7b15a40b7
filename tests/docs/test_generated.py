"""What stands in the files is what the tap says of itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from scripts import draw_streams, generate_docs
from scripts.generate_docs import RENEW, ROOT

if TYPE_CHECKING:
    from scripts.generate_docs import About

VARIABLE = re.compile(r"^(#?)TAP_MIXPANEL_STREAM_(\w+)=(.*)$", re.MULTILINE)


@pytest.mark.parametrize("name", ["README.md", "meltano.yml", "plugin.yml", "docs/settings.md", "mkdocs.yml"])
def test_settings_capabilities_and_pages_are_those_that_there_are(name: str, about: About) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text == generate_docs.renewed(text, generate_docs.files(about)[name]), f"{name} is out of step: {RENEW}"


def test_every_setting_has_a_title_and_a_description(about: About) -> None:
    settings = about["settings"]["properties"].items()
    assert [name for name, spec in settings if not spec.get("title") or not spec.get("description")] == []


def test_the_example_of_secrets_knows_all_secrets_and_only_settings(about: About) -> None:
    settings = about["settings"]["properties"]
    text = (ROOT / ".secrets.example").read_text(encoding="utf-8")
    found = {name.lower(): value for _, name, value in VARIABLE.findall(text)}
    assert set(found) <= set(settings)
    secrets = {name for name, spec in settings.items() if spec.get("secret")}
    assert secrets | {"project_id", "region", "start_date", "raw"} <= set(found)
    assert {found[name] for name in secrets} == {'""'}


def test_the_example_of_secrets_shows_defaults(about: About) -> None:
    text = (ROOT / ".secrets.example").read_text(encoding="utf-8")
    settings = about["settings"]["properties"]
    for _, name, value in VARIABLE.findall(text):
        if "default" in (spec := settings[name.lower()]):
            assert value.strip("\"'") == generate_docs.plain(spec["default"]), name


def test_the_example_of_secrets_uses_one_way_in(about: About) -> None:
    text = (ROOT / ".secrets.example").read_text(encoding="utf-8")
    in_use = {name.lower() for comment, name, _ in VARIABLE.findall(text) if not comment}
    secrets = {name for name, spec in about["settings"]["properties"].items() if spec.get("secret")}
    assert in_use & secrets == {"service_account_username", "service_account_secret"}


def test_the_picture_of_the_streams_is_that_of_the_catalog() -> None:
    """docs/streams.svg has the columns, types and keys that discovery tells."""
    drawn = draw_streams.drawing(draw_streams.catalog())
    assert draw_streams.PICTURE.read_text(encoding="utf-8") == drawn, RENEW
