from __future__ import annotations

import base64
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest
import requests

from tap_mixpanel_stream.mixpanel.auth import Auth, OAuthToken, ProjectSecret, ServiceAccount
from tap_mixpanel_stream.mixpanel.errors import Refused
from tap_mixpanel_stream.mixpanel.export import ExportOptions, ProcessingTimeFilter, export_request
from tap_mixpanel_stream.mixpanel.request import REGIONS, Hosts

if TYPE_CHECKING:
    from collections.abc import Callable


def signed(auth: Auth) -> str | bytes:
    request = requests.Request("GET", "https://mixpanel.com/", auth=auth).prepare()
    return request.headers["Authorization"]


def basic(header: str | bytes) -> str:
    assert isinstance(header, str)
    return base64.b64decode(header.removeprefix("Basic ")).decode("utf-8")


def test_a_service_account_sends_its_project_id() -> None:
    """A service account uses Basic authentication and sends `project_id`."""
    auth = ServiceAccount("name.abc.mp-service-account", "gehe!m-ß-密", "123")
    assert basic(signed(auth)) == "name.abc.mp-service-account:gehe!m-ß-密"
    assert auth.params == {"project_id": "123"}


def test_a_project_secret_needs_no_project_id() -> None:
    """A project secret is the user name of Basic authentication, without `project_id`."""
    auth = ProjectSecret("s3cr3t")
    assert basic(signed(auth)) == "s3cr3t:"
    assert auth.params == {}


def test_an_oauth_token_sends_its_project_id() -> None:
    """An OAuth token is a Bearer token in UTF-8, with `project_id`."""
    auth = OAuthToken("tökén", "123")
    assert signed(auth) == "Bearer tökén".encode()
    assert auth.params == {"project_id": "123"}


@pytest.mark.parametrize(
    "auth", [ServiceAccount("name", "hunter2", "1"), ProjectSecret("hunter2"), OAuthToken("hunter2", "1")]
)
def test_no_repr_shows_a_secret(auth: Auth) -> None:
    """The repr and str of credentials contain no secret."""
    assert "hunter2" not in repr(auth)
    assert "hunter2" not in str(auth)
    assert all(secret not in repr(auth) for secret in auth.secrets)


@pytest.mark.parametrize("secret", ["", "hunter2\n", " hunter2", "hun\x00ter2", "hun\r\nX: y"])
@pytest.mark.parametrize(
    ("setting", "make"),
    [
        ("service_account_secret", lambda secret: ServiceAccount("name", secret, "1")),
        ("api_secret", ProjectSecret),
        ("oauth_token", lambda secret: OAuthToken(secret, "1")),
    ],
)
def test_a_secret_with_whitespace_is_rejected(setting: str, make: Callable[[str], Auth], secret: str) -> None:
    """An empty secret, or one with whitespace or control characters, is rejected without showing it."""
    with pytest.raises(Refused, match=setting) as rejected:
        make(secret)
    assert rejected.value.kind == "credentials"
    assert "hun" not in str(rejected.value)


def test_a_user_name_with_a_colon_is_rejected() -> None:
    """A colon in `service_account_username` is rejected: in Basic authentication it ends the name."""
    with pytest.raises(Refused, match="service_account_username"):
        ServiceAccount("na:me", "secret", "1")


def test_each_region_has_its_hosts() -> None:
    """Each region has its data, query and app URLs."""
    assert set(REGIONS) == {"us", "eu", "in"}
    assert REGIONS["us"].data_api_url == "https://data.mixpanel.com/api/2.0"
    assert REGIONS["eu"].query_url == "https://eu.mixpanel.com/api/query"
    assert REGIONS["in"].app_url("7") == "https://in.mixpanel.com/api/app/projects/7"
    assert REGIONS["in"].data_api_url == "https://data-in.mixpanel.com/api/2.0"


def test_a_trailing_slash_of_a_host_is_removed() -> None:
    """Hosts with and without a trailing slash are equal."""
    assert Hosts("http://127.0.0.1:1/", "http://127.0.0.1:2/api/") == Hosts(
        "http://127.0.0.1:1", "http://127.0.0.1:2/api"
    )


def test_an_export_request_has_only_its_days() -> None:
    """Without options an export request has only `from_date` and `to_date`."""
    request = export_request(date(2024, 1, 1), date(2024, 1, 7))
    assert (request.method, request.api, request.path) == ("GET", "data", "export")
    assert request.params == {"from_date": "2024-01-01", "to_date": "2024-01-07"}
    assert request.what == "events 2024-01-01..2024-01-07"
    assert request.counts_toward_quota


def test_export_filters_are_sent() -> None:
    """Event names, `where`, `time_in_ms` and `limit` are sent as parameters."""
    options = ExportOptions(("Signed up", "Käufe"), 'properties["x"] == 1', time_in_ms=True, limit=100)
    assert export_request(date(2024, 1, 1), date(2024, 1, 1), options).params == {
        "from_date": "2024-01-01",
        "to_date": "2024-01-01",
        "event": '["Signed up", "K\\u00e4ufe"]',
        "where": 'properties["x"] == 1',
        "time_in_ms": "true",
        "limit": "100",
    }


TIME = 'properties["mp_processing_time_ms"]'


@pytest.mark.parametrize(
    ("since", "own", "where"),
    [
        (None, None, f"({TIME} < 1705309200000) or not defined({TIME})"),
        (
            datetime(2024, 1, 14, 9, tzinfo=UTC),
            None,
            f"({TIME} >= 1705222800000 and {TIME} < 1705309200000) or not defined({TIME})",
        ),
        (
            None,
            'properties["x"] == 1 or false',
            f'(properties["x"] == 1 or false) and (({TIME} < 1705309200000) or not defined({TIME}))',
        ),
    ],
)
def test_an_export_filters_by_processing_time(since: datetime | None, own: str | None, where: str) -> None:
    """The processing-time filter is combined with `events_where` by `and`."""
    processed = ProcessingTimeFilter(since, datetime(2024, 1, 15, 9, tzinfo=UTC))
    options = ExportOptions(events_where=own, processed=processed)
    assert export_request(date(2024, 1, 1), date(2024, 1, 1), options).params["where"] == where
