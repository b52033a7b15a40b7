from __future__ import annotations

from datetime import date

import pytest

from tap_mixpanel_stream.emulator import Credentials, Emulator, FixedProject
from tests.emulator.client import Answered, ask, basic

OWN = Credentials()
ACCOUNT = basic(OWN.username, OWN.secret)
SECRET = basic(OWN.project_secret, "")
TOKEN = f"Bearer {OWN.oauth_token}"


def asked(
    authorization: str | None, project_id: str = OWN.project_id, *, app: bool = False, own: Credentials = OWN
) -> Answered:
    with Emulator(FixedProject(), credentials=own) as emulator:
        url = f"{emulator.api_url}/app/projects/{project_id}/annotations" if app else f"{emulator.data_api_url}/export"
        day = date(2024, 1, 1)
        query = {} if app else {"from_date": day, "to_date": day, "project_id": project_id}
        return ask(emulator, url, query, headers={"Authorization": authorization})


@pytest.mark.parametrize("authorization", [ACCOUNT, SECRET, TOKEN])
def test_each_kind_of_credentials_opens_the_export(authorization: str) -> None:
    assert asked(authorization).status == 200


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Basic", "Basic !", basic(OWN.username, "wrong"), basic("wrong", ""), "Bearer wrong", basic("", "")],
)
def test_wrong_credentials_get_401_or_400(authorization: str | None) -> None:
    answer = asked(authorization)
    assert (answer.status, answer.json["status"]) == (401, "error")
    answer = asked(authorization, own=Credentials(refuse_with_400=True))
    assert (answer.status, answer.error) == (400, "Unable to authenticate request")


@pytest.mark.parametrize("authorization", [ACCOUNT, SECRET, TOKEN])
@pytest.mark.parametrize("app", [True, False])
def test_another_project_is_refused(authorization: str, app: bool) -> None:
    expected = 401 if app and authorization == SECRET else 403
    assert asked(authorization, "99", app=app).status == expected


@pytest.mark.parametrize(("authorization", "status"), [(ACCOUNT, 400), (TOKEN, 400), (SECRET, 200)])
def test_the_project_must_be_named_but_with_its_own_secret(authorization: str, status: int) -> None:
    with Emulator(FixedProject()) as emulator:
        query = {"from_date": "2024-01-01", "to_date": "2024-01-01"}
        headers = {"Authorization": authorization}
        answer = ask(emulator, f"{emulator.data_api_url}/export", query, headers=headers, project=False)
    assert answer.status == status
    assert status == 200 or "project_id" in answer.error


@pytest.mark.parametrize(("authorization", "status"), [(ACCOUNT, 200), (TOKEN, 200), (SECRET, 401)])
def test_the_app_api_takes_no_project_secret(authorization: str, status: int) -> None:
    """Service accounts and OAuth tokens open the app API."""
    assert asked(authorization, app=True).status == status
