from __future__ import annotations

import resource

import pytest

from tap_mixpanel_stream.delivery.portion import Portion
from tap_mixpanel_stream.delivery.spool import IN_MEMORY, SpoolError
from tap_mixpanel_stream.records import LineCutter


class AsItCame:
    def convert(self, block: bytes) -> bytes:
        return block

    def finish(self, rest: bytes) -> bytes:
        return rest


def test_a_portion_is_collected_only_if_its_last_byte_has_room_too() -> None:
    lines = b"x" * 1023 + b"\n"
    block = lines * (IN_MEMORY // len(lines) + 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Room for the large block, and not for the line that then waits in a buffer.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(block), before[1]))
    portion = Portion()
    try:
        with pytest.raises(SpoolError, match="TMPDIR"):
            portion.collect([block, lines], LineCutter(), AsItCame())
        portion.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
