"""Settings from environment variables."""

from __future__ import annotations

import pytest

from tap_mixpanel_stream.settings import SettingsError
from tap_mixpanel_stream.settings.environment import PREFIX, read_environment
from tap_mixpanel_stream.settings.errors import suggested_stream
from tap_mixpanel_stream.settings.schema import json_schema


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("LOOKBAK_DAYS", f"did you mean {PREFIX}LOOKBACK_DAYS?"),
        ("ZZZQQQ", "`tap-mixpanel-stream --about` lists the settings"),
    ],
)
def test_a_similar_variable_is_suggested(name: str, says: str) -> None:
    """The prefix that all variables share does not count as similarity."""
    with pytest.raises(SettingsError, match=f"unknown variable {PREFIX}{name}: ") as caught:
        read_environment({PREFIX + name: "1"}, json_schema())
    assert str(caught.value).endswith(says)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("event", "did you mean events?"),
        ("export", "did you mean events?"),
        ("exports", "did you mean events?"),
        ("engage", "did you mean profiles?"),
        ("companies", "the streams are events, profiles, cohorts"),
    ],
)
def test_a_similar_stream_is_suggested(name: str, says: str) -> None:
    """Names of tap-mixpanel's streams are recognized; a removed group is not taken for a misspelt stream."""
    assert suggested_stream(name, ["events", "profiles", "cohorts"]) == says
