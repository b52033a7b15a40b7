"""Check a sample of events for `$insert_id`s that many users share.

Some clients send a constant `$insert_id`. Since `insert_id` is part of the key, a target that upserts keeps only one of
several such events with the same name and time. Two users with the same id are not enough for a report: they can be one
person, before and after an identity merge.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from .json_objects import EMPTY, NULL

if TYPE_CHECKING:
    from collections.abc import Iterable

MANY_USERS = 3
"""Number of users with the same id for the id to count as shared."""

MIN_EVENTS = 10
"""Number of events with shared ids for the check to report them."""

_MAX_IDS = 20_000
"""Maximum number of ids in memory."""


class _Ids(msgspec.Struct, gc=False, rename={"insert_id": "$insert_id"}):
    insert_id: msgspec.Raw = NULL
    distinct_id: msgspec.Raw = NULL


class _Event(msgspec.Struct, gc=False):
    properties: _Ids


_read_event = msgspec.json.Decoder(_Event).decode
_ABSENT = {bytes(NULL), bytes(EMPTY)}


class InsertIdCheck:
    """Counts the users of each insert id."""

    def __init__(self) -> None:
        self._sampled = 0
        self._is_reported = False
        # By the hash of an id: the number of its events, its first user, and all of its users if there are several.
        self._events: Counter[int] = Counter()
        self._first_user: dict[int, int] = {}
        self._users: dict[int, set[int]] = {}

    def add(self, lines: Iterable[bytes]) -> None:
        """Add a sample of lines. Lines that are not events are skipped."""
        if self._is_reported:
            return
        for line in lines:
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                ids = _read_event(line).properties
                self._sampled += 1
                if bytes(ids.insert_id) not in _ABSENT:
                    self._count(hash(bytes(ids.insert_id)), hash(bytes(ids.distinct_id)))

    def report(self) -> str | None:
        """Return a warning the first time that enough events have shared ids; otherwise None."""
        shared = [key for key, users in self._users.items() if len(users) >= MANY_USERS]
        events = sum(self._events[key] for key in shared)
        if self._is_reported or events < MIN_EVENTS:
            return None
        self._is_reported = True
        most = max(len(self._users[key]) for key in shared)
        return (
            f"{events:,} of {self._sampled:,} sampled events have an $insert_id that other users share, up to "
            f"{most:,} users with one id: a target that updates by key can keep one row of several. Add distinct_id to "
            "the key (docs/streams.md#keys)"
        )

    def _count(self, insert_id: int, user: int) -> None:
        if insert_id not in self._events and len(self._events) >= _MAX_IDS:
            return
        self._events[insert_id] += 1
        first = self._first_user.setdefault(insert_id, user)
        if user != first:
            self._users.setdefault(insert_id, {first}).add(user)
