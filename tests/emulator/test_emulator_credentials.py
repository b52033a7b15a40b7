from __future__ import annotations

from datetime import date

import pytest

from tap_mixpanel_stream.emulator import Credentials, Emulator, FixedProject
from tests.emulator.client import Answered, ask, basic

OWN = Credentials()
ACCOUNT = basic(OWN.username, OWN.secret)
SECRET = basic(OWN.project_secret, "")
TOKEN = f"Bearer {OWN.oauth_token}"


def requested(authorization: str | None, project_id: str = OWN.project_id, *, app: bool = False) -> Answered:
    with Emulator(FixedProject()) as emulator:
        url = f"{emulator.api_url}/app/projects/{project_id}/annotations" if app else f"{emulator.data_api_url}/export"
        day = date(2024, 1, 1)
        query = {} if app else {"from_date": day, "to_date": day, "project_id": project_id}
        return ask(emulator, url, query, headers={"Authorization": authorization})


@pytest.mark.parametrize("authorization", [ACCOUNT, SECRET, TOKEN])
def test_each_credential_type_can_export(authorization: str) -> None:
    """Service account, project secret and OAuth token can export."""
    assert requested(authorization).status == 200


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Basic", "Basic !", basic(OWN.username, "wrong"), basic("wrong", ""), "Bearer wrong", basic("", "")],
)
def test_wrong_credentials_get_400_from_the_export(authorization: str | None) -> None:
    """The export rejects wrong credentials with a 400 as plain text."""
    answer = requested(authorization)
    assert (answer.status, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert answer.text == b"Unable to authenticate request\n"


def test_wrong_credentials_get_401_from_the_query_api() -> None:
    """The query API rejects wrong credentials with a 401 as JSON, with the request's path."""
    with Emulator(FixedProject()) as emulator:
        answer = ask(emulator, f"{emulator.api_url}/query/engage", form={}, headers={"Authorization": "Bearer wrong"})
    assert (answer.status, answer.headers["content-type"]) == (401, "application/json")
    assert answer.json == {"request": "/api/query/engage", "error": answer.error, "status": "error"}


def test_each_api_rejects_a_foreign_project_its_own_way() -> None:
    """The export as bad credentials, the query API without `status`, the app API without `request`."""
    export = requested(ACCOUNT, "99")
    assert (export.status, export.text) == (400, b"Unable to authenticate request\n")
    with Emulator(FixedProject()) as emulator:
        query = ask(emulator, f"{emulator.api_url}/query/engage", {"project_id": "99"}, form={})
    error = "User is not a member of this project"
    assert (query.status, query.json) == (403, {"request": "/api/query/engage", "error": error})
    app = requested(ACCOUNT, "99", app=True)
    assert (app.status, app.json) == (403, {"error": "User 123 is not a member of project 99.", "status": "error"})


@pytest.mark.parametrize(("authorization", "status"), [(ACCOUNT, 400), (TOKEN, 400), (SECRET, 200)])
def test_project_id_is_optional_with_a_project_secret(authorization: str, status: int) -> None:
    """Service accounts and tokens must send project_id; a project secret need not."""
    with Emulator(FixedProject()) as emulator:
        query = {"from_date": "2024-01-01", "to_date": "2024-01-01"}
        headers = {"Authorization": authorization}
        answer = ask(emulator, f"{emulator.data_api_url}/export", query, headers=headers, project=False)
    assert answer.status == status
    assert status == 200 or "project_id" in answer.error


@pytest.mark.parametrize(("authorization", "status"), [(ACCOUNT, 200), (TOKEN, 200), (SECRET, 401)])
def test_the_app_api_rejects_a_project_secret(authorization: str, status: int) -> None:
    """Only service accounts and OAuth tokens can use the app API."""
    assert requested(authorization, app=True).status == status
