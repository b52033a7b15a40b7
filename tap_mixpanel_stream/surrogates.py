r"""Decode JSON with unpaired surrogates: escapes such as `"\ud83d"` alone, which JSON allows but UTF-8 does not.

The decoder rejects a whole line or page because of one unpaired surrogate, even in a value that it does not decode. The
functions here therefore replace each one with a placeholder that the decoder accepts, and restore it in the result.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# Also matches surrogate pairs and all other escapes, to skip them: `\\ud83d` is an escaped backslash, not a surrogate.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def decode_masked(decode: Callable[[Any], T], text: bytes | bytearray) -> tuple[T, Callable[[bytes], bytes] | None]:
    """Decode JSON, masking its unpaired surrogates if the decoder rejects them.

    Args:
        decode: Decodes a JSON text, and leaves values with surrogates undecoded (`msgspec.Raw`).
        text: The JSON text.

    Returns:
        The result of `decode`, and a function that restores the surrogates in bytes from that result. The function is
        None if nothing was masked.

    Raises:
        msgspec.DecodeError: The decoder rejects the text for another reason.
    """
    try:
        return decode(text), None
    except msgspec.DecodeError:
        masked = mask(text)
        if masked is None:
            raise
    text, placeholder = masked
    return decode(text), lambda part: unmask(part, placeholder)


def convert_masked(convert: Callable[[bytes], bytes], text: bytes) -> bytes:
    """Convert a JSON text with `convert`, keeping its unpaired surrogates.

    Raises:
        msgspec.DecodeError: As for `decode_masked`.
    """
    converted, restore = decode_masked(convert, text)
    return restore(converted) if restore else converted


def mask(text: bytes | bytearray) -> tuple[bytes, bytes] | None:
    """Replace the backslash and `u` of each unpaired surrogate with a placeholder.

    Args:
        text: The JSON text.

    Returns:
        The masked text and the placeholder; None if there is no unpaired surrogate.
    """
    if not any(match[1] for match in _ESCAPE.finditer(text)):
        return None
    number = 0
    while (placeholder := b"\x7fhalf-%d\x7f" % number) in text:
        number += 1
    # Copied piece by piece, because `re.sub` would create an object for every escape of a large page.
    out = bytearray()
    copied = 0
    for match in _ESCAPE.finditer(text):
        if match[1]:
            out += memoryview(text)[copied : match.start()]
            out += placeholder
            copied = match.start(1)
    out += memoryview(text)[copied:]
    return bytes(out), placeholder


def unmask(text: bytes, placeholder: bytes) -> bytes:
    """Restore the escapes that `mask` replaced."""
    return text.replace(placeholder, b"\\u")
