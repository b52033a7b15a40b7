"""Requests that the emulator rejects because of the plan."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from tap_mixpanel_stream.emulator import PLANS, Emulator, FixedProject, Plan
from tests.emulator.client import ask, engage, export

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)


def test_the_free_plan_has_no_query_api() -> None:
    """With the free plan the query API returns 402; export and app API work."""
    with Emulator(FixedProject(), plan=PLANS["free"]) as emulator:
        answer = engage(emulator)
        assert (answer.status, answer.error[:36]) == (402, "Your plan does not allow API calls. ")
        assert ask(emulator, f"{emulator.api_url}/query/funnels/list").status == 402
        assert export(emulator, date(2024, 1, 1)).status == 200
        assert ask(emulator, f"{emulator.api_url}/app/projects/2526451/annotations").status == 200


@pytest.mark.parametrize(("first", "status"), [("2023-12-02", 200), ("2023-12-01", 403), ("2020-01-01", 403)])
def test_days_before_the_plans_history_are_rejected(first: str, status: int) -> None:
    """90 days into the past are allowed, 91 are not; annotations without `fromDate` request all days."""
    project = FixedProject(funnels=[{"funnel_id": 1, "name": "One", "days": {}}])
    with Emulator(project, plan=Plan(history_days=90), now=lambda: NOW) as emulator:
        days = {"from_date": first, "to_date": "2024-02-01"}
        answers = [
            export(emulator, first, "2024-02-01"),
            ask(emulator, f"{emulator.api_url}/query/funnels", {"funnel_id": 1, **days}),
            ask(emulator, f"{emulator.api_url}/app/projects/2526451/annotations", {"fromDate": first}),
        ]
        undated = ask(emulator, f"{emulator.api_url}/app/projects/2526451/annotations")
        listed = ask(emulator, f"{emulator.api_url}/query/funnels/list")
    assert [answer.status for answer in answers] == [status] * 3
    assert {answer.error for answer in [*answers, undated] if answer.status == 403} == {
        "Date range exceeds 90 days into the past"
    }
    assert (undated.status, listed.status) == (403, 200)
