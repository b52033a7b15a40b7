"""The endpoints for event counts, event names, saved Insights reports and the Lexicon."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import date, timedelta
from typing import TYPE_CHECKING

import msgspec

from .error_responses import ErrorResponse
from .export_endpoint import parse_day

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from .project import Project

MAX_EVENT_NAMES = 255
"""The maximum number of names in a response of `events/names`."""

EVENT_NAME_DAYS = 31
"""The number of days, ending today, that `events/names` covers."""

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
    """Count the events of each name by day.

    Like Mixpanel, count events with the same name, `distinct_id`, `time` and `$insert_id` once. Events without an
    `$insert_id` are never duplicates. Malformed lines do not count.

    Args:
        project: The project.
        days: Days in the project's time zone.
        now: Time of the request.

    Returns:
        The number of events by name, then by day (`YYYY-MM-DD`).
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for day in days:
        seen = set()
        for line in project.lines(day, day, now=now):
            try:
                row = _decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            properties = row.properties
            if bytes(properties.insert_id) in _NO_ID:
                counts[row.event][str(day)] += 1
            else:
                seen.add(
                    (row.event, bytes(properties.distinct_id), bytes(properties.time), bytes(properties.insert_id))
                )
        for name, *_ in seen:
            counts[name][str(day)] += 1
    return counts


def event_counts(parameters: Mapping[str, str], project: Project, now: datetime) -> object:
    """Return the response of `events`: the number of events by name and day. Days without events are omitted.

    Raises:
        ErrorResponse: 400 for a missing, invalid or unsupported parameter.
    """
    names = _parse_event(parameters)
    _check_fixed(parameters, type="general", unit="day", format="json")
    first, last = (parse_day(parameters, name) for name in ("from_date", "to_date"))
    if first > last:
        raise ErrorResponse(400, "Invalid parameter: from_date cannot be later than to_date")
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    today = now.astimezone(project.zone).date()
    counts = count_by_day(project, [day for day in days if day <= today], now)
    values = {name: counts.get(name, {}) for name in names}
    return {"data": {"series": list(map(str, days)), "values": values}, "legend_size": len(values)}


def event_names(parameters: Mapping[str, str], project: Project, now: datetime) -> object:
    """Return the response of `events/names`: the names of the last 31 days, most frequent first.

    Raises:
        ErrorResponse: 400 for a missing, invalid or unsupported parameter.
    """
    _check_fixed(parameters, type="general")
    limit = parameters.get("limit", str(MAX_EVENT_NAMES))
    if not limit.isdecimal():
        raise ErrorResponse(400, "Invalid parameter: limit")
    today = now.astimezone(project.zone).date()
    counts = count_by_day(project, [today - timedelta(days=number) for number in range(EVENT_NAME_DAYS)], now)
    return sorted(counts, key=lambda name: (-sum(counts[name].values()), name))[: min(int(limit), MAX_EVENT_NAMES)]


def insights_report(parameters: Mapping[str, str], project: Project, now: datetime) -> object:
    """Return the response of `insights`: a saved report.

    Raises:
        ErrorResponse: 400 for an unknown report.
    """
    number = parameters.get("bookmark_id", "")
    report = project.insights(int(number), now=now) if number.isdecimal() else None
    if report is None:
        raise ErrorResponse(400, "Invalid parameter: bookmark_id")
    return report


def lexicon(project: Project) -> object:
    """Return the response of `schemas`: all Lexicon schemas."""
    return {"status": "ok", "results": list(project.schemas())}


def _parse_event(parameters: Mapping[str, str]) -> list[str]:
    try:
        names = json.loads(parameters["event"])
    except KeyError:
        raise ErrorResponse(400, "Missing required parameter: event") from None
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ErrorResponse(400, "Invalid parameter: event must be a JSON list of strings")
    return names


def _check_fixed(parameters: Mapping[str, str], **expected: str) -> None:
    """Check parameters for which the emulator supports a single value. Only `format` is optional."""
    for name, value in expected.items():
        if name != "format" and name not in parameters:
            raise ErrorResponse(400, f"Missing required parameter: {name}")
        if parameters.get(name, value) != value:
            raise ErrorResponse(400, f"Invalid parameter: {name} must be {value}")
