"""A JSON object as its members, each value the text that it came as."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..surrogates import masked, unmasked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Members = dict[str, msgspec.Raw]

read_members = msgspec.json.Decoder(Members).decode
"""Reads an object down to its members and steps over their values. Of a key given twice the last wins.

The whole text is checked all the same, but for UTF-8 in the values: numbers, escapes and control characters too.
"""

Parts = list[bytes | msgspec.Raw]
"""Pieces of a text, for `b"".join`, which takes undecoded values as they are."""

read_string = msgspec.json.Decoder(str).decode
write_string = msgspec.json.Encoder().encode

NULL = b"null"


class NotARecord(ValueError):  # noqa: N818  # The errors of this package are named after what they are about.
    """JSON, but not of the event or profile it should be; the message says why."""


def value_of(members: Members, key: str) -> bytes:
    """The JSON text of a member, `null` where there is none."""
    value = members.get(key)
    return NULL if value is None else bytes(value)


class KeyTexts(dict[str, bytes]):
    """Keeps what is written for a key: the same few hundred keys come with every event.

    Args:
        write: writes a key for the first time.
    """

    _MOST = 10_000

    def __init__(self, write: Callable[[str], bytes]) -> None:
        super().__init__()
        self._write = write

    def __missing__(self, key: str) -> bytes:
        if len(self) >= self._MOST:
            self.clear()
        text = self[key] = self._write(key)
        return text


_comma_key_colon = KeyTexts(lambda key: b"," + write_string(key) + b":")


def whole_or_masked(convert: Callable[[bytes], bytes], text: bytes) -> bytes:
    """Convert a text that the decoder may refuse for half a surrogate pair alone.

    Raises:
        msgspec.DecodeError: it has another reason.
    """
    try:
        return convert(text)
    except msgspec.DecodeError:
        without_halves = masked(text)
        if without_halves is None:
            raise
    text, mark = without_halves
    return unmasked(convert(text), mark)


def joined(members: Mapping[str, msgspec.Raw | bytes]) -> bytes:
    """Put members together to an object again, each value byte for byte as it is."""
    parts: Parts = []
    for key, value in members.items():
        parts += (_comma_key_colon[key], value)
    return b"{" + b"".join(parts)[1:] + b"}"


def string_text(value: bytes) -> bytes:
    """A value as the JSON text of a string: a string as it is, null as `""`, anything else as its text."""
    if value.startswith(b'"'):
        return value
    return b'""' if value == NULL else write_string(value.decode())


def event_text(members: Members) -> bytes:
    """The JSON text of an event's name.

    Raises:
        NotARecord: there is none, or it is no string.
    """
    event = value_of(members, "event")
    if not event.startswith(b'"'):
        raise NotARecord("`event` is missing" if "event" not in members else "`event` is no string")
    return event


def object_text(members: Members, key: str) -> bytes:
    """The JSON text of a member that is an object, `{}` for null or none.

    Raises:
        NotARecord: it is anything else.
    """
    value = value_of(members, key)
    if not value.startswith(b"{") and value != NULL:
        raise NotARecord(f"`{key}` is no object")
    return b"{}" if value == NULL else value
