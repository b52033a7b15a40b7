"""What is kept out of the log: lines of the SDK that ask for nothing to be done, and secrets, whoever repeats them."""

from __future__ import annotations

import contextlib
import logging
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# How the lines begin. The last one precedes an error that is reported in full by the command itself.
NOISE = (
    "Parsing env var for settings config",
    "Skipping parse of env var settings",
    "Parsing '%s' config from env variable",
    "Skipping deselected stream",
    "An unhandled error occurred while syncing",
)


SHORTEST = 4
"""Characters that a secret must have to be masked; Mixpanel's have 32."""

NOTHING = r"(?!)"
"""A regular expression that nothing fits."""

LONG, TELLING = 24, 12
"""From how many characters on a secret is known by how many of them: a message that was cut may show no more."""


def quieten() -> None:
    """Drop the lines from all handlers that log to the console or a file now."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_says_something)


def keep_secret(secrets: Iterable[str]) -> None:
    """Have `***` in all that handlers write now in place of what fits `pattern_of`."""
    pattern = pattern_of(secrets)
    for handler in logging.getLogger().handlers:
        for filtering in [each for each in handler.filters if isinstance(each, _Masking)]:
            handler.removeFilter(filtering)
        handler.addFilter(_Masking(pattern))


def pattern_of(secrets: Iterable[str]) -> re.Pattern[str]:
    """What fits these texts, and the beginnings of long ones; not those that are too short to be told from words."""
    forms = [
        re.escape(secret[:TELLING]) + r"""[^\s'",;&<>]*""" if len(secret) >= LONG else re.escape(secret)
        for secret in sorted(secrets, key=len, reverse=True)
        if len(secret) >= SHORTEST
    ]
    return re.compile("|".join(forms) or NOTHING)


class _Masking(logging.Filter):
    """Shows `***` in place of what fits a pattern."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        super().__init__()
        self._pattern = pattern

    def filter(self, record: logging.LogRecord) -> bool:
        """Take it out of the message, and leave the record otherwise as it is."""
        said = record.getMessage()
        shown = self._pattern.sub("***", said)
        if shown != said:
            record.msg, record.args = shown, None
        return True


@contextlib.contextmanager
def errors_only(logger: logging.Logger) -> Iterator[None]:
    """Keep a logger's warnings from somebody who gets them in another form; LOGLEVEL=DEBUG shows them all the same."""
    level = logger.level
    if not logger.isEnabledFor(logging.DEBUG):
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _says_something(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(NOISE)
