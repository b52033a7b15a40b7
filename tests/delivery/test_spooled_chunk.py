from __future__ import annotations

import resource

import pytest

from tap_mixpanel_stream.delivery.spool import IN_MEMORY, SpoolError
from tap_mixpanel_stream.delivery.spooled_chunk import SpooledChunk


def test_a_portion_is_complete_only_if_its_last_byte_has_room_too() -> None:
    lines = b"x" * 1023 + b"\n"
    block = lines * (IN_MEMORY // len(lines) + 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Room for the large block, and not for the line that then waits in a buffer.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(block), before[1]))
    chunk = SpooledChunk()
    try:
        chunk.lines.write(block)
        chunk.lines.write(lines)
        with pytest.raises(SpoolError, match="TMPDIR"):
            chunk.complete()
        chunk.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
