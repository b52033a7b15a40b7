"""Secrets are seen by Mixpanel alone: in no log at any level, no message, no state, no error."""

from __future__ import annotations

import base64
import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Credentials, Emulator, Fault, SyntheticProject
from tests.pipeline import Run, run_tap

if TYPE_CHECKING:
    from collections.abc import Iterable

CREDENTIALS = Credentials(
    secret="very-s3cret-service", oauth_token="very-s3cret-token", project_secret="very-s3cret-project"
)
WAYS: dict[str, dict[str, str]] = {
    "service account": {
        "service_account_username": CREDENTIALS.username,
        "service_account_secret": CREDENTIALS.secret,
        "project_id": CREDENTIALS.project_id,
    },
    "token": {"oauth_token": CREDENTIALS.oauth_token, "project_id": CREDENTIALS.project_id},
    "project secret": {"api_secret": CREDENTIALS.project_secret},
}
SHOWN_NOWHERE = [
    secret
    for plain in (CREDENTIALS.secret, CREDENTIALS.oauth_token, CREDENTIALS.project_secret)
    for secret in (
        plain,
        base64.b64encode(f"{plain}:".encode()).decode().rstrip("="),
        base64.b64encode(f"{CREDENTIALS.username}:{plain}".encode()).decode().rstrip("="),
    )
]
BASE = {"start_date": "2024-01-01", "end_date": "2024-01-02", "max_retries": 0, "request_timeout": 2}
FAULTS = [
    None,
    "status:401",
    "status:400-auth",
    "status:500",
    "gzip-cut",
    "redirect",
    "refuse",
    "bad-line",
    "page-html",
]


def assert_no_secret(run: Run) -> None:
    said = run.stdout.decode() + "\n".join(run.stderr)
    assert [secret for secret in SHOWN_NOWHERE if secret in said] == []


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", WAYS)
def test_no_secret_is_shown_at_the_loudest_log_level(way: str, fault: str | None) -> None:
    project = SyntheticProject(
        first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 2), events_per_day=20, profiles=5
    )
    faults: Iterable[Fault] = (
        [Fault(kind, None, fault, value="http://127.0.0.1:9/") for kind in ("export", "engage")] if fault else []
    )
    with Emulator(project, faults=faults, credentials=CREDENTIALS) as emulator:
        urls = {name: emulator.settings[name] for name in ("data_api_url", "api_url")}
        run = run_tap(urls | WAYS[way] | BASE, environment={"LOGLEVEL": "DEBUG"})
    assert run.exit_code == (1 if fault else 0), "\n".join(run.stderr)
    assert_no_secret(run)


@pytest.mark.parametrize("way", WAYS)
def test_no_secret_is_shown_when_it_is_wrong(way: str) -> None:
    with Emulator(SyntheticProject()) as emulator:
        urls = {name: emulator.settings[name] for name in ("data_api_url", "api_url")}
        run = run_tap(urls | WAYS[way] | BASE, environment={"LOGLEVEL": "DEBUG"})
        asked = len(emulator.requests)
    assert run.exit_code == 1
    assert asked <= 2, "a refused password is not tried again"
    assert len(run.errors) == 1
    assert "credentials were not accepted" in run.errors[0]
    assert_no_secret(run)


def test_credentials_do_not_follow_a_redirect() -> None:
    with Emulator(SyntheticProject()) as elsewhere:
        redirect = Fault("export", None, "redirect", value=f"{elsewhere.data_api_url}/export")
        with Emulator(SyntheticProject(), faults=[redirect], credentials=CREDENTIALS) as emulator:
            run = run_tap(emulator.settings | BASE)
        assert elsewhere.requests == []
    assert run.exit_code == 1
    assert "credentials go to no other address" in run.errors[0]


@pytest.mark.parametrize("option", [["--about"], ["--about", "--format=json"], ["--discover"]])
def test_no_secret_is_shown_by_what_the_tap_says_of_itself(option: list[str]) -> None:
    settings: dict[str, Any] = WAYS["service account"] | BASE
    assert_no_secret(run_tap(settings, *option, environment={"LOGLEVEL": "DEBUG"}))
