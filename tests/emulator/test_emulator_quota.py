from __future__ import annotations

import threading
import time
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

import pytest

from tap_mixpanel_stream.emulator import PLANS, Emulator, Fault, FixedProject, Quota, SyntheticProject
from tests.emulator.client import Answered, ask, engage, export

DAY = date(2024, 3, 1)


def test_the_request_past_the_hours_last_is_refused_in_mixpanels_words() -> None:
    with Emulator(FixedProject(), quota=Quota(hourly=4, per_second=100)) as emulator:
        answers = [export(emulator, DAY) for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 429]
    assert answers[-1].error.startswith(
        "Query rate limit exceeded for project_id: 2526451. This request exceeded the rate limit "
        "(5/4 queries running in the last hour)."
    )
    assert "retry-after" not in answers[-1].headers


def test_the_hour_rolls_and_refusals_are_not_counted() -> None:
    with Emulator(FixedProject(), quota=Quota(hourly=1, per_second=100, period=0.3)) as emulator:
        statuses = [export(emulator, DAY).status for _ in range(3)]
        time.sleep(0.35)
        statuses.append(export(emulator, DAY).status)
    assert statuses == [200, 429, 429, 200]


def test_the_hour_goes_by_the_clock_it_is_given() -> None:
    clock = [0.0]
    with Emulator(FixedProject(), quota=Quota(hourly=1, clock=lambda: clock[0])) as emulator:
        statuses = []
        for clock[0] in (0, 3599, 3600):
            statuses.append(export(emulator, DAY).status)
    assert statuses == [200, 429, 200]


def test_the_fourth_in_a_second_is_refused() -> None:
    with Emulator(FixedProject(), quota=Quota()) as emulator:
        statuses = [export(emulator, DAY).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_says_when_to_come_back(form: Literal["seconds", "date"]) -> None:
    with Emulator(FixedProject(), quota=Quota(hourly=1, retry_after=form)) as emulator:
        export(emulator, DAY)
        header = export(emulator, DAY).headers["retry-after"]
    seconds = int(header) if form == "seconds" else (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
    assert 3590 < seconds < 3602


def test_too_many_at_once_are_refused_until_one_is_done() -> None:
    project = SyntheticProject(events_per_day=20)
    faults = [Fault("export", 1, "stall", value=0.5)]
    answers: list[Answered] = []
    with Emulator(project, quota=Quota(concurrent=1, per_second=100), faults=faults) as emulator:
        slow = threading.Thread(target=lambda: answers.append(export(emulator, DAY)))
        slow.start()
        while not (emulator.requests and emulator.requests[0].status):
            time.sleep(0.01)
        refused = export(emulator, DAY)
        slow.join()
        # Its place is free just after its last byte, which is when the client has it.
        deadline = time.monotonic() + 5
        while export(emulator, DAY).status == 429:
            assert time.monotonic() < deadline
    assert (refused.status, refused.error) == (429, "too many export requests in progress for this project")
    assert answers[0].status == 200


def test_exports_and_queries_have_accounts_of_their_own() -> None:
    with Emulator(FixedProject(), quota=Quota(hourly=1)) as emulator:
        export(emulator, DAY)
        assert engage(emulator).status == 200
        assert ask(emulator, f"{emulator.api_url}/query/cohorts/list", form={}).status == 429
        assert ask(emulator, f"{emulator.api_url}/app/projects/2526451/annotations").status == 200


@pytest.mark.parametrize(("counted", "status"), [(False, 200), (True, 429)])
def test_the_pages_of_a_session_count_only_if_told(counted: bool, status: int) -> None:
    with Emulator(FixedProject(), quota=Quota(hourly=1, count_pages=counted)) as emulator:
        session = engage(emulator).json["session_id"]
        assert engage(emulator, page=1, session_id=session).status == status


def test_too_many_queries_at_once_are_told_apart() -> None:
    """The query API names its limit of concurrency."""
    faults = [Fault("engage", 1, "stall", value=0.5)]
    with Emulator(SyntheticProject(profiles=20), quota=Quota(query_concurrent=1), faults=faults) as emulator:
        slow = threading.Thread(target=lambda: engage(emulator))
        slow.start()
        while not (emulator.requests and emulator.requests[0].status):
            time.sleep(0.01)
        refused = engage(emulator)
        slow.join()
    assert "exceeded the concurrency limit (2/1 queries running concurrently)." in refused.error


def test_the_headers_tell_limit_and_rest_on_every_answer() -> None:
    """`RateLimit` and `RateLimit-Policy` come with good answers and with a 429."""
    with Emulator(FixedProject(), quota=Quota(hourly=1, rate_headers=True)) as emulator:
        good, refused = engage(emulator), engage(emulator)
    policy = '"project";q=1;w=3600, "project-concurrency";q=5;qu="concurrent-requests"'
    assert good.headers["ratelimit-policy"] == refused.headers["ratelimit-policy"] == policy
    assert good.headers["ratelimit"] == '"project";r=0;t=3600, "project-concurrency";r=4'
    assert refused.headers["ratelimit"].startswith('"project";r=0;t=3600, "project-concurrency";r=')
    assert (good.status, refused.status) == (200, 429)


def test_answers_401_and_402_are_not_counted() -> None:
    """What is refused for the account or the plan leaves the hour as it was."""
    with Emulator(FixedProject(), quota=Quota(hourly=1)) as emulator:
        url = f"{emulator.api_url}/query/engage"
        assert ask(emulator, url, form={}, headers={"Authorization": None}).status == 401
        emulator.plan = PLANS["free"]
        assert engage(emulator).status == 402
        emulator.plan = PLANS["paid"]
        assert engage(emulator).status == 200


def test_without_a_quota_there_is_no_limit() -> None:
    with Emulator(FixedProject()) as emulator:
        assert {export(emulator, DAY).status for _ in range(70)} == {200}
