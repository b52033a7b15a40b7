"""A request to Mixpanel, and the hosts that it can go to."""

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
        what: Its name in messages, such as `events 2024-01-01..2024-01-07`.
        api: `data` is the raw export, `query` profiles and reports, `app` what belongs to a project.
        path: The path under the API's root, such as `export`.
        method: The HTTP method.
        params: The query string's parameters, besides those that come with the credentials.
        form: The body's fields, for POST.
        narrowed_by: The settings that it was made from, which a message names if Mixpanel rejects a parameter.
        counts_toward_quota: Whether it counts toward the hourly quota.
        reserve_seconds: Seconds of the allowed wait for quota that it leaves to later requests.
    """

    what: str
    api: Api
    path: str
    method: Literal["GET", "POST"] = "GET"
    params: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = None
    narrowed_by: tuple[str, ...] = ()
    counts_toward_quota: bool = True
    reserve_seconds: float = 0.0


def days_text(first: date, last: date) -> str:
    """Return a range of days as messages write it: `2024-01-01..2024-01-07`, or one day alone."""
    return f"{first}" if first == last else f"{first}..{last}"


@dataclass(frozen=True, slots=True)
class Hosts:
    """The root URLs of the APIs, without a slash at the end.

    Attributes:
        data_api_url: The raw export's root, such as `https://data.mixpanel.com/api/2.0`.
        api_url: The other APIs' root, such as `https://mixpanel.com/api`.
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
        """Return the root of the app API for one project (annotations)."""
        return f"{self.api_url}/app/projects/{project_id}"


#: From Mixpanel's docs, "Privacy-friendly: EU and India residency".
REGIONS: Mapping[Region, Hosts] = MappingProxyType(
    {
        "us": Hosts("https://data.mixpanel.com/api/2.0", "https://mixpanel.com/api"),
        "eu": Hosts("https://data-eu.mixpanel.com/api/2.0", "https://eu.mixpanel.com/api"),
        "in": Hosts("https://data-in.mixpanel.com/api/2.0", "https://in.mixpanel.com/api"),
    }
)
