"""The state from which the nightly run starts after the back-fill."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True)
class Shard:
    """A part of the history that has been loaded.

    Attributes:
        begun: The time at which its run started.
        state: Its final state. The bookmark is the end of the shard's last day.
    """

    begun: datetime
    state: dict[str, Any]

    @property
    def end(self) -> datetime:
        """The bookmark of events."""
        return datetime.fromisoformat(self.state["bookmarks"]["events"]["replication_key_value"])


def start_state(shards: Collection[Shard], look_back: timedelta) -> dict[str, Any]:
    """Return the state of the last shard, before which the nightly run also reads its look-back.

    If a shard was read before all of its late events had arrived, the bookmark is the time of that read or earlier.

    Args:
        shards: All shards.
        look_back: How late an event can arrive: the tap's `lookback_days`.
    """
    last = max(shards, key=lambda shard: shard.end)
    unsettled = [shard.begun for shard in shards if shard.begun < shard.end + look_back]
    state = copy.deepcopy(last.state)
    state["bookmarks"]["events"]["replication_key_value"] = min([last.end, *unsettled]).isoformat(timespec="seconds")
    return state
