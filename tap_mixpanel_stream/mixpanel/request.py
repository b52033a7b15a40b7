"""Requests to Mixpanel, and the hosts of its regions."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

Api = Literal["data", "query", "app"]
Region = Literal["us", "eu", "in"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request, without host and credentials, which the client adds.

    Attributes:
        what: What is requested, for messages, such as `events 2024-01-01..2024-01-07`.
        api: The API: `data` for the raw export, `query` for profiles and reports, `app` for annotations and Lexicon.
        path: The path below the API's root URL, such as `export`.
        method: The HTTP method.
        params: The query parameters, without those of the credentials.
        form: The form fields of a POST.
        source_settings: The settings that the request was made from, to name if Mixpanel rejects a parameter.
        counts_toward_quota: Whether the request counts toward the hourly quota.
        reserve_seconds: Seconds of `max_quota_wait` that the request leaves to later requests.
    """

    what: str
    api: Api
    path: str
    method: Literal["GET", "POST"] = "GET"
    params: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = None
    source_settings: tuple[str, ...] = ()
    counts_toward_quota: bool = True
    reserve_seconds: float = 0.0


def days_text(first: date, last: date) -> str:
    """Return a date range for messages: `2024-01-01..2024-01-07`, or `2024-01-01` for a single day."""
    return f"{first}" if first == last else f"{first}..{last}"


@dataclass(frozen=True, slots=True)
class Hosts:
    """The root URLs of the APIs. A trailing slash is removed.

    Attributes:
        data_api_url: The root of the raw export, such as `https://data.mixpanel.com/api/2.0`.
        api_url: The root of the other APIs, such as `https://mixpanel.com/api`.
    """

    data_api_url: str
    api_url: str

    def __post_init__(self) -> None:
        for name in ("data_api_url", "api_url"):
            object.__setattr__(self, name, getattr(self, name).rstrip("/"))

    @property
    def query_url(self) -> str:
        """The root of the query API (profiles, cohorts, funnels)."""
        return f"{self.api_url}/query"

    def app_url(self, project_id: str) -> str:
        """Return the root of the app API for one project (annotations, Lexicon)."""
        return f"{self.api_url}/app/projects/{project_id}"


#: From Mixpanel's docs, "Privacy-friendly: EU and India residency".
REGIONS: Mapping[Region, Hosts] = MappingProxyType(
    {
        "us": Hosts("https://data.mixpanel.com/api/2.0", "https://mixpanel.com/api"),
        "eu": Hosts("https://data-eu.mixpanel.com/api/2.0", "https://eu.mixpanel.com/api"),
        "in": Hosts("https://data-in.mixpanel.com/api/2.0", "https://in.mixpanel.com/api"),
    }
)
