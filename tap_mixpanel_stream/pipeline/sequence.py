"""Portions that follow from one another, as pages do: the next one is fetched while one is written, and no sooner."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .prefetch import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..delivery.spooled_chunk import Portion


@dataclass
class Step:
    """One portion, or the end of them.

    Attributes:
        portion: The portion; None at the end.
        delivered: What `move_bookmark` is told once the portion is out; None: it moves no bookmark.
    """

    portion: Portion | None = None
    delivered: object = None

    def close(self) -> None:
        """Let go of the portion."""
        if self.portion:
            self.portion.close()


@contextlib.contextmanager
def in_sequence(
    source: Iterator[Step], *, look_around: Callable[[], None], stop: Callable[[], None]
) -> Iterator[Iterator[tuple[Portion, object]]]:
    """Hand out what a source fetches, each time one ahead.

    Args:
        source: Fetches a portion each time that it is advanced, in a thread other than the caller's.
        look_around: As for `in_order`.
        stop: As for `in_order`.
    """
    ended = False

    def fetch_next(_number: int) -> Step:
        nonlocal ended
        step = next(source, None)
        ended = step is None
        return step or Step()

    with in_order(
        itertools.takewhile(lambda _number: not ended, itertools.count()),
        fetch_next,
        ahead=1,
        look_around=look_around,
        stop=stop,
    ) as steps:
        yield ((step.portion, step.delivered) for step in steps if step.portion)
