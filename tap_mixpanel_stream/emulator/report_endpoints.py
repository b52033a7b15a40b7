"""What Mixpanel counts or keeps of a project: events by name and day, saved Insights reports, the Lexicon."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import date, timedelta
from typing import TYPE_CHECKING

import msgspec

from .error_responses import Refusal
from .export_endpoint import read_day

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from .project import Project

MOST_NAMES = 255
"""Names of events that one answer lists at the most."""

DAYS_OF_NAMES = 31
"""Days, up to today, whose events' names are listed."""

_NULL = msgspec.Raw(b"null")
_NO_ID = {b"null", b'""'}


class _Properties(msgspec.Struct, rename={"insert_id": "$insert_id"}):
    distinct_id: msgspec.Raw = _NULL
    time: msgspec.Raw = _NULL
    insert_id: msgspec.Raw = _NULL


class _Event(msgspec.Struct):
    event: str
    properties: _Properties


_decode = msgspec.json.Decoder(_Event).decode


def count_by_day(project: Project, days: Iterable[date], now: datetime) -> Mapping[str, Mapping[str, int]]:
    """Return how many events of each name each day has.

    Mixpanel counts once what is equal in name, `distinct_id`, `time` and `$insert_id`. Without an `$insert_id` it
    cannot tell that two events are one. A line that is no event does not count.

    Args:
        project: The project.
        days: The days, in the project's zone.
        now: The instant of asking.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for day in days:
        seen = set()
        for line in project.lines(day, day, now=now):
            try:
                row = _decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            own = row.properties
            if bytes(own.insert_id) in _NO_ID:
                counts[row.event][str(day)] += 1
            else:
                seen.add((row.event, bytes(own.distinct_id), bytes(own.time), bytes(own.insert_id)))
        for name, *_ in seen:
            counts[name][str(day)] += 1
    return counts


def event_counts(parameters: Mapping[str, str], project: Project, now: datetime) -> object:
    """Answer `events`: a number for each name and day that has events.

    Raises:
        Refusal: 400, for a parameter that is missing or wrong, or that the emulator does not serve.
    """
    names = _names(parameters)
    _check_served(parameters, type="general", unit="day", format="json")
    first, last = (read_day(parameters, name) for name in ("from_date", "to_date"))
    if first > last:
        raise Refusal(400, "Invalid parameter: from_date cannot be later than to_date")
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    today = now.astimezone(project.zone).date()
    counts = count_by_day(project, [day for day in days if day <= today], now)
    values = {name: counts.get(name, {}) for name in names}
    return {"data": {"series": list(map(str, days)), "values": values}, "legend_size": len(values)}


def event_names(parameters: Mapping[str, str], project: Project, now: datetime) -> object:
    """Answer `events/names`: the names of the last 31 days, the most frequent first.

    Raises:
        Refusal: 400, for a parameter that is missing or wrong, or that the emulator does not serve.
    """
    _check_served(parameters, type="general")
    limit = parameters.get("limit", str(MOST_NAMES))
    if not limit.isdecimal():
        raise Refusal(400, "Invalid parameter: limit")
    today = now.astimezone(project.zone).date()
    counts = count_by_day(project, [today - timedelta(days=number) for number in range(DAYS_OF_NAMES)], now)
    return sorted(counts, key=lambda name: (-sum(counts[name].values()), name))[: min(int(limit), MOST_NAMES)]


def insights_report(parameters: Mapping[str, str], project: Project, now: datetime) -> object:
    """Answer `insights`: a saved report.

    Raises:
        Refusal: 400, there is no such report.
    """
    number = parameters.get("bookmark_id", "")
    report = project.insights(int(number), now=now) if number.isdecimal() else None
    if report is None:
        raise Refusal(400, "Invalid parameter: bookmark_id")
    return report


def lexicon(project: Project) -> object:
    """Answer `schemas`: the whole data dictionary."""
    return {"status": "ok", "results": list(project.schemas())}


def _names(parameters: Mapping[str, str]) -> list[str]:
    try:
        names = json.loads(parameters["event"])
    except KeyError:
        raise Refusal(400, "Missing required parameter: event") from None
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Refusal(400, "Invalid parameter: event must be a JSON list of strings")
    return names


def _check_served(parameters: Mapping[str, str], **served: str) -> None:
    for name, value in served.items():
        if name != "format" and name not in parameters:
            raise Refusal(400, f"Missing required parameter: {name}")
        if parameters.get(name, value) != value:
            raise Refusal(400, f"Invalid parameter: {name} must be {value} here")
