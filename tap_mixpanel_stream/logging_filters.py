"""Keep secrets and irrelevant lines of the SDK out of the log."""

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

# How irrelevant messages begin. The last one announces an error that the command itself reports.
NOISE = (
    "Parsing env var for settings config",
    "Skipping parse of env var settings",
    "Parsing '%s' config from env variable",
    "Skipping deselected stream",
    "An unhandled error occurred while syncing",
)
# Packages that access buckets. They log where they found credentials, and each retry.
NOISY_PACKAGES = {"aiobotocore", "botocore", "gcsfs"}

MIN_SECRET_LENGTH = 4
"""Secrets with fewer characters are not masked, since they could be ordinary words. Mixpanel's secrets have 32."""

NEVER_MATCHES = r"(?!)"
"""A regular expression that never matches."""

LONG_SECRET, PREFIX_LENGTH = 24, 12
"""A secret of at least `LONG_SECRET` characters is recognized by its first `PREFIX_LENGTH`, in case it is truncated."""


def drop_sdk_noise() -> None:
    """Drop irrelevant messages in all handlers of the root logger."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_relevant)


def mask_secrets(secrets: Iterable[str]) -> None:
    """Replace secrets with `***` in the output of all log handlers, including tracebacks and extra fields.

    Args:
        secrets: The secrets to mask. Passwords of proxies in the environment are always masked.
    """
    pattern = pattern_of(secrets)
    for handler in _all_handlers():
        inner = handler.formatter
        handler.setFormatter(_MaskingFormatter(inner.inner if isinstance(inner, _MaskingFormatter) else inner, pattern))


def encodings_of(secret: str) -> set[str]:
    """Return the forms that a secret can take in a log: plain, base64, URL-encoded, and escaped for JSON and HTML."""
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
    """Return a pattern that matches these secrets and the passwords of proxies, in any encoding and case.

    A long secret matches even if it is truncated. Secrets shorter than `MIN_SECRET_LENGTH` do not match.
    """
    known = [secret for secret in (*secrets, *_proxy_secrets()) if len(secret) >= MIN_SECRET_LENGTH]
    texts = sorted({text for secret in known for text in encodings_of(secret)}, key=len, reverse=True)
    return re.compile("|".join(map(_secret_pattern, texts)) or NEVER_MATCHES, re.IGNORECASE)


def _proxy_secrets() -> list[str]:
    """Return the passwords of proxies in the environment: plain, and as encoded in `Proxy-Authorization` headers."""
    secrets = []
    for address in getproxies().values():
        with contextlib.suppress(ValueError):  # An invalid URL is reported by the request that uses it.
            parts = urlsplit(address if "//" in address else f"//{address}")
            if parts.password:
                user, password = unquote(parts.username or ""), unquote(parts.password)
                secrets += [parts.password, password, base64.b64encode(f"{user}:{password}".encode()).decode()]
    return secrets


def _secret_pattern(text: str) -> str:
    """Return a regular expression for one form of a secret."""
    if len(text) < LONG_SECRET:
        return re.escape(text) + "=*"  # Base64 can have padding.
    return re.escape(text[:PREFIX_LENGTH]) + r"""[^\s'",;&<>]*"""


def _all_handlers() -> Iterator[logging.Handler]:
    """Yield the handlers of all loggers, since a log configuration can attach handlers to named loggers."""
    yield from logging.getLogger().handlers
    for logger in logging.Logger.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            yield from logger.handlers


class _MaskingFormatter(logging.Formatter):
    """Masks secrets in the output of another formatter."""

    def __init__(self, inner: logging.Formatter | None, pattern: re.Pattern[str]) -> None:
        super().__init__()
        self.inner = inner or logging.Formatter()
        self._pattern = pattern

    def format(self, record: logging.LogRecord) -> str:
        return self._pattern.sub("***", self.inner.format(record))


@contextlib.contextmanager
def errors_only(logger: logging.Logger) -> Iterator[None]:
    """Suppress warnings, which the report of `--doctor` contains anyway. LOGLEVEL=DEBUG still shows them."""
    level = logger.level
    if not logger.isEnabledFor(logging.DEBUG):
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _is_relevant(record: logging.LogRecord) -> bool:
    if record.name.split(".")[0] in NOISY_PACKAGES:
        return record.levelno >= logging.ERROR
    return not str(record.msg).startswith(NOISE)
