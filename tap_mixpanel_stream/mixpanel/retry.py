"""Trying again, where trying again helps."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from .errors import Transient

if TYPE_CHECKING:
    from collections.abc import Callable

    from .clock import Clock

T = TypeVar("T")

_PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further try; the last one is kept."""

_JITTER = 0.2
"""Pauses vary by this share either way, so that threads which failed together do not come back together."""


def pause(retry: int, vary: Callable[[], float] = random.random) -> float:
    """Seconds to wait before a try.

    Args:
        retry: 1 before the second try, and so on.
        vary: A number from 0 to 1, taken anew each time.
    """
    return _PAUSES[min(retry, len(_PAUSES)) - 1] * (1 + _JITTER * (2 * vary() - 1))


@dataclass(frozen=True, slots=True)
class Retrying:
    """How often to try, and what to wait with.

    Attributes:
        clock: What to wait with.
        max_retries: Tries after the first one.
        log: Where each failed try leaves a line.
    """

    clock: Clock
    max_retries: int = 5
    log: logging.Logger | logging.LoggerAdapter[logging.Logger] = field(
        default_factory=lambda: logging.getLogger(__name__)
    )

    def __call__(self, attempt: Callable[[], T]) -> T:
        """What `attempt` returns, as soon as it does.

        Args:
            attempt: Called again from its beginning whenever it raises `Transient`; its message says what failed.

        Raises:
            Transient: The last try's error, which then says how many there were.
            MixpanelError: Any other error, at once.
        """
        for retry in range(1, self.max_retries + 1):
            try:
                return attempt()
            except Transient as error:
                seconds = pause(retry)
                self.log.warning("%s; trying again in %.1f s (%d of %d)", error, seconds, retry, self.max_retries)
            self.clock.sleep(seconds)
        try:
            return attempt()
        except Transient as error:
            error.add("tried once" if self.max_retries == 0 else f"tried {self.max_retries + 1} times")
            raise
