"""Why a stream cannot go on, and the one place that translates the errors of other packages into it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..delivery.spool import SpoolError
from ..mixpanel.errors import BrokenBody
from ..records.errors import BadBody, BadLine, BadProfile, LineTooLong, TruncatedBody

if TYPE_CHECKING:
    from collections.abc import Iterator


class StreamError(Exception):
    """A stream cannot go on. The message names stream, place, cause and remedy in one line."""


class BadLineError(StreamError):
    """A response has a malformed line, and the settings do not allow any."""


class DiskError(StreamError):
    """This machine's disk is full or cannot be written. No other stream can go on either."""


class WorkerLostError(Exception):
    """A worker process ended by itself. The message says how, and what to do."""


@contextlib.contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Translate the errors of a response, its conversion and its spool.

    Args:
        what: What was requested, for the message.

    Raises:
        BrokenBody: The response is not whole.
        BadLineError: It has a malformed line.
        StreamError: It has a malformed profile or entry, or its worker process ended.
        DiskError: There is no room for it.
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
