"""The `engage` endpoint of the query API, which returns profiles in pages."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from .error_responses import ErrorResponse
from .expressions import BadExpressionError, Predicate, compile_where

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .project import Project

SESSION_EXPIRED = "request for page in uncached query for params"

_DEFAULT_PAGE = 1000
_MAX_DISTINCT_IDS = 2000
_MAX_CACHED_WITH_BEHAVIORS = 1000
_MAX_SESSIONS = 64


@dataclass(frozen=True)
class Paging:
    """Deviations from the documented paging that others have seen on the live API or that cannot be ruled out.

    Attributes:
        fields: Pages that contain `page_size`, `total` and `session_id`: "every" page, only the "first", or "none".
            With "none", the first page still contains `session_id`.
        total_excess: How much larger `total` is than the number of profiles.
        beyond_end: Response to a page number after the last page: an "empty" page, a 400 "error", or the "first" page.
        rotate_session_ids: Whether each later page returns a new session id. The previous ids remain valid.
    """

    fields: Literal["every", "first", "none"] = "every"
    total_excess: int = 0
    beyond_end: Literal["empty", "error", "first"] = "empty"
    rotate_session_ids: bool = False


def without_fields(response: Mapping[str, object]) -> dict[str, object]:
    """Return a page without its optional fields. The first page keeps `session_id`."""
    omitted = {"page_size", "total"} if response["page"] == 0 else {"page_size", "total", "session_id"}
    return {key: value for key, value in response.items() if key not in omitted}


@dataclass
class _Session:
    """The result of a query. All pages come from this snapshot, even if profiles change in the meantime.

    Attributes:
        params: Parameters of the query.
        profiles: Profiles of the project or group.
        indexes: Indexes of the matching profiles in `profiles`.
        ids_without_profile: Members of the cohort without a profile.
        page_size: Profiles per page.
        is_cached: Whether later pages can be requested.
        last_used: Time of the last request on the monotonic clock, in seconds.
    """

    params: Mapping[str, str]
    profiles: Sequence[Mapping[str, object]]
    indexes: Sequence[int]
    ids_without_profile: list[str | int]
    page_size: int
    is_cached: bool
    last_used: float = field(default_factory=time.monotonic)

    def __len__(self) -> int:
        return len(self.indexes) + len(self.ids_without_profile)

    def page(self, number: int) -> list[Mapping[str, object]]:
        start, end = number * self.page_size, (number + 1) * self.page_size
        found = [self.profiles[index] for index in self.indexes[start:end]]
        count = len(self.indexes)
        ids = self.ids_without_profile[max(0, start - count) : max(0, end - count)]
        return [*found, *({"$distinct_id": each, "$properties": {}} for each in ids)]


class Engage:
    """The `engage` endpoint.

    A request for the first page opens a session. A request for a later page must contain the `session_id` and the same
    parameters. If the session is unknown or expired, or the parameters differ, the response is 400
    `request for page in uncached query for params`.

    Args:
        project: Contents of the project.
        session_lifetime: Seconds from its last use until a session expires.
        max_page_size: Maximum `page_size`. The response contains the page size that is used.
        data_views: For each `workspace_id`, the `where` expression that profiles in this data view match. None for a
            project without data views, which ignores `workspace_id`.
        paging: Deviations from the documented paging.
    """

    def __init__(
        self,
        project: Project,
        session_lifetime: float,
        max_page_size: int,
        data_views: Mapping[str, str] | None = None,
        paging: Paging | None = None,
    ) -> None:
        self._paging = paging or Paging()
        self._project = project
        self._data_views = data_views
        self._session_lifetime = session_lifetime
        self._max_page_size = max_page_size
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()

    def respond(self, form: Mapping[str, str], now: datetime, workspace_id: str | None = None) -> dict[str, object]:
        """Return the response to a request.

        Args:
            form: Parameters of the request.
            now: Time of the request.
            workspace_id: Id of the data view; None for the whole project.

        Raises:
            ErrorResponse: 400 for invalid or conflicting parameters, 404 for a cohort of a deleted group.
        """
        params = {key: value for key, value in form.items() if key not in {"page", "session_id"}}
        if workspace_id is not None and self._data_views is not None:
            params["workspace_id"] = workspace_id
        page = _parse_int(form, "page", 0)
        if page:
            session_id = form.get("session_id", "")
            session = self._find_session(session_id, params)
        else:
            session = self._query(params, now)
            session_id = self._store_session(session)
        results: Sequence[Mapping[str, object]] = session.page(self._served_page(page, session))
        if "output_properties" in params:
            selected = set(_parse_json_list(params, "output_properties"))
            results = [
                {**each, "$properties": {key: value for key, value in _properties(each).items() if key in selected}}
                for each in results
            ]
        if page and self._paging.rotate_session_ids:
            session_id = self._store_session(session)
        response: dict[str, object] = {
            "page": page,
            "page_size": session.page_size,
            "session_id": session_id,
            "status": "ok",
            "total": len(session) + self._paging.total_excess,
            "results": results,
        }
        has_fields = self._paging.fields == "every" or (self._paging.fields == "first" and page == 0)
        return response if has_fields else without_fields(response)

    def _served_page(self, page: int, session: _Session) -> int:
        """Return the number of the page to send for a requested page."""
        if page == 0 or page * session.page_size < len(session):
            return page
        if self._paging.beyond_end == "error":
            raise ErrorResponse(400, SESSION_EXPIRED)
        return 0 if self._paging.beyond_end == "first" else page

    def is_later_page(self, form: Mapping[str, str]) -> bool:
        """Return whether a request is for a later page of a session."""
        return form.get("page", "0") != "0"

    def expire(self, session_id: str) -> None:
        """Expire a session."""
        with self._lock:
            self._sessions.pop(session_id, None)

    def _store_session(self, session: _Session) -> str:
        session_id = f"{int(time.time())}-{secrets.token_hex(3).upper()}"
        if not session.is_cached:
            return session_id
        with self._lock:
            self._sessions[session_id] = session
            while len(self._sessions) > _MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
        return session_id

    def _find_session(self, session_id: str, params: Mapping[str, str]) -> _Session:
        now = time.monotonic()
        with self._lock:
            session = self._sessions.get(session_id)
            if session is None or session.params != params or now - session.last_used > self._session_lifetime:
                raise ErrorResponse(400, SESSION_EXPIRED)
            session.last_used = now
            return session

    def _query(self, params: Mapping[str, str], now: datetime) -> _Session:
        page_size = min(_parse_int(params, "page_size", _DEFAULT_PAGE), self._max_page_size)
        if page_size < 1:
            raise ErrorResponse(400, "Invalid parameter: page_size must be at least 1")
        if "behaviors" in params and "filter_by_cohort" in params:
            raise ErrorResponse(400, "behaviors and filter_by_cohort cannot be used together")
        as_of = _parse_as_of(params)
        if as_of is not None:
            now = min(now, as_of)
        profiles = self._project.profiles(params.get("data_group_id"), now=now)
        ids = _distinct_ids(params)
        members = self._cohort_members(params)
        match = parse_where(params.get("where", ""))
        view = self._data_view(params)
        counts = self._count_behaviors(params, now)
        indexes: Sequence[int] = range(len(profiles))
        if any(condition is not None for condition in (ids, members, match, view, as_of)):
            indexes = [
                index
                for index, profile in enumerate(profiles)
                if (ids is None or str(profile["$distinct_id"]) in ids)
                and (members is None or str(profile["$distinct_id"]) in members)
                and (as_of is None or _existed_at(profile, as_of))
                and (match is None or match(_scope(profile, counts)))
                and (view is None or view(_scope(profile, counts)))
            ]
        ids_without_profile: list[str | int] = []
        # Members without a profile cannot match an expression, so a query with an expression omits them.
        if members and match is None and params.get("include_all_users", "true").lower() == "true":
            known = {str(profile["$distinct_id"]) for profile in profiles}
            ids_without_profile = [
                each for text, each in members.items() if text not in known and (ids is None or text in ids)
            ]
        # Mixpanel's documentation: a query with behaviors that matches more than 1000 profiles needs
        # `as_of_timestamp` for later pages.
        is_cached = not counts or as_of is not None or len(indexes) <= _MAX_CACHED_WITH_BEHAVIORS
        return _Session(params, profiles, indexes, ids_without_profile, page_size, is_cached)

    def _data_view(self, params: Mapping[str, str]) -> Predicate | None:
        if "workspace_id" not in params or self._data_views is None:
            return None
        if params["workspace_id"] not in self._data_views:
            raise ErrorResponse(400, f"Invalid parameter: workspace_id, no data view {params['workspace_id']}")
        return parse_where(self._data_views[params["workspace_id"]])

    def _cohort_members(self, params: Mapping[str, str]) -> dict[str, str | int] | None:
        if "filter_by_cohort" not in params:
            return None
        cohort = _parse_json(params, "filter_by_cohort")
        # Mixpanel accepts only an object, not a bare id.
        if not isinstance(cohort, dict) or not isinstance(cohort.get("id"), int):
            raise ErrorResponse(400, 'Invalid parameter: filter_by_cohort must be an object such as {"id": 1}')
        members = self._project.cohort_members(cohort["id"])
        if members is None:
            raise ErrorResponse(400, f"Invalid parameter: filter_by_cohort, no cohort {cohort['id']}")
        [group] = [each.get("data_group_id") for each in self._project.cohorts() if each["id"] == cohort["id"]]
        if group is not None and str(group) not in self._project.groups:
            raise ErrorResponse(404, "Missing Datagroup")
        return {str(member): member for member in members}

    def _count_behaviors(self, params: Mapping[str, str], now: datetime) -> dict[str, Counter[str]]:
        """Count the events of each behavior by distinct id, for `behaviors["name"]` in an expression."""
        counts: dict[str, Counter[str]] = {}
        for behavior in _parse_json_list(params, "behaviors"):
            try:
                window, name = str(behavior["window"]), str(behavior["name"])  # type: ignore[index]
                events = {str(each["event"]) for each in behavior["event_selectors"]}  # type: ignore[index]
                days = timedelta(days=int(window.removesuffix("d")))
            except (KeyError, TypeError, ValueError, OverflowError):
                raise ErrorResponse(400, "Invalid parameter: behaviors") from None
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


def parse_where(text: str) -> Predicate | None:
    """Compile an expression. Return None for an empty expression, which matches everything.

    Raises:
        ErrorResponse: 400 for an invalid expression.
    """
    if not text.strip():
        return None
    try:
        return compile_where(text)
    except BadExpressionError as error:
        raise ErrorResponse(400, f"Invalid parameter: where, {error}") from None


def _properties(profile: Mapping[str, object]) -> dict[str, object]:
    properties = profile.get("$properties")
    return properties if isinstance(properties, dict) else {}


def _scope(profile: Mapping[str, object], counts: Mapping[str, Counter[str]]) -> dict[str, Mapping[str, object]]:
    distinct_id = profile["$distinct_id"]
    properties = {**_properties(profile), "$distinct_id": distinct_id}
    behaviors: dict[str, object] = {name: count[str(distinct_id)] for name, count in counts.items()}
    return {"properties": properties, "user": properties, "behaviors": behaviors}


def _existed_at(profile: Mapping[str, object], moment: datetime) -> bool:
    try:
        created = datetime.fromisoformat(str(_properties(profile)["$created"]))
    except (KeyError, ValueError):
        return True
    return (created if created.tzinfo else created.replace(tzinfo=UTC)) <= moment


def _distinct_ids(params: Mapping[str, str]) -> set[str] | None:
    if "distinct_ids" in params:
        ids = {str(each) for each in _parse_json_list(params, "distinct_ids")}
        if len(ids) > _MAX_DISTINCT_IDS:
            raise ErrorResponse(400, f"Invalid parameter: distinct_ids, at most {_MAX_DISTINCT_IDS}")
        return ids
    return {params["distinct_id"]} if "distinct_id" in params else None


def _parse_as_of(params: Mapping[str, str]) -> datetime | None:
    if "as_of_timestamp" not in params:
        return None
    try:
        return datetime.fromtimestamp(_parse_int(params, "as_of_timestamp", 0), UTC)
    except (ValueError, OverflowError, OSError):
        raise ErrorResponse(400, "Invalid parameter: as_of_timestamp") from None


def _parse_int(params: Mapping[str, str], name: str, default: int) -> int:
    try:
        value = int(params.get(name, default))
    except ValueError:
        raise ErrorResponse(400, f"Invalid parameter: {name} must be an integer") from None
    if value < 0:
        raise ErrorResponse(400, f"Invalid parameter: {name} must not be negative")
    return value


def _parse_json(params: Mapping[str, str], name: str) -> object:
    try:
        return json.loads(params[name])
    except ValueError:
        raise ErrorResponse(400, f"Invalid parameter: {name} must be JSON") from None


def _parse_json_list(params: Mapping[str, str], name: str) -> list[object]:
    if name not in params:
        return []
    value = _parse_json(params, name)
    if not isinstance(value, list):
        raise ErrorResponse(400, f"Invalid parameter: {name} must be a JSON list")
    return value
