"""What a project holds: the protocol the server reads, and a project that holds exactly what it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import date, datetime


class Project(Protocol):
    """A Mixpanel project's contents at any instant."""

    @property
    def zone(self) -> ZoneInfo:
        """The zone of the project's days: UTC, or the project's own for one made before 2023."""

    def lines(self, first: date, last: date, *, now: datetime, in_ms: bool = False) -> Iterator[bytes]:
        r"""Yield what an export of these days holds at an instant.

        Args:
            first: The first day, in the project's zone.
            last: The last day, inclusive.
            now: The instant of asking.
            in_ms: Whether `time` is in milliseconds.

        Yields:
            The lines, without their `\n`.
        """

    @property
    def groups(self) -> Collection[str]:
        """The `data_group_id` of each group."""

    def profiles(self, group: str | None, *, now: datetime) -> Sequence[Mapping[str, object]]:
        """Return the user profiles, or a group's, as they are at an instant."""

    def cohorts(self) -> Sequence[Mapping[str, object]]:
        """Return the cohorts as the list shows them."""

    def cohort_members(self, cohort: int) -> Collection[str | int] | None:
        """Return the distinct ids in a cohort, with and without a profile; None if there is no such cohort."""

    def annotations(self) -> Sequence[Mapping[str, object]]:
        """Return the annotations."""

    def funnels(self) -> Sequence[Mapping[str, object]]:
        """Return the funnels, each with `funnel_id` and `name`."""

    def funnel_days(self, funnel: int, first: date, last: date) -> Mapping[str, object]:
        """Return a funnel's data, by day."""

    def schemas(self) -> Sequence[Mapping[str, object]]:
        """Return the Lexicon's schemas."""

    def insights(self, report: int, *, now: datetime) -> Mapping[str, object] | None:
        """Return a saved Insights report; None if there is no such report."""


class FixedProject:
    r"""Serves exactly the given lines and objects, broken ones included.

    Everything is visible from the start, and a line goes out byte for byte, so `time_in_ms` changes nothing here.

    Args:
        events: The lines of each day, without `\n`.
        profiles: User profiles, `{"$distinct_id": ..., "$properties": {...}}`.
        group_profiles: Group profiles by `data_group_id`.
        cohorts: As the list shows them, each with `members`, a list of distinct ids that the list does not show. One
            whose `data_group_id` is not among `group_profiles` is a cohort of a deleted group.
        annotations: As the list shows them.
        funnels: Each with `funnel_id`, `name` and `days`, a mapping of `YYYY-MM-DD` to that day's object.
        schemas: As the Lexicon lists them.
        insights: The answers to saved Insights reports, by `bookmark_id`.
        zone: The zone of the project's days.
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
        """Yield the given lines of these days, day by day."""
        for day in sorted(day for day in self.events if first <= day <= last):
            yield from self.events[day]

    @property
    def groups(self) -> Collection[str]:
        """Return the given groups."""
        return self._group_profiles

    def profiles(self, group: str | None, *, now: datetime) -> Sequence[Mapping[str, object]]:  # noqa: ARG002
        """Return the given profiles."""
        return self._profiles if group is None else self._group_profiles.get(group, ())

    def cohorts(self) -> Sequence[Mapping[str, object]]:
        """Return the given cohorts."""
        return [_without(cohort, "members") for cohort in self._cohorts]

    def cohort_members(self, cohort: int) -> Collection[str | int] | None:
        """Return the given members."""
        for each in self._cohorts:
            if each["id"] == cohort:
                members = each.get("members", ())
                return list(members) if isinstance(members, list | tuple | set | frozenset) else []
        return None

    def annotations(self) -> Sequence[Mapping[str, object]]:
        """Return the given annotations."""
        return self._annotations

    def funnels(self) -> Sequence[Mapping[str, object]]:
        """Return the given funnels."""
        return [_without(funnel, "days") for funnel in self._funnels]

    def funnel_days(self, funnel: int, first: date, last: date) -> Mapping[str, object]:
        """Return the given days that lie in the range."""
        for each in self._funnels:
            days = each.get("days")
            if each["funnel_id"] == funnel and isinstance(days, dict):
                return {day: data for day, data in days.items() if first.isoformat() <= day <= last.isoformat()}
        return {}

    def schemas(self) -> Sequence[Mapping[str, object]]:
        """Return the given schemas."""
        return self._schemas

    def insights(self, report: int, *, now: datetime) -> Mapping[str, object] | None:  # noqa: ARG002
        """Return the given answer."""
        return self._insights.get(report)


def _without(mapping: Mapping[str, object], key: str) -> dict[str, object]:
    return {name: value for name, value in mapping.items() if name != key}
