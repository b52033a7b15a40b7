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


def test_a_request_over_the_hourly_quota_gets_429() -> None:
    """The first request over the hourly quota gets a 429 with Mixpanel's text."""
    with Emulator(FixedProject(), quota=Quota(hourly=4, per_second=100)) as emulator:
        answers = [export(emulator, DAY) for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 429]
    assert answers[-1].error.startswith(
        "Query rate limit exceeded for project_id: 2526451. This request exceeded the rate limit "
        "(5/4 queries running in the last hour)."
    )
    assert "retry-after" not in answers[-1].headers


def test_429s_are_not_counted() -> None:
    """The hour is rolling, and a 429 does not count."""
    with Emulator(FixedProject(), quota=Quota(hourly=1, per_second=100, period=0.3)) as emulator:
        statuses = [export(emulator, DAY).status for _ in range(3)]
        time.sleep(0.35)
        statuses.append(export(emulator, DAY).status)
    assert statuses == [200, 429, 429, 200]


def test_the_quota_uses_the_given_clock() -> None:
    """A request leaves the quota after 3600 s of the given clock."""
    clock = [0.0]
    with Emulator(FixedProject(), quota=Quota(hourly=1, clock=lambda: clock[0])) as emulator:
        statuses = []
        for clock[0] in (0, 3599, 3600):
            statuses.append(export(emulator, DAY).status)
    assert statuses == [200, 429, 200]


def test_the_fourth_request_in_a_second_gets_429() -> None:
    """The fourth export in a second gets a 429."""
    with Emulator(FixedProject(), quota=Quota()) as emulator:
        statuses = [export(emulator, DAY).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_the_time_to_the_reset(form: Literal["seconds", "date"]) -> None:
    """Retry-After is the time until the quota has room."""
    with Emulator(FixedProject(), quota=Quota(hourly=1, retry_after=form)) as emulator:
        export(emulator, DAY)
        header = export(emulator, DAY).headers["retry-after"]
    seconds = int(header) if form == "seconds" else (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
    assert 3590 < seconds < 3602


def test_concurrent_exports_are_limited() -> None:
    """An export over the concurrency limit gets a 429 until another one ends."""
    project = SyntheticProject(events_per_day=20)
    faults = [Fault("export", 1, "stall", value=0.5)]
    answers: list[Answered] = []
    with Emulator(project, quota=Quota(concurrent=1, per_second=100), faults=faults) as emulator:
        slow = threading.Thread(target=lambda: answers.append(export(emulator, DAY)))
        slow.start()
        while not (emulator.requests and emulator.requests[0].status):
            time.sleep(0.01)
        rejected = export(emulator, DAY)
        slow.join()
        # Its place becomes free shortly after its last byte, when the client already has the body.
        deadline = time.monotonic() + 5
        while export(emulator, DAY).status == 429:
            assert time.monotonic() < deadline
    assert (rejected.status, rejected.error) == (429, "too many export requests in progress for this project")
    assert answers[0].status == 200


def test_export_and_query_api_have_own_quotas() -> None:
    """Export and query API have separate quotas; the app API has none."""
    with Emulator(FixedProject(), quota=Quota(hourly=1)) as emulator:
        export(emulator, DAY)
        assert engage(emulator).status == 200
        assert ask(emulator, f"{emulator.api_url}/query/cohorts/list", form={}).status == 429
        assert ask(emulator, f"{emulator.api_url}/app/projects/2526451/annotations").status == 200


@pytest.mark.parametrize(("counted", "status"), [(False, 200), (True, 429)])
def test_later_pages_count_only_if_configured(counted: bool, status: int) -> None:
    """Later pages of a session count only with `count_pages`."""
    with Emulator(FixedProject(), quota=Quota(hourly=1, count_pages=counted)) as emulator:
        session = engage(emulator).json["session_id"]
        assert engage(emulator, page=1, session_id=session).status == status


def test_concurrent_queries_are_limited() -> None:
    """A query over the concurrency limit gets a 429 that names the limit."""
    faults = [Fault("engage", 1, "stall", value=0.5)]
    with Emulator(SyntheticProject(profiles=20), quota=Quota(query_concurrent=1), faults=faults) as emulator:
        slow = threading.Thread(target=lambda: engage(emulator))
        slow.start()
        while not (emulator.requests and emulator.requests[0].status):
            time.sleep(0.01)
        rejected = engage(emulator)
        slow.join()
    assert "exceeded the concurrency limit (2/1 queries running concurrently)." in rejected.error


def test_ratelimit_headers_are_on_every_response() -> None:
    """`RateLimit` and `RateLimit-Policy` are sent with a 200 and with a 429."""
    with Emulator(FixedProject(), quota=Quota(hourly=1, rate_headers=True)) as emulator:
        good, rejected = engage(emulator), engage(emulator)
    policy = '"project";q=1;w=3600, "project-concurrency";q=5;qu="concurrent-requests"'
    assert good.headers["ratelimit-policy"] == rejected.headers["ratelimit-policy"] == policy
    assert good.headers["ratelimit"] == '"project";r=0;t=3600, "project-concurrency";r=4'
    assert rejected.headers["ratelimit"].startswith('"project";r=0;t=3600, "project-concurrency";r=')
    assert (good.status, rejected.status) == (200, 429)


def test_401_and_402_are_not_counted() -> None:
    """A request rejected with 401 or 402 does not count toward the quota."""
    with Emulator(FixedProject(), quota=Quota(hourly=1)) as emulator:
        url = f"{emulator.api_url}/query/engage"
        assert ask(emulator, url, form={}, headers={"Authorization": None}).status == 401
        emulator.plan = PLANS["free"]
        assert engage(emulator).status == 402
        emulator.plan = PLANS["paid"]
        assert engage(emulator).status == 200


def test_without_a_quota_there_is_no_limit() -> None:
    """Without a quota 70 requests in a row are accepted."""
    with Emulator(FixedProject()) as emulator:
        assert {export(emulator, DAY).status for _ in range(70)} == {200}
