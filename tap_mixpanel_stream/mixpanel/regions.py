"""Where Mixpanel keeps a project's data, and under which hosts it answers."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Region = Literal["us", "eu", "in"]


@dataclass(frozen=True, slots=True)
class Hosts:
    """The two roots that all requests hang under, without a slash at the end.

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
        """The query API's root (profiles, cohorts, funnels)."""
        return f"{self.api_url}/query"

    def app_url(self, project_id: str) -> str:
        """The app API's root for one project (annotations)."""
        return f"{self.api_url}/app/projects/{project_id}"


#: From Mixpanel's docs, "Privacy-friendly: EU and India residency".
REGIONS: Mapping[Region, Hosts] = MappingProxyType(
    {
        "us": Hosts("https://data.mixpanel.com/api/2.0", "https://mixpanel.com/api"),
        "eu": Hosts("https://data-eu.mixpanel.com/api/2.0", "https://eu.mixpanel.com/api"),
        "in": Hosts("https://data-in.mixpanel.com/api/2.0", "https://in.mixpanel.com/api"),
    }
)
