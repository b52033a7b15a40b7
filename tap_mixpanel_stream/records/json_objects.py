"""A JSON object as its members, each value the text that it came as."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..surrogates import masked, unmasked

if TYPE_CHECKING:
    from collections.abc import Callable

Members = dict[str, msgspec.Raw]

read_members = msgspec.json.Decoder(Members).decode
"""Reads an object down to its members and steps over their values. Of a key given twice the last wins.

The whole text is checked all the same, but for UTF-8 in the values: numbers, escapes and control characters too.
"""

read_string = msgspec.json.Decoder(str).decode

_encoder = msgspec.json.Encoder()
encode = _encoder.encode
encode_lines = _encoder.encode_lines
"""Write structs, dictionaries and strings as JSON, `msgspec.Raw` in them byte for byte as it came."""

NULL = msgspec.Raw(b"null")
EMPTY = msgspec.Raw(b'""')
_QUOTE = ord('"')


class NotARecord(ValueError):  # noqa: N818  # The errors of this package are named after what they are about.
    """JSON, but not of the event or profile it should be; the message says why."""


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


def is_string(value: msgspec.Raw) -> bool:
    """Whether a value is a string."""
    return bytes(value)[0] == _QUOTE


def as_string(value: msgspec.Raw) -> msgspec.Raw:
    """A value as a string: a string as it is, null as `EMPTY`, anything else as its JSON text.

    An empty string is `EMPTY` itself.
    """
    text = bytes(value)
    if text[0] == _QUOTE:
        return value if len(text) > len('""') else EMPTY
    return EMPTY if text == b"null" else msgspec.Raw(encode(text.decode()))


def event_name(members: Members) -> msgspec.Raw:
    """The name of an event.

    Raises:
        NotARecord: there is none, or it is no string.
    """
    name = members.get("event", NULL)
    if not is_string(name):
        raise NotARecord("`event` is missing" if "event" not in members else "`event` is no string")
    return name


def object_in(members: Members, key: str) -> Members:
    """The members of a member that is an object; none for null or no such member.

    Raises:
        NotARecord: it is anything else.
    """
    value = members.get(key, NULL)
    if bytes(value) == b"null":
        return {}
    if not bytes(value).startswith(b"{"):
        raise NotARecord(f"`{key}` is no object")
    return read_members(value)
