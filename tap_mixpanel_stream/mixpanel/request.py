"""A question to Mixpanel, before anybody asks it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

Api = Literal["data", "query", "app"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request, without host and credentials, which the client adds.

    Attributes:
        what: What is asked for, for messages: `events 2024-01-01..2024-01-07`.
        api: `data` is the raw export, `request` profiles and reports, `app` what belongs to a project.
        path: The path under that API's root, such as `export`.
        method: The HTTP method.
        params: The query string's parameters, besides those that come with the credentials.
        form: The body's fields, for POST.
        narrowed_by: The settings that it was made of, to be named where Mixpanel does not accept a parameter.
        counts: Whether it counts towards the quota of an hour.
        reserve_seconds: Seconds of waiting for quota that it leaves to the requests after it.
    """

    what: str
    api: Api
    path: str
    method: Literal["GET", "POST"] = "GET"
    params: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = None
    narrowed_by: tuple[str, ...] = ()
    counts: bool = True
    reserve_seconds: float = 0.0


def days_text(first: date, last: date) -> str:
    """Format the days of a request for messages: `2024-01-01`, or `2024-01-01..2024-01-07`."""
    return f"{first}" if first == last else f"{first}..{last}"
