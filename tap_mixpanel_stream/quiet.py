"""Which of the SDK's log lines are kept from the operator: those that nothing can be done about."""

from __future__ import annotations

import logging

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


def _says_something(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(NOISE)
