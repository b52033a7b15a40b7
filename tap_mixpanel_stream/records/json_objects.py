"""Read JSON objects into members whose values stay as Mixpanel sent them, byte for byte."""

from __future__ import annotations

import msgspec

Members = dict[str, msgspec.Raw]

read_members = msgspec.json.Decoder(Members).decode
"""Read an object into its members, with undecoded values. If a key is repeated, the last value wins.

The decoder validates the whole text, values included, except that it does not check UTF-8.
"""

read_string = msgspec.json.Decoder(str).decode
"""Decode a JSON string."""

_encoder = msgspec.json.Encoder()
encode = _encoder.encode
encode_lines = _encoder.encode_lines
"""Write structs, dictionaries and strings as JSON. A `msgspec.Raw` value is copied byte for byte."""

NULL = msgspec.Raw(b"null")
EMPTY = msgspec.Raw(b'""')
_QUOTE = ord('"')


class NotARecord(ValueError):  # noqa: N818  # Named like the other errors of this package.
    """The text is JSON, but not an event or profile. The message gives the reason."""


class AnyObject(msgspec.Struct, gc=False):
    """An object that the decoder validates without reading its members."""


def is_string(value: msgspec.Raw) -> bool:
    """Return whether a value is a string."""
    return bytes(value)[0] == _QUOTE


def as_string(value: msgspec.Raw) -> msgspec.Raw:
    """Return a value as a string: strings unchanged, null as an empty string, other values as their JSON text.

    An empty string is always the object `EMPTY`, so callers can compare by identity.
    """
    text = bytes(value)
    if text[0] == _QUOTE:
        return value if len(text) > len('""') else EMPTY
    return EMPTY if text == b"null" else msgspec.Raw(encode(text.decode()))


def event_name(members: Members) -> msgspec.Raw:
    """Return the name of an event.

    Raises:
        NotARecord: The name is missing or not a string.
    """
    name = members.get("event", NULL)
    if not is_string(name):
        raise NotARecord("`event` is missing" if "event" not in members else "`event` is not a string")
    return name


def object_in(members: Members, key: str) -> Members:
    """Return the members of a nested object; an empty dictionary if the member `key` is null or missing.

    Raises:
        NotARecord: The member is neither an object nor null.
    """
    value = members.get(key, NULL)
    if bytes(value) == b"null":
        return {}
    if not bytes(value).startswith(b"{"):
        raise NotARecord(f"`{key}` is not an object")
    return read_members(value)


def without(keys: frozenset[str], members: Members) -> bytes:
    """Return an object as JSON, without the given members."""
    return encode({key: value for key, value in members.items() if key not in keys})
