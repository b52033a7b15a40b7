"""Profiles, a page at a time: the query API's `engage`."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from .error_responses import Refusal
from .expressions import BadExpressionError, Predicate, compile_where

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .project import Project

SESSION_EXPIRED = "request for page in uncached query for params"

_DEFAULT_PAGE = 1000
_MOST_IDS = 2000
_MOST_WITH_BEHAVIORS = 1000
_MOST_SESSIONS = 64


@dataclass(frozen=True)
class Paging:
    """How responses differ from the documented ones, in ways seen on the live API or not ruled out.

    Attributes:
        fields: The pages that have `page_size`, `total` and `session_id`: every one, the first alone, or none, where
            the first has its `session_id` all the same.
        total_error: By how many profiles `total` is too large.
        beyond_end: What comes instead of a page beyond the last: an empty one, a 400, or the first page again.
        has_new_session_ids: Whether each later page brings a new session id; the older ones stay valid.
    """

    fields: Literal["every", "first", "none"] = "every"
    total_error: int = 0
    beyond_end: Literal["empty", "refused", "repeated"] = "empty"
    has_new_session_ids: bool = False


def without_fields(response: Mapping[str, object]) -> dict[str, object]:
    """Return a page without the fields that it may lack; a first page keeps its session."""
    left_out = {"page_size", "total"} if response["page"] == 0 else {"page_size", "total", "session_id"}
    return {key: value for key, value in response.items() if key not in left_out}


@dataclass
class _Session:
    """The set of profiles one query found. Its pages are all cut from it, whatever changes meanwhile."""

    params: Mapping[str, str]
    profiles: Sequence[Mapping[str, object]]
    places: Sequence[int]
    bare: list[str | int]
    """Members of the cohort who have no profile."""
    page_size: int
    is_cached: bool
    """Whether there are later pages of it."""
    used: float = field(default_factory=time.monotonic)

    def __len__(self) -> int:
        return len(self.places) + len(self.bare)

    def page(self, number: int) -> list[Mapping[str, object]]:
        start, end = number * self.page_size, (number + 1) * self.page_size
        found = [self.profiles[place] for place in self.places[start:end]]
        past = len(self.places)
        bare = self.bare[max(0, start - past) : max(0, end - past)]
        return [*found, *({"$distinct_id": each, "$properties": {}} for each in bare)]


class Engage:
    """Answers queries for profiles.

    The first response opens a session; a further page needs its `session_id` and the same parameters. A session that is
    unknown, expired or was opened with other parameters gets 400, `request for page in uncached query for params`.

    Args:
        project: Where the profiles are.
        session_seconds: How long a session lives after it was last used.
        largest_page: A larger `page_size` is lowered to this; the response says what it used.
        data_views: What a profile must match to be seen through a data view, as an expression by `workspace_id`; a
            project without data views looks at no `workspace_id`.
        paging: How its responses differ from the documented ones.
    """

    def __init__(
        self,
        project: Project,
        session_seconds: float,
        largest_page: int,
        data_views: Mapping[str, str] | None = None,
        paging: Paging | None = None,
    ) -> None:
        self._paging = paging or Paging()
        self._project = project
        self._data_views = data_views
        self._session_seconds = session_seconds
        self._largest_page = largest_page
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()

    def respond(self, form: Mapping[str, str], now: datetime, workspace_id: str | None = None) -> dict[str, object]:
        """Return the response of one request.

        Args:
            form: The parameters.
            now: The instant of asking.
            workspace_id: The data view to look through; None for the whole project.

        Raises:
            Refusal: 400, for parameters that are wrong or contradict each other.
        """
        params = {key: value for key, value in form.items() if key not in {"page", "session_id"}}
        if workspace_id is not None and self._data_views is not None:
            params["workspace_id"] = workspace_id
        page = _whole(form, "page", 0)
        if page:
            name = form.get("session_id", "")
            session = self._recall(name, params)
        else:
            session = self._query(params, now)
            name = self._remember(session)
        results: Sequence[Mapping[str, object]] = session.page(self._place(page, session))
        if "output_properties" in params:
            wanted = set(_json_list(params, "output_properties"))
            results = [
                {**each, "$properties": {key: value for key, value in _properties(each).items() if key in wanted}}
                for each in results
            ]
        if page and self._paging.has_new_session_ids:
            name = self._remember(session)
        response: dict[str, object] = {
            "page": page,
            "page_size": session.page_size,
            "session_id": name,
            "status": "ok",
            "total": len(session) + self._paging.total_error,
            "results": results,
        }
        has_fields = self._paging.fields == "every" or (self._paging.fields == "first" and page == 0)
        return response if has_fields else without_fields(response)

    def _place(self, page: int, session: _Session) -> int:
        """Return the page to give for the one that was asked for."""
        if page == 0 or page * session.page_size < len(session):
            return page
        if self._paging.beyond_end == "refused":
            raise Refusal(400, SESSION_EXPIRED)
        return 0 if self._paging.beyond_end == "repeated" else page

    def is_page(self, form: Mapping[str, str]) -> bool:
        """Return whether this is a later page of a session."""
        return form.get("page", "0") != "0"

    def forget(self, session_id: str) -> None:
        """Let a session expire now."""
        with self._lock:
            self._sessions.pop(session_id, None)

    def _remember(self, session: _Session) -> str:
        name = f"{int(time.time())}-{secrets.token_hex(3).upper()}"
        if not session.is_cached:
            return name
        with self._lock:
            self._sessions[name] = session
            while len(self._sessions) > _MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
        return name

    def _recall(self, name: str, params: Mapping[str, str]) -> _Session:
        now = time.monotonic()
        with self._lock:
            session = self._sessions.get(name)
            if session is None or session.params != params or now - session.used > self._session_seconds:
                raise Refusal(400, SESSION_EXPIRED)
            session.used = now
            return session

    def _query(self, params: Mapping[str, str], now: datetime) -> _Session:
        page_size = min(_whole(params, "page_size", _DEFAULT_PAGE), self._largest_page)
        if page_size < 1:
            raise Refusal(400, "Invalid parameter: page_size must be at least 1")
        if "behaviors" in params and "filter_by_cohort" in params:
            raise Refusal(400, "behaviors and filter_by_cohort cannot be used together")
        as_of = _instant(params)
        if as_of is not None:
            now = min(now, as_of)
        profiles = self._project.profiles(params.get("data_group_id"), now=now)
        ids = _distinct_ids(params)
        members = self._members(params)
        match = read_where(params.get("where", ""))
        view = self._view(params)
        counts = self._behaviors(params, now)
        places: Sequence[int] = range(len(profiles))
        if any(narrow is not None for narrow in (ids, members, match, view, as_of)):
            places = [
                place
                for place, profile in enumerate(profiles)
                if (ids is None or str(profile["$distinct_id"]) in ids)
                and (members is None or str(profile["$distinct_id"]) in members)
                and (as_of is None or _existed(profile, as_of))
                and (match is None or match(_scope(profile, counts)))
                and (view is None or view(_scope(profile, counts)))
            ]
        bare: list[str | int] = []
        # Members without a profile cannot match an expression, so they come only where none is asked.
        if members and match is None and params.get("include_all_users", "true").lower() == "true":
            known = {str(profile["$distinct_id"]) for profile in profiles}
            bare = [each for text, each in members.items() if text not in known and (ids is None or text in ids)]
        # Mixpanel's docs: so many profiles, counted by behaviors, cannot be read without an instant to count from.
        is_cached = not counts or as_of is not None or len(places) <= _MOST_WITH_BEHAVIORS
        return _Session(params, profiles, places, bare, page_size, is_cached)

    def _view(self, params: Mapping[str, str]) -> Predicate | None:
        if "workspace_id" not in params or self._data_views is None:
            return None
        if params["workspace_id"] not in self._data_views:
            raise Refusal(400, f"Invalid parameter: workspace_id, no data view {params['workspace_id']}")
        return read_where(self._data_views[params["workspace_id"]])

    def _members(self, params: Mapping[str, str]) -> dict[str, str | int] | None:
        if "filter_by_cohort" not in params:
            return None
        cohort = _json(params, "filter_by_cohort")
        # A bare id is refused: it has to be an object.
        if not isinstance(cohort, dict) or not isinstance(cohort.get("id"), int):
            raise Refusal(400, 'Invalid parameter: filter_by_cohort must be an object such as {"id": 1}')
        members = self._project.cohort_members(cohort["id"])
        if members is None:
            raise Refusal(400, f"Invalid parameter: filter_by_cohort, no cohort {cohort['id']}")
        [group] = [each.get("data_group_id") for each in self._project.cohorts() if each["id"] == cohort["id"]]
        if group is not None and str(group) not in self._project.groups:
            raise Refusal(404, "Missing Datagroup")
        return {str(member): member for member in members}

    def _behaviors(self, params: Mapping[str, str], now: datetime) -> dict[str, Counter[str]]:
        """Count the events of each behavior by distinct id: `behaviors["name"]` in an expression reads the number."""
        counts: dict[str, Counter[str]] = {}
        for behavior in _json_list(params, "behaviors"):
            try:
                window, name = str(behavior["window"]), str(behavior["name"])  # type: ignore[index]
                events = {str(each["event"]) for each in behavior["event_selectors"]}  # type: ignore[index]
                days = timedelta(days=int(window.removesuffix("d")))
            except (KeyError, TypeError, ValueError, OverflowError):
                raise Refusal(400, "Invalid parameter: behaviors") from None
            today = now.astimezone(self._project.zone).date()
            counts[name] = Counter()
            for line in self._project.lines(today - days, today, now=now):
                try:
                    row = json.loads(line)
                    if row["event"] in events:
                        counts[name][str(row["properties"].get("distinct_id"))] += 1
                except (ValueError, TypeError, KeyError, AttributeError):
                    continue
        return counts


def read_where(text: str) -> Predicate | None:
    """Read an expression; an empty one matches everything and is None.

    Raises:
        Refusal: 400, it cannot be read.
    """
    if not text.strip():
        return None
    try:
        return compile_where(text)
    except BadExpressionError as error:
        raise Refusal(400, f"Invalid parameter: where, {error}") from None


def _properties(profile: Mapping[str, object]) -> dict[str, object]:
    properties = profile.get("$properties")
    return properties if isinstance(properties, dict) else {}


def _scope(profile: Mapping[str, object], counts: Mapping[str, Counter[str]]) -> dict[str, Mapping[str, object]]:
    distinct_id = profile["$distinct_id"]
    properties = {**_properties(profile), "$distinct_id": distinct_id}
    behaviors: dict[str, object] = {name: count[str(distinct_id)] for name, count in counts.items()}
    return {"properties": properties, "user": properties, "behaviors": behaviors}


def _existed(profile: Mapping[str, object], moment: datetime) -> bool:
    try:
        created = datetime.fromisoformat(str(_properties(profile)["$created"]))
    except (KeyError, ValueError):
        return True
    return (created if created.tzinfo else created.replace(tzinfo=UTC)) <= moment


def _distinct_ids(params: Mapping[str, str]) -> set[str] | None:
    if "distinct_ids" in params:
        ids = {str(each) for each in _json_list(params, "distinct_ids")}
        if len(ids) > _MOST_IDS:
            raise Refusal(400, f"Invalid parameter: distinct_ids, at most {_MOST_IDS}")
        return ids
    return {params["distinct_id"]} if "distinct_id" in params else None


def _instant(params: Mapping[str, str]) -> datetime | None:
    if "as_of_timestamp" not in params:
        return None
    try:
        return datetime.fromtimestamp(_whole(params, "as_of_timestamp", 0), UTC)
    except (ValueError, OverflowError, OSError):
        raise Refusal(400, "Invalid parameter: as_of_timestamp") from None


def _whole(params: Mapping[str, str], name: str, default: int) -> int:
    try:
        value = int(params.get(name, default))
    except ValueError:
        raise Refusal(400, f"Invalid parameter: {name} must be a whole number") from None
    if value < 0:
        raise Refusal(400, f"Invalid parameter: {name} must not be negative")
    return value


def _json(params: Mapping[str, str], name: str) -> object:
    try:
        return json.loads(params[name])
    except ValueError:
        raise Refusal(400, f"Invalid parameter: {name} must be JSON") from None


def _json_list(params: Mapping[str, str], name: str) -> list[object]:
    if name not in params:
        return []
    value = _json(params, name)
    if not isinstance(value, list):
        raise Refusal(400, f"Invalid parameter: {name} must be a JSON list")
    return value
