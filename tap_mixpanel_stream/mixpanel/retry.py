"""The retry loop, the only one of this package.

A 429 is a wait, not a failure: `Client.open` waits. An expired profile session is read again by `engage.pages`.
"""

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
"""Seconds before each retry; the last one repeats."""

_JITTER = 0.2
"""Pauses vary by this share either way, so that threads which failed together do not come back together."""


def pause(retry: int, vary: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait before a retry.

    Args:
        retry: The number of the retry, from 1.
        vary: Returns a random number from 0 to 1.
    """
    return _PAUSES[min(retry, len(_PAUSES)) - 1] * (1 + _JITTER * (2 * vary() - 1))


@dataclass(frozen=True, slots=True)
class Retrying:
    """Retries an attempt.

    Attributes:
        clock: The clock to wait with.
        max_retries: Retries after the first try.
        log: Logs each failed try.
    """

    clock: Clock
    max_retries: int = 5
    log: logging.Logger | logging.LoggerAdapter[logging.Logger] = field(
        default_factory=lambda: logging.getLogger(__name__)
    )

    def __call__(self, attempt: Callable[[], T]) -> T:
        """Call `attempt` until it succeeds, and return its result.

        Args:
            attempt: Called again after each `Transient`.

        Raises:
            Transient: The error of the last try, with the number of tries.
            MixpanelError: Any other error, at once.
        """
        for retry in range(1, self.max_retries + 1):
            try:
                return attempt()
            except Transient as error:
                seconds = pause(retry)
                self.log.warning("%s; retrying in %.1f s (%d of %d)", error, seconds, retry, self.max_retries)
            self.clock.sleep(seconds)
        try:
            return attempt()
        except Transient as error:
            error.add("tried once" if self.max_retries == 0 else f"tried {self.max_retries + 1} times")
            raise
