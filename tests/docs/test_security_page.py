"""The limits of stream map expressions are those that the page on security names."""

from __future__ import annotations

import datetime as dt

import pytest
import simpleeval

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.docs.pages import text_of
from tests.harness import run_tap

PAGE = text_of("docs/security.md")


def test_the_limits_of_expressions_are_those_of_the_page() -> None:
    """They are simpleeval's own, and can change with its versions."""
    assert f"strings of at most {simpleeval.MAX_STRING_LENGTH:,} characters" in PAGE
    assert f"powers up to {simpleeval.MAX_POWER:,}" in PAGE
    assert "_" in simpleeval.DISALLOW_PREFIXES


@pytest.mark.parametrize("expression", ["event_name.__class__", "__import__('os')", "open('/etc/passwd')", "9**9**9"])
def test_an_expression_cannot_leave_its_record(expression: str) -> None:
    """No attribute that begins with an underscore, no import, no file, no endless power."""
    day = dt.date(2024, 1, 1)
    with Emulator(SyntheticProject(first_day=day, last_day=day, events_per_day=2, profiles=0)) as emulator:
        maps = {"stream_maps": {"events": {"leaked": expression}}}
        run = run_tap(emulator.settings | {"start_date": str(day), "end_date": str(day)} | maps)
    assert run.exit_code == 1
    assert run.records() == []
