"""The retry loop for temporary failures.

Two other cases are handled elsewhere: `Client.open` waits after a 429, and `engage.fetch_pages` starts a new session
when a profile session expires.
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
"""Seconds before each retry. The last value repeats."""

_JITTER = 0.2
"""Fraction by which pauses vary in both directions, so that threads that failed together do not retry together."""


def pause_seconds(retry: int, vary: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait before a retry.

    Args:
        retry: The number of the retry, from 1.
        vary: Returns a random number between 0 and 1.
    """
    return _PAUSES[min(retry, len(_PAUSES)) - 1] * (1 + _JITTER * (2 * vary() - 1))


@dataclass(frozen=True, slots=True)
class Retrying:
    """Calls a function again after temporary failures.

    Attributes:
        clock: The clock for the pauses.
        max_retries: The maximum number of retries after the first try.
        log: Receives a warning for each failed try.
    """

    clock: Clock
    max_retries: int = 5
    log: logging.Logger | logging.LoggerAdapter[logging.Logger] = field(
        default_factory=lambda: logging.getLogger(__name__)
    )

    def __call__(self, attempt: Callable[[], T]) -> T:
        """Call `attempt` until it succeeds, and return its result.

        Args:
            attempt: The function to call. Called again after each `Transient`.

        Raises:
            Transient: The last try failed. The message includes the number of tries.
            MixpanelError: A try failed with another error.
        """
        for retry in range(1, self.max_retries + 1):
            try:
                return attempt()
            except Transient as error:
                seconds = pause_seconds(retry)
                self.log.warning("%s; retrying in %.1f s (%d of %d)", error, seconds, retry, self.max_retries)
            self.clock.sleep(seconds)
        try:
            return attempt()
        except Transient as error:
            error.add("tried once" if self.max_retries == 0 else f"tried {self.max_retries + 1} times")
            raise
