"""How the emulator says no."""

from __future__ import annotations

import json


class Refusal(Exception):  # noqa: N818 - it is an answer, not a mistake of the emulator
    """An answer other than 200, with Mixpanel's words for it.

    Attributes:
        status: The HTTP status.
        text: What goes under `error` in the JSON body.
        headers: Headers to send with it.
    """

    def __init__(self, status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers

    def body(self, request: str) -> bytes:
        """Return the JSON body: Mixpanel repeats the request's path beside the error."""
        return json.dumps({"request": request, "error": self.text, "status": "error"}).encode()
