"""Fetch a response that is one JSON text, and check it before any of it is used.

A truncated list of cohorts would lose data just as a truncated export would, so the whole response is decoded and
checked first. A response that is not as expected is requested again, like any other broken response.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar

import msgspec

from ..surrogates import decode_masked
from .errors import BrokenBody, printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from .client import Client
    from .request import Request
    from .retry import Retrying

T = TypeVar("T")

_MAX_BYTES = 64 * 1024 * 1024
"""Default for the maximum size of a decompressed response, which is kept in memory."""

_MAX_QUOTED = 4096
"""Number of bytes of a response to read for a message."""

Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""An id in Mixpanel. Limited because messages contain ids, and JSON allows thousands of digits."""


class WrongShapeError(ValueError):
    """The response is JSON, but not what was requested. The message gives the reason."""


@dataclass(frozen=True, slots=True)
class JsonResponse(Generic[T]):
    """A decoded response.

    Attributes:
        content: The result of `read`.
        requested_at: The time of the request, in UTC.
        received: The size of the response as sent, in bytes.
        decompressed_bytes: The decompressed size of the response.
    """

    content: T
    requested_at: datetime
    received: int
    decompressed_bytes: int


def fetch(
    client: Client,
    request: Request,
    retrying: Retrying,
    read: Callable[[bytearray], T],
    *,
    mismatch: str = "the response is not what was requested",
    limit: int = _MAX_BYTES,
    remedy: str = "",
) -> JsonResponse[T]:
    """Fetch and decode a response, with retries.

    Args:
        client: The API client.
        request: The request.
        retrying: The retry loop.
        read: Decodes the body. Raises `WrongShapeError` or an error of msgspec if the body is not as expected.
        mismatch: The beginning of the message for such a body.
        limit: The maximum size of the decompressed body, in bytes.
        remedy: What the user can do about a larger response, for the message.

    Raises:
        BrokenBody: The response is incomplete or not as expected.
        MixpanelError: As `Client.open`.
    """

    def attempt() -> JsonResponse[T]:
        with client.open(request) as response:
            body = response.read(limit, remedy=remedy)
        try:
            content = read(body)
        except (WrongShapeError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BrokenBody(f"{request.what}: {mismatch}: {_problem(body, error)}") from None
        return JsonResponse(content, response.requested_at, response.received, len(body))

    return retrying(attempt)


def decode(body: bytearray, shape: type[T]) -> tuple[T, Callable[[msgspec.Raw], bytes]]:
    r"""Decode a response, which can have unpaired surrogates (`\ud83d` alone) in undecoded values.

    Args:
        body: The response.
        shape: The type to decode into. Values of type `msgspec.Raw` are left undecoded.

    Returns:
        The content, and a function that returns the JSON text of an undecoded value in the content.

    Raises:
        msgspec.MsgspecError: The response has another shape.
        UnicodeDecodeError: The response is not UTF-8. The decoder does not check this in undecoded values.
    """
    body.decode()
    content, restore = decode_masked(msgspec.json.Decoder(shape).decode, body)
    return content, lambda value: restore(bytes(value)) if restore else bytes(value)


def _problem(body: bytearray, error: Exception) -> str:
    """Return the problem with a response, without personal data from the response."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, WrongShapeError):
        return printable(str(error))
    beginning = body[:_MAX_QUOTED].decode("utf-8", "replace")
    if beginning.lstrip().startswith("<") or not {"{", "["} & set(beginning):
        return printable(beginning) or "it is empty"
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw] | list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "its JSON is truncated or malformed"
    if isinstance(members, dict) and "error" in members:
        return printable(bytes(members["error"]).decode("utf-8", "replace"))
    return printable(str(error))
