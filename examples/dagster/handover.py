"""From which state the nightly run begins, once the back-fill is done."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True)
class Shard:
    """A part of history that is loaded.

    Attributes:
        begun: When it was begun to be read.
        state: The state that it ended with. Its bookmark is the end of the shard's last day.
    """

    begun: datetime
    state: dict[str, Any]

    @property
    def end(self) -> datetime:
        """The bookmark."""
        return datetime.fromisoformat(self.state["bookmarks"]["events"]["replication_key_value"])


def start_state(shards: Collection[Shard], look_back: timedelta) -> dict[str, Any]:
    """The state of the shard that ends last, for the nightly run reads its look-back before that anyway.

    A shard that was read so early that its last days were still filling up needs more: for its sake the state lies no
    later than when it was read.

    Args:
        shards: All of them.
        look_back: How late an event may come, the tap's `lookback_days`.
    """
    last = max(shards, key=lambda shard: shard.end)
    unsettled = [shard.begun for shard in shards if shard.begun < shard.end + look_back]
    state = copy.deepcopy(last.state)
    state["bookmarks"]["events"]["replication_key_value"] = min([last.end, *unsettled]).isoformat(timespec="seconds")
    return state
