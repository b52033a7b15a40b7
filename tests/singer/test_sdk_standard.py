"""The SDK's standard tests for taps, against the emulator, and stricter versions of two of them that cannot fail."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from singer_sdk.testing import SuiteConfig, get_tap_test_class

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tap_mixpanel_stream.tap import TapMixpanelStream
from tests.harness import run_tap

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = SyntheticProject(seed=3, first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 2), profiles=20)
# The SDK makes taps while it collects the tests, before any emulator listens: the port is filled in later.
CONFIGS: dict[bool, dict[str, Any]] = {
    raw: {
        "raw": raw,
        "project_id": "1",
        "service_account_username": "user",
        "service_account_secret": "secret",
        "start_date": "2024-01-01",
        "end_date": "2024-01-02",
        "insights_reports": [{"name": "By day", "bookmark_id": 4001}],
    }
    for raw in (False, True)
}


def everything(*, raw: bool) -> dict[str, Any]:
    """Return a catalog with all streams selected, including those not selected by default."""
    tap = TapMixpanelStream(config=CONFIGS[raw], parse_env_config=False, validate_config=False)
    for stream in tap.streams.values():
        stream.selected = True
    return tap.catalog_dict


Normalized = get_tap_test_class(
    TapMixpanelStream,
    config=CONFIGS[False],
    suite_config=SuiteConfig(),
    parse_env_config=False,
    catalog=everything(raw=False),
)
Raw = get_tap_test_class(
    TapMixpanelStream,
    config=CONFIGS[True],
    suite_config=SuiteConfig(),
    parse_env_config=False,
    catalog=everything(raw=True),
    # They expect a raw `$distinct_id`, which is a string or an integer, to be an integer.
    include_stream_attribute_tests=False,
)


class WithEmulator:
    raw: ClassVar[bool]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def emulator(cls) -> Iterator[None]:
        # Within the 31 days for which Mixpanel lists event names.
        with Emulator(PROJECT, now=lambda: dt.datetime(2024, 1, 3, tzinfo=dt.UTC)) as emulator:
            CONFIGS[cls.raw].update(emulator.settings)
            yield


class TestNormalized(WithEmulator, Normalized):  # type: ignore[misc, valid-type]
    raw = False


class TestRaw(WithEmulator, Raw):  # type: ignore[misc, valid-type]
    raw = True


@pytest.mark.parametrize("raw", [False, True])
def test_keys_of_profiles_are_unique(raw: bool) -> None:
    """Each profile is delivered once, with the key that the schema declares."""
    with Emulator(PROJECT) as emulator:
        run = run_tap(CONFIGS[raw] | emulator.settings).well()
    keys = run.schemas()["profiles"]["key_properties"]
    assert keys == ["$distinct_id" if raw else "distinct_id"]
    seen = Counter(tuple(record[key] for key in keys) for record in run.records("profiles"))
    assert len(seen) == 20
    assert set(seen.values()) == {1}


@pytest.mark.parametrize("raw", [False, True])
def test_the_final_state_is_the_end_of_the_last_window(raw: bool) -> None:
    """The last message is a state with the end of the last window and the row counts."""
    with Emulator(PROJECT) as emulator:
        run = run_tap(CONFIGS[raw] | emulator.settings).well()
    final = run.messages[-1]
    rows = final["value"]["bookmarks"]["events"].pop("rows")
    assert list(rows) == ["2024-01-01", "2024-01-02"]
    assert sum(rows.values()) == len(run.records())
    assert final == {
        "type": "STATE",
        "value": {
            "bookmarks": {
                "events": {"replication_key": "event_time", "replication_key_value": "2024-01-03T00:00:00+00:00"},
                "profiles": {},
            }
        },
    }
