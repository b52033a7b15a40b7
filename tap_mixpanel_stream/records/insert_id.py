"""An id for an event that came without one: the same on every run."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Mapping

    import msgspec

NAMESPACE = UUID("24330be8-5c3d-55d0-864c-61c4a8fa1670")
"""`uuid5(NAMESPACE_DNS, "tap-mixpanel-stream")`. Changing it, or anything below, changes every id ever given."""


def _told_its_length(text: str) -> bytes:
    spelled = text.encode()
    return b"%d:%b" % (len(spelled), spelled)


_key_text = lru_cache(10_000)(_told_its_length)
"""Keeps what is hashed for a key: the same few hundred keys come with every event."""


def stable_insert_id(event: str, instant: int, identity: str, others: Mapping[str, msgspec.Raw | bytes]) -> bytes:
    """Make the id from everything that identifies the event and that Mixpanel does not rewrite.

    What is hashed is `<event><instant>,<identity>` and for each property `<key><value>,` where event, identity and keys
    are their UTF-8 after its length and a colon, and values are the JSON texts received. No two events have the same:
    a length says where a name ends, and a JSON text where it ends itself, before a comma that is not inside of it.

    Args:
        event: The event's name.
        instant: When it happened, in milliseconds since 1970 in UTC.
        identity: Who did it, under the name before identities were merged.
        others: Its other properties.

    Returns:
        The text of a UUID of version 5.
    """
    parts: list[bytes | msgspec.Raw] = [NAMESPACE.bytes, _told_its_length(event), b"%d," % instant]
    parts.append(_told_its_length(identity))
    for key in sorted(others):
        parts += (_key_text(key), others[key], b",")
    digits = hashlib.sha1(b"".join(parts), usedforsecurity=False).hexdigest()
    # The version takes the place of one digit, the variant that of two bits: what `UUID(..., version=5)` does, quicker.
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}".encode()
