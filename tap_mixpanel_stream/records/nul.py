r"""`\u0000` taken out of strings: JSON has it, Postgres cannot store it."""

from __future__ import annotations

import re

_NUL = b"\\u0000"
# An escaped backslash is matched so that it is stepped over as one: in `\\u0000` no NUL is meant.
_BACKSLASH_OR_NUL = re.compile(rb"(\\\\)|\\u0000")


def without_nul(text: bytes) -> tuple[bytes, int]:
    """Take the NUL escapes out of valid JSON, where a backslash stands in strings alone.

    Returns:
        The text, and how many were taken out.
    """
    # Looking for one byte is ten times as quick as looking for six.
    if b"\\" not in text or _NUL not in text:
        return text, 0
    stripped = _BACKSLASH_OR_NUL.sub(rb"\1", text)
    return stripped, (len(text) - len(stripped)) // len(_NUL)
