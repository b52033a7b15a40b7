"""What the project's Mixpanel plan includes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from .error_responses import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .error_responses import Api


@dataclass(frozen=True)
class Plan:
    """A plan. The raw export and the app API are on every one.

    Attributes:
        has_query_api: Whether profiles, cohorts, funnels and the like can be asked for; if not, they get 402.
        history_days: How many days before today can be asked for; None for all.
    """

    has_query_api: bool = True
    history_days: int | None = None

    def check(self, api: Api, query: Mapping[str, str], today: date, *, has_days: bool) -> None:
        """Let a request through, or raise.

        Args:
            api: The API that is asked.
            query: The request's parameters.
            today: Today in the project's zone.
            has_days: Whether the request is about days, from a first one.

        Raises:
            Refusal: 402 for an API that is not in the plan, 403 for days before its history.
        """
        if api == "query" and not self.has_query_api:
            raise Refusal(402, "Your plan does not allow API calls. Upgrade at mixpanel.com/pricing")
        if self.history_days is None or not has_days:
            return
        # Without a first day, all of them are asked for.
        first = query.get("from_date") or query.get("fromDate") or ""
        if first < str(today - timedelta(days=self.history_days)):
            raise Refusal(403, f"Date range exceeds {self.history_days} days into the past")


PLANS = {"free": Plan(has_query_api=False), "paid": Plan()}
"""Plans by name, for the command line."""
