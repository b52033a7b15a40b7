"""Settings from variables."""

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
def test_a_variable_is_suggested_only_if_it_is_near(name: str, says: str) -> None:
    """The prefix, which all variables share, makes no two of them alike."""
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
def test_a_stream_is_suggested_only_if_it_is_near(name: str, says: str) -> None:
    """A group that is gone is no misspelt stream; tap-mixpanel's names are understood."""
    assert suggested_stream(name, ["events", "profiles", "cohorts"]) == says
