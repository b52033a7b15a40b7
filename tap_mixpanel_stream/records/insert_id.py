"""Generate a deterministic id for an event without `$insert_id`: every run generates the same id."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Mapping

    import msgspec

NAMESPACE = UUID("24330be8-5c3d-55d0-864c-61c4a8fa1670")
"""`uuid5(NAMESPACE_DNS, "tap-mixpanel-stream")`. A change here or in the algorithm changes all generated ids."""


def _length_prefixed(text: str) -> bytes:
    encoded = text.encode()
    return b"%d:%b" % (len(encoded), encoded)


_length_prefixed_key = lru_cache(10_000)(_length_prefixed)
"""Cached, since events share a few hundred property names."""


def stable_insert_id(event: str, instant: int, identity: str, others: Mapping[str, msgspec.Raw | bytes]) -> bytes:
    """Return an id made from everything that identifies the event and that Mixpanel does not rewrite.

    The hashed text is `<event><instant>,<identity>`, then `<name><value>,` for each property, sorted by name. Event,
    identity and property names are UTF-8 with their length in bytes and a colon in front. Values are the JSON texts as
    received. The text is unambiguous, so different events have different texts: lengths delimit the names, and a comma
    after a complete JSON text delimits the values.

    Args:
        event: The event's name.
        instant: The time of the event, in milliseconds since 1970 in UTC.
        identity: The distinct id that the event had before identities were merged.
        others: The other properties.

    Returns:
        A UUID of version 5 as text.
    """
    parts: list[bytes | msgspec.Raw] = [NAMESPACE.bytes, _length_prefixed(event), b"%d," % instant]
    parts.append(_length_prefixed(identity))
    for key in sorted(others):
        parts += (_length_prefixed_key(key), others[key], b",")
    digits = hashlib.sha1(b"".join(parts), usedforsecurity=False).hexdigest()
    # Set the version (one hex digit) and the variant (two bits), as `UUID(..., version=5)` does, but faster.
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}".encode()
