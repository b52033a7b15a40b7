"""Which of the SDK's log lines are kept from the operator: those that nothing can be done about."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# How the lines begin. The last one precedes an error that is reported in full by the command itself.
NOISE = (
    "Parsing env var for settings config",
    "Skipping parse of env var settings",
    "Parsing '%s' config from env variable",
    "Skipping deselected stream",
    "An unhandled error occurred while syncing",
)


def quieten() -> None:
    """Drop the lines from all handlers that log to the console or a file now."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_says_something)


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
