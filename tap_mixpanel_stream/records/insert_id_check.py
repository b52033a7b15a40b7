"""Whether one `$insert_id` stands on events of many users, found out from a sample of lines.

Some clients send a constant id. `insert_id` is a part of the key, so of such events with the same name and time a
target that updates by key keeps one. Two users with one id can be one person, before and after identities were merged.
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
"""Users from which on an id counts as shared."""

ENOUGH_EVENTS = 10
"""Events with shared ids from which on the check reports them."""

_REMEMBERED = 20_000
"""Ids that are remembered."""


class _Ids(msgspec.Struct, gc=False, rename={"insert_id": "$insert_id"}):
    insert_id: msgspec.Raw = NULL
    distinct_id: msgspec.Raw = NULL


class _Event(msgspec.Struct, gc=False):
    properties: _Ids


_read = msgspec.json.Decoder(_Event).decode
_ABSENT = {bytes(NULL), bytes(EMPTY)}


class InsertIdCheck:
    """Counts the users of each insert id."""

    def __init__(self) -> None:
        self._sampled = 0
        self._is_reported = False
        # By the hash of an id: its events, its first user, and all users where there are several.
        self._events: Counter[int] = Counter()
        self._first_user: dict[int, int] = {}
        self._users: dict[int, set[int]] = {}

    def look(self, lines: Iterable[bytes]) -> None:
        """Look at some lines, none of which need be an event."""
        if self._is_reported:
            return
        for line in lines:
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                ids = _read(line).properties
                self._sampled += 1
                if bytes(ids.insert_id) not in _ABSENT:
                    self._add(hash(bytes(ids.insert_id)), hash(bytes(ids.distinct_id)))

    def report(self) -> str | None:
        """Return what was found, once: when enough events have shared ids."""
        shared = [key for key, users in self._users.items() if len(users) >= MANY_USERS]
        events = sum(self._events[key] for key in shared)
        if self._is_reported or events < ENOUGH_EVENTS:
            return None
        self._is_reported = True
        most = max(len(self._users[key]) for key in shared)
        return (
            f"{events:,} of {self._sampled:,} sampled events have an $insert_id that other users share, up to "
            f"{most:,} users with one id: a target that updates by key can keep one row of several. Add distinct_id to "
            "the key (docs/streams.md#keys)"
        )

    def _add(self, insert_id: int, user: int) -> None:
        if insert_id not in self._events and len(self._events) >= _REMEMBERED:
            return
        self._events[insert_id] += 1
        first = self._first_user.setdefault(insert_id, user)
        if user != first:
            self._users.setdefault(insert_id, {first}).add(user)
