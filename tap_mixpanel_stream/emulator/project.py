"""The contents of a project: the protocol that the server reads from, and a project with fixed contents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import date, datetime


class Project(Protocol):
    """The contents of a Mixpanel project at any point in time."""

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the project's days. Projects created since 2023 have UTC."""

    def lines(self, first: date, last: date, *, now: datetime, in_ms: bool = False) -> Iterator[bytes]:
        r"""Yield the lines of an export.

        Args:
            first: First day, in the project's time zone.
            last: Last day, inclusive.
            now: Time of the request.
            in_ms: Whether `time` is in milliseconds.

        Yields:
            Lines without the `\n`.
        """

    @property
    def groups(self) -> Collection[str]:
        """The `data_group_id` of each group."""

    def profiles(self, group: str | None, *, now: datetime) -> Sequence[Mapping[str, object]]:
        """Return the user profiles, or the profiles of a group, as of a point in time."""

    def cohorts(self) -> Sequence[Mapping[str, object]]:
        """Return the cohorts in the format of `cohorts/list`."""

    def cohort_members(self, cohort: int) -> Collection[str | int] | None:
        """Return the distinct ids in a cohort, including ids without a profile; None for an unknown cohort."""

    def annotations(self) -> Sequence[Mapping[str, object]]:
        """Return the annotations."""

    def funnels(self) -> Sequence[Mapping[str, object]]:
        """Return the funnels, each with `funnel_id` and `name`."""

    def funnel_days(self, funnel: int, first: date, last: date) -> Mapping[str, object]:
        """Return the data of a funnel by day (`YYYY-MM-DD`)."""

    def schemas(self) -> Sequence[Mapping[str, object]]:
        """Return the Lexicon schemas."""

    def insights(self, report: int, *, now: datetime) -> Mapping[str, object] | None:
        """Return a saved Insights report; None for an unknown report."""


class FixedProject:
    r"""A project that serves the given lines and objects unchanged, including malformed ones.

    All contents are visible from the start. Lines are sent byte for byte, so `time_in_ms` has no effect.

    Args:
        events: Lines by day, without `\n`.
        profiles: User profiles, `{"$distinct_id": ..., "$properties": {...}}`.
        group_profiles: Group profiles by `data_group_id`.
        cohorts: Cohorts in the format of `cohorts/list`, plus `members`, a list of distinct ids that the response
            omits. A cohort with a `data_group_id` that is not in `group_profiles` belongs to a deleted group.
        annotations: Annotations in the format of the API.
        funnels: Funnels with `funnel_id`, `name` and `days`, a mapping of `YYYY-MM-DD` to the data of that day.
        schemas: Lexicon schemas in the format of the API.
        insights: Responses for saved Insights reports by `bookmark_id`.
        zone: Time zone of the project's days.
    """

    def __init__(
        self,
        events: Mapping[date, Sequence[bytes]] | None = None,
        profiles: Sequence[Mapping[str, object]] = (),
        group_profiles: Mapping[str, Sequence[Mapping[str, object]]] | None = None,
        *,
        cohorts: Sequence[Mapping[str, object]] = (),
        annotations: Sequence[Mapping[str, object]] = (),
        funnels: Sequence[Mapping[str, object]] = (),
        schemas: Sequence[Mapping[str, object]] = (),
        insights: Mapping[int, Mapping[str, object]] | None = None,
        zone: str = "UTC",
    ) -> None:
        self.events = dict(events or {})
        self.zone = ZoneInfo(zone)
        self._profiles = profiles
        self._group_profiles = dict(group_profiles or {})
        self._cohorts = cohorts
        self._annotations = annotations
        self._funnels = funnels
        self._schemas = schemas
        self._insights = dict(insights or {})

    def lines(self, first: date, last: date, *, now: datetime, in_ms: bool = False) -> Iterator[bytes]:  # noqa: ARG002
        """Yield the lines of these days in order of the days."""
        for day in sorted(day for day in self.events if first <= day <= last):
            yield from self.events[day]

    @property
    def groups(self) -> Collection[str]:
        """The `data_group_id` of each group."""
        return self._group_profiles

    def profiles(self, group: str | None, *, now: datetime) -> Sequence[Mapping[str, object]]:  # noqa: ARG002
        """Return the user profiles, or the profiles of a group."""
        return self._profiles if group is None else self._group_profiles.get(group, ())

    def cohorts(self) -> Sequence[Mapping[str, object]]:
        """Return the cohorts without their members."""
        return [_without(cohort, "members") for cohort in self._cohorts]

    def cohort_members(self, cohort: int) -> Collection[str | int] | None:
        """Return the distinct ids in a cohort; None for an unknown cohort."""
        for each in self._cohorts:
            if each["id"] == cohort:
                members = each.get("members", ())
                return list(members) if isinstance(members, list | tuple | set | frozenset) else []
        return None

    def annotations(self) -> Sequence[Mapping[str, object]]:
        """Return the annotations."""
        return self._annotations

    def funnels(self) -> Sequence[Mapping[str, object]]:
        """Return the funnels without their days."""
        return [_without(funnel, "days") for funnel in self._funnels]

    def funnel_days(self, funnel: int, first: date, last: date) -> Mapping[str, object]:
        """Return the data of a funnel for the days in the range."""
        for each in self._funnels:
            days = each.get("days")
            if each["funnel_id"] == funnel and isinstance(days, dict):
                return {day: data for day, data in days.items() if first.isoformat() <= day <= last.isoformat()}
        return {}

    def schemas(self) -> Sequence[Mapping[str, object]]:
        """Return the Lexicon schemas."""
        return self._schemas

    def insights(self, report: int, *, now: datetime) -> Mapping[str, object] | None:  # noqa: ARG002
        """Return a saved Insights report; None for an unknown report."""
        return self._insights.get(report)


def _without(mapping: Mapping[str, object], key: str) -> dict[str, object]:
    return {name: value for name, value in mapping.items() if name != key}
