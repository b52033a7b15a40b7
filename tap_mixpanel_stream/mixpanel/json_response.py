"""An answer that is one JSON text: read whole, and believed only if it is what was asked for.

A list of cohorts is small, but a cut list is as wrong as a cut export. So it is decoded to its end and looked at before
anything of it is used, and what does not fit is asked for again like any other broken answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar

import msgspec

from ..surrogates import masked, unmasked
from .errors import BrokenBody, shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from .client import Client
    from .request import Request
    from .retry import Retrying

T = TypeVar("T")

_LIMIT = 64 * 1024 * 1024
"""Bytes of a document, unpacked, that are held in memory at the most."""


Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""The number of something in Mixpanel, which messages repeat. JSON allows thousands of digits."""


class WrongShapeError(ValueError):
    """JSON, but not what was asked for; the message says why."""


@dataclass(frozen=True, slots=True)
class JsonResponse(Generic[T]):
    """What an answer says.

    Attributes:
        content: What `read` made of it.
        requested_at: When it was asked for, UTC.
        received: Bytes of the answer, as sent.
        decompressed_bytes: Bytes of the answer, once unpacked.
    """

    content: T
    requested_at: datetime
    received: int
    decompressed_bytes: int


def fetch(client: Client, request: Request, retrying: Retrying, read: Callable[[bytes], T]) -> JsonResponse[T]:
    """Asks until the answer is whole and fits, as often as allowed.

    Args:
        client: Whom to ask.
        request: What to ask.
        retrying: How often.
        read: Makes something of the body; raises `WrongShapeError` or one of msgspec's errors where it does not fit.

    Raises:
        BrokenBody: It did not arrive whole, or did not fit.
        MixpanelError: As `Client.open`.
    """

    def attempt() -> JsonResponse[T]:
        with client.open(request) as response:
            body = bytes(response.read(_LIMIT))
        try:
            # The decoder looks at no text that it steps over.
            body.decode()
            content = read(body)
        except (WrongShapeError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BrokenBody(f"{request.what}: the answer is not what was asked for: {_said(body, error)}") from None
        return JsonResponse(content, response.requested_at, response.received, len(body))

    return retrying(attempt)


def decode(body: bytes, shape: type[T]) -> tuple[T, Callable[[msgspec.Raw], bytes]]:
    r"""A document, and what gives back the text of a value in it as it came.

    Half surrogate pairs (`\ud83d` alone) are taken in values that are left undecoded.

    Args:
        body: The document, which is UTF-8.
        shape: Its shape, with `msgspec.Raw` for values to leave undecoded.

    Raises:
        msgspec.MsgspecError: It has another shape.
    """
    try:
        return msgspec.json.decode(body, type=shape), bytes
    except msgspec.DecodeError:
        without_halves = masked(body)
        if without_halves is None:
            raise
    text, mark = without_halves
    return msgspec.json.decode(text, type=shape), lambda value: unmasked(bytes(value), mark)


def _said(body: bytes, error: Exception) -> str:
    """What is wrong with a body, without what it says about people."""
    if not body:
        return "it is empty"
    if body.lstrip().startswith(b"<"):
        return shown(body[:4096].decode("utf-8", "replace"))
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "its JSON is cut or damaged"
    return shown(body.decode() if isinstance(parsed, dict) and "error" in parsed else str(error))
