"""Keep two things out of the log: the SDK's lines that need no action, and secrets."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote, urlsplit
from urllib.request import getproxies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# How the lines begin. The last one precedes an error that the command itself reports in full.
NOISE = (
    "Parsing env var for settings config",
    "Skipping parse of env var settings",
    "Parsing '%s' config from env variable",
    "Skipping deselected stream",
    "An unhandled error occurred while syncing",
)
# Packages for buckets, which tell where they found credentials and what they tried.
TALKATIVE = {"aiobotocore", "botocore", "gcsfs"}


SHORTEST = 4
"""Characters that a secret must have to be masked; Mixpanel's have 32."""

NOTHING = r"(?!)"
"""A regular expression that matches nothing."""

LONG, TELLING = 24, 12
"""A secret of `LONG` characters is recognized by its first `TELLING`: a truncated message may show no more."""


def drop_sdk_noise() -> None:
    """Drop the lines from all handlers of the root logger."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_needs_a_reader)


def mask_secrets(secrets: Iterable[str]) -> None:
    """Write `***` in place of secrets, in what every handler writes from now on, tracebacks and extra fields included.

    Args:
        secrets: Texts that must not be shown. The passwords of proxies are known already.
    """
    pattern = pattern_of(secrets)
    for handler in _all_handlers():
        inner = handler.formatter
        handler.setFormatter(_MaskingFormatter(inner.inner if isinstance(inner, _MaskingFormatter) else inner, pattern))


def forms_of(secret: str) -> set[str]:
    """Return a secret as it is, in base64, quoted for a URL, and escaped for JSON and for HTML."""
    return {
        secret,
        base64.b64encode(secret.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(secret.encode()).decode().rstrip("="),
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        html.escape(secret),
    }


def pattern_of(secrets: Iterable[str]) -> re.Pattern[str]:
    """Return what matches these secrets and the proxies', in any form and case, and the beginnings of long ones.

    Secrets too short to be distinguished from ordinary words are not masked.
    """
    known = [secret for secret in (*secrets, *_proxy_secrets()) if len(secret) >= SHORTEST]
    forms = sorted({form for secret in known for form in forms_of(secret)}, key=len, reverse=True)
    return re.compile("|".join(map(_matching, forms)) or NOTHING, re.IGNORECASE)


def _proxy_secrets() -> list[str]:
    """Return the passwords of the proxies in the environment, and how a proxy is sent them."""
    secrets = []
    for address in getproxies().values():
        with contextlib.suppress(ValueError):  # not an address; the request that needs it says so
            parts = urlsplit(address if "//" in address else f"//{address}")
            if parts.password:
                user, password = unquote(parts.username or ""), unquote(parts.password)
                secrets += [parts.password, password, base64.b64encode(f"{user}:{password}".encode()).decode()]
    return secrets


def _matching(form: str) -> str:
    if len(form) < LONG:
        return re.escape(form) + "=*"  # the padding of base64
    return re.escape(form[:TELLING]) + r"""[^\s'",;&<>]*"""


def _all_handlers() -> Iterator[logging.Handler]:
    """Yield the handlers of all loggers: a log configuration can attach some to named ones."""
    yield from logging.getLogger().handlers
    for logger in logging.Logger.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            yield from logger.handlers


class _MaskingFormatter(logging.Formatter):
    """Formats as another formatter does, and masks the result."""

    def __init__(self, inner: logging.Formatter | None, pattern: re.Pattern[str]) -> None:
        super().__init__()
        self.inner = inner or logging.Formatter()
        self._pattern = pattern

    def format(self, record: logging.LogRecord) -> str:
        return self._pattern.sub("***", self.inner.format(record))


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


def _needs_a_reader(record: logging.LogRecord) -> bool:
    if record.name.split(".")[0] in TALKATIVE:
        return record.levelno >= logging.ERROR
    return not str(record.msg).startswith(NOISE)
