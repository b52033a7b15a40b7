r"""Half surrogate pairs: `"\ud83d"` alone is an escape that JSON's grammar allows and that no text can hold.

The decoder refuses a whole line or page for one of them, even in a value that it steps over. So where it does, each is
replaced by a mark that it takes, and put back in what was made of the text: the value passes as it came.
"""

from __future__ import annotations

import re

# A pair is matched as one, and so is any other escape: in `\\ud83d` the backslash is escaped and no surrogate is meant.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def masked(text: bytes | bytearray) -> tuple[bytes, bytes] | None:
    """Replace the escape of each half pair by a mark and its four digits.

    Args:
        text: JSON text.

    Returns:
        The text with marks, and the mark; None where there is no half pair.
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
