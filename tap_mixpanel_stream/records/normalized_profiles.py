"""The normalized shape of a profile: its id and its time of last update as columns, every other property as it came."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from .members import NULL, NotARecord, joined, object_text, read_members, string_text, value_of
from .profile_page import ProfilePage
from .schemas import OPEN_OBJECT, STRING, STRING_OR_NULL, record_schema

if TYPE_CHECKING:
    from .envelope import Envelope

_COLUMNS = {"distinct_id": STRING, "last_seen": STRING_OR_NULL, "properties": OPEN_OBJECT}
_KEY = ("distinct_id",)

_profile = re.compile(rb'\{"\$distinct_id":"([^"\\\x00-\x1f]*+)","\$properties":\{(?=")').match
_LAST_SEEN = b',"$last_seen":"'
_CLOSING_BRACE = ord("}")


class _Never:
    """A type that no JSON value has, null included: a member of it is refused."""


class _Others(msgspec.Struct, gc=False, rename={"last_seen": "$last_seen"}):
    """A profile's properties without the one that became a column."""

    last_seen: _Never | msgspec.UnsetType = msgspec.UNSET


_check_others = msgspec.json.Decoder(_Others).decode


class _InDoubt(Exception):  # noqa: N818  # No error: the exact way decides.
    """A result does not show what it would have to show."""


class NormalizedProfiles(ProfilePage):
    """Takes the columns out of each result of a page. See `ProfilePage`."""

    def __init__(self, *, envelope: Envelope, selected: frozenset[str], strip_nul: bool) -> None:
        super().__init__(envelope=envelope, strip_nul=strip_nul)
        self._selected = selected

    def _record(self, result: bytes) -> bytes:
        try:
            if len(self._selected) == len(_COLUMNS):
                return _cut_profile(result)
        except (_InDoubt, msgspec.DecodeError, RecursionError):
            pass
        return self._rebuilt(result)

    def _rebuilt(self, result: bytes) -> bytes:
        members = read_members(result)
        key = value_of(members, "$distinct_id")
        if key == NULL:
            raise NotARecord("`$distinct_id` is missing")
        properties = read_members(object_text(members, "$properties"))
        last_seen = value_of(properties, "$last_seen")
        properties.pop("$last_seen", None)
        columns = {
            "distinct_id": string_text(key),
            "last_seen": NULL if last_seen == NULL else string_text(last_seen),
            "properties": joined(properties),
        }
        return joined({column: value for column, value in columns.items() if column in self._selected})


def _cut_profile(result: bytes) -> bytes:
    """Make the record of a result that reads `{"$distinct_id":"D","$properties":{<left>,"$last_seen":"L"<right>}`.

    What shows that it does is what shows it of an event.
    """
    match = _profile(result)
    if not match or result[-1] != _CLOSING_BRACE:
        raise _InDoubt
    left, found, right = result[match.end() : -1].partition(_LAST_SEEN)
    if not found:
        raise _InDoubt
    _check_others(b"{" + left + b"}")
    _check_others(b'{"":"' + right)
    last_seen, _, right = right.partition(b'"')
    if b"\\" in last_seen:
        raise _InDoubt
    return b"".join(
        (b'{"distinct_id":"', match[1], b'","last_seen":"', last_seen, b'","properties":{', left, right, b"}")
    )


@dataclass(frozen=True, slots=True)
class NormalizedProfileShape:
    """A profile with its time of last update as a column. See `shapes.ProfileShape`."""

    schema: dict[str, Any]
    key_properties: tuple[str, ...]
    columns: tuple[str, ...]
    needs: tuple[str, ...]

    def converter(
        self, *, envelope: Envelope, selected: frozenset[str] | None = None, strip_nul: bool = False
    ) -> NormalizedProfiles:
        """Make the converter of a stream's profiles."""
        return NormalizedProfiles(
            envelope=envelope,
            selected=frozenset(self.columns) if selected is None else selected,
            strip_nul=strip_nul,
        )


PROFILES = NormalizedProfileShape(record_schema(_KEY, _COLUMNS), _KEY, tuple(_COLUMNS), needs=("$last_seen",))
