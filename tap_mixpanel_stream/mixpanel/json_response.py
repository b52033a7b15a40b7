"""A response that is one JSON text: read whole, and used only if it is what was requested.

A truncated list of cohorts is as wrong as a truncated export. So a response is decoded to its end and checked before
any of it is used; one that does not fit is requested again, as any other broken response.
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

_LIMIT = 64 * 1024 * 1024
"""The largest response that is held in memory, in decompressed bytes."""

_BEGINNING = 4096
"""Bytes of a response that a message may repeat."""

Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""The number of something in Mixpanel, which messages repeat. JSON allows thousands of digits."""


class WrongShapeError(ValueError):
    """The response is JSON, but not what was requested; the message says why."""


@dataclass(frozen=True, slots=True)
class JsonResponse(Generic[T]):
    """A decoded response.

    Attributes:
        content: The result of `read`.
        requested_at: The instant of the request, UTC.
        received: Bytes of the response, as sent.
        decompressed_bytes: Bytes of the response, decompressed.
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
    limit: int = _LIMIT,
    remedy: str = "",
) -> JsonResponse[T]:
    """Send a request until the response is whole and fits, and return it decoded.

    Args:
        client: The client.
        request: The request.
        retrying: The retry loop.
        read: Decodes the body; raises `WrongShapeError` or an error of msgspec where the body does not fit.
        mismatch: What a message says where the response does not fit.
        limit: The largest body allowed, in decompressed bytes.
        remedy: What the user can do about a response over the limit.

    Raises:
        BrokenBody: The response did not arrive whole, or did not fit.
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
    r"""Decode a response, which may have unpaired surrogates (`\ud83d` alone) in undecoded values.

    Args:
        body: The response.
        shape: The type to decode into, with `msgspec.Raw` for values to leave undecoded.

    Returns:
        The content, and a function that returns the JSON text of an undecoded value in it.

    Raises:
        msgspec.MsgspecError: The response has another shape.
        UnicodeDecodeError: It is not UTF-8, which the decoder does not check in undecoded values.
    """
    body.decode()
    content, restore = decode_masked(msgspec.json.Decoder(shape).decode, body)
    return content, lambda value: restore(bytes(value)) if restore else bytes(value)


def _problem(body: bytearray, error: Exception) -> str:
    """Return what is wrong with a response, without personal data that it may hold."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, WrongShapeError):
        return printable(str(error))
    beginning = body[:_BEGINNING].decode("utf-8", "replace")
    if beginning.lstrip().startswith("<") or not {"{", "["} & set(beginning):
        return printable(beginning) or "it is empty"
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw] | list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "its JSON is truncated or malformed"
    if isinstance(members, dict) and "error" in members:
        return printable(bytes(members["error"]).decode("utf-8", "replace"))
    return printable(str(error))
