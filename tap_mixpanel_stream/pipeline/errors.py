"""Errors that end a stream, and the translation of other packages' errors into them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..delivery.spool import SpoolError
from ..mixpanel.errors import BrokenBody
from ..records.errors import BadBody, BadLine, BadProfile, LineTooLong, TruncatedBody

if TYPE_CHECKING:
    from collections.abc import Iterator


class StreamError(Exception):
    """A stream cannot continue. The message is one line: the stream and what was requested, the cause, the remedy."""


class BadLineError(StreamError):
    """A response has a malformed line, and the settings do not allow one."""


class DiskError(StreamError):
    """The local disk is full or cannot be written, so no other stream can continue either."""


class WorkerLostError(Exception):
    """A worker process ended unexpectedly. The message names the exit status and the remedy."""


@contextlib.contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Translate the errors of a response, its conversion and its spool.

    Args:
        what: What was requested, for the message.

    Raises:
        BrokenBody: The response is incomplete.
        BadLineError: The response has a malformed line.
        StreamError: The response has a malformed profile or entry, or a worker process ended.
        DiskError: The spool cannot be written.
    """
    try:
        yield
    except (TruncatedBody, LineTooLong) as error:
        raise BrokenBody(f"{what}: {error}") from None
    except BadLine as error:
        raise BadLineError(f"{what}: {error}; to skip such lines, set bad_lines and bad_lines_path") from None
    except BadProfile as error:
        raise StreamError(f"{what}: {error}; to skip such profiles, set bad_lines and bad_lines_path") from None
    except (BadBody, WorkerLostError) as error:
        raise StreamError(f"{what}: {error}") from None
    except SpoolError as error:
        raise DiskError(f"{what}: {error}") from None
