r"""Unpaired surrogates: `"\ud83d"` alone is an escape that JSON's grammar allows and that no text can hold.

The decoder refuses a whole line or page for one of them, even in a value that it does not decode. So each is replaced
by a mark that the decoder accepts, and put back into the values that were read: they pass unchanged.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# A pair is matched as one, and so is any other escape: in `\\ud83d` the backslash is escaped, so it is no surrogate.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def decode_masked(decode: Callable[[Any], T], text: bytes | bytearray) -> tuple[T, Callable[[bytes], bytes] | None]:
    """Decode JSON, with its unpaired surrogates masked where the decoder refuses them.

    Args:
        decode: Decodes a JSON text, and leaves values with surrogates undecoded (`msgspec.Raw`).
        text: The JSON text.

    Returns:
        What `decode` returned, and a function that restores the surrogates in bytes taken from it; None where nothing
        was masked.

    Raises:
        msgspec.DecodeError: The decoder refuses the text for another reason.
    """
    try:
        return decode(text), None
    except msgspec.DecodeError:
        masked_text = masked(text)
        if masked_text is None:
            raise
    text, mark = masked_text
    return decode(text), lambda part: unmasked(part, mark)


def convert_masked(convert: Callable[[bytes], bytes], text: bytes) -> bytes:
    """Return what `convert` makes of a JSON text, with the unpaired surrogates that the text has.

    Raises:
        msgspec.DecodeError: As `decode_masked`.
    """
    converted, restore = decode_masked(convert, text)
    return restore(converted) if restore else converted


def masked(text: bytes | bytearray) -> tuple[bytes, bytes] | None:
    """Replace the escape of each unpaired surrogate by a mark and its four digits.

    Args:
        text: JSON text.

    Returns:
        The text with marks, and the mark; None where there is no unpaired surrogate.
    """
    if not any(match[1] for match in _ESCAPE.finditer(text)):
        return None
    number = 0
    while (mark := b"\x7fhalf-%d\x7f" % number) in text:
        number += 1
    # Copied piece by piece: a substitution would hold every escape of a large page as an object of its own.
    out = bytearray()
    copied = 0
    for match in _ESCAPE.finditer(text):
        if match[1]:
            out += memoryview(text)[copied : match.start()]
            out += mark
            copied = match.start(1)
    out += memoryview(text)[copied:]
    return bytes(out), mark


def unmasked(text: bytes, mark: bytes) -> bytes:
    """Put the escapes back where the marks are."""
    return text.replace(mark, b"\\u")
