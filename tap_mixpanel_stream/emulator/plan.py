"""Mixpanel plans, which limit the APIs and the history of a project."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from .error_responses import ErrorResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .error_responses import Api


@dataclass(frozen=True)
class Plan:
    """A Mixpanel plan. Every plan includes the raw export and the app API.

    Attributes:
        has_query_api: Whether the plan includes the query API (profiles, cohorts, funnels, event counts, Insights).
            Without it, requests to the query API get 402.
        history_days: Days before today that requests can include; None for unlimited history.
    """

    has_query_api: bool = True
    history_days: int | None = None

    def check(self, api: Api, query: Mapping[str, str], today: date, *, has_date_range: bool) -> None:
        """Check that the plan includes a request.

        Args:
            api: API of the request.
            query: Parameters of the request.
            today: Today in the project's time zone.
            has_date_range: Whether the endpoint has a parameter for the first day.

        Raises:
            ErrorResponse: 402 if the plan excludes the API, 403 if the request starts before the plan's history.
        """
        if api == "query" and not self.has_query_api:
            raise ErrorResponse(402, "Your plan does not allow API calls. Upgrade at mixpanel.com/pricing")
        if self.history_days is None or not has_date_range:
            return
        # A request without a first day is for the whole history.
        first = query.get("from_date") or query.get("fromDate") or ""
        if first < str(today - timedelta(days=self.history_days)):
            raise ErrorResponse(403, f"Date range exceeds {self.history_days} days into the past")


PLANS = {"free": Plan(has_query_api=False), "paid": Plan()}
"""Plans by their name on the command line."""
