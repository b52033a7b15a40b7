"""Error responses. Their status, text and format depend on the API."""

from __future__ import annotations

import json
from typing import Literal

Api = Literal["data", "query", "app"]
Form = Literal["json", "json without status", "text"]

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


class ErrorResponse(Exception):  # noqa: N818 - a response to send, not an error in the emulator
    """An error response to the client.

    Attributes:
        status: HTTP status.
        text: Error message, worded as Mixpanel words it.
        headers: Additional headers.
        form: Format of the body.
    """

    def __init__(
        self, status: int, text: str, headers: tuple[tuple[str, str], ...] = (), *, form: Form = "json"
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers
        self.form = form

    @property
    def content_type(self) -> str:
        """The value of the `Content-Type` header."""
        return TEXT if self.form == "text" else JSON

    def body(self, api: Api, path: str) -> bytes:
        """Return the body: a line of text, or a JSON object. Except in the app API, the object contains the path."""
        if self.form == "text":
            return f"{self.text}\n".encode()
        request = {} if api == "app" else {"request": path}
        status = {} if self.form == "json without status" else {"status": "error"}
        return json.dumps({**request, "error": self.text, **status}).encode()


def not_authenticated(api: Api) -> ErrorResponse:
    """Return the response to invalid credentials."""
    if api == "data":
        return ErrorResponse(400, "Unable to authenticate request", form="text")
    return ErrorResponse(401, "Invalid credentials. Check the service account's name and secret.")


def not_a_member(api: Api, project_id: str) -> ErrorResponse:
    """Return the response to valid credentials of another project."""
    if api == "data":  # The export API does not distinguish the two.
        return not_authenticated(api)
    if api == "app":
        return ErrorResponse(403, f"User 123 is not a member of project {project_id}.")
    return ErrorResponse(403, "User is not a member of this project", form="json without status")
