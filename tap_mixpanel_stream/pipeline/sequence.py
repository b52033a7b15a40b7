"""Chunks that follow from one another, as pages do: the next one is fetched while one is written, and no sooner."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .prefetch import prefetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..delivery.spooled_chunk import SpooledChunk


@dataclass
class Step:
    """One chunk, or the end of them.

    Attributes:
        chunk: The chunk; None at the end.
        delivered: What `move_bookmark` is told once the chunk is out; None: it moves no bookmark.
    """

    chunk: SpooledChunk | None = None
    delivered: object = None

    def close(self) -> None:
        """Let go of the chunk."""
        if self.chunk:
            self.chunk.close()


@contextlib.contextmanager
def prefetch_pages(
    source: Iterator[Step], *, on_poll: Callable[[], None], stop: Callable[[], None]
) -> Iterator[Iterator[tuple[SpooledChunk, object]]]:
    """Hand out what a source fetches, each time one ahead.

    Args:
        source: Fetches a chunk each time that it is advanced, in a thread other than the caller's.
        on_poll: As for `prefetch`.
        stop: As for `prefetch`.
    """
    ended = False

    def fetch_next(_number: int) -> Step:
        nonlocal ended
        step = next(source, None)
        ended = step is None
        return step or Step()

    with prefetch(
        itertools.takewhile(lambda _number: not ended, itertools.count()),
        fetch_next,
        ahead=1,
        on_poll=on_poll,
        stop=stop,
    ) as steps:
        yield ((step.chunk, step.delivered) for step in steps if step.chunk)
