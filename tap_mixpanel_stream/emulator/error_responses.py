"""Error responses: their status, text and form, which differ from API to API."""

from __future__ import annotations

import json
from typing import Literal

Api = Literal["data", "query", "app"]
Form = Literal["json", "json without status", "text"]

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


class Refusal(Exception):  # noqa: N818 - a response, not an error of the emulator
    """A response other than 200, with Mixpanel's text.

    Attributes:
        status: The HTTP status.
        text: Mixpanel's words.
        headers: Headers to send with it.
        form: What the body is.
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
        """The media type of the body."""
        return TEXT if self.form == "text" else JSON

    def body(self, api: Api, path: str) -> bytes:
        """Return the body: text on a line, or JSON; all but the app API repeat the request's path in it."""
        if self.form == "text":
            return f"{self.text}\n".encode()
        request = {} if api == "app" else {"request": path}
        status = {} if self.form == "json without status" else {"status": "error"}
        return json.dumps({**request, "error": self.text, **status}).encode()


def not_authenticated(api: Api) -> Refusal:
    """Return the refusal of bad credentials."""
    if api == "data":
        return Refusal(400, "Unable to authenticate request", form="text")
    return Refusal(401, "Invalid credentials. Check the service account's name and secret.")


def not_a_member(api: Api, project_id: str) -> Refusal:
    """Return the refusal of good credentials that are not for this project."""
    if api == "data":  # It makes no difference.
        return not_authenticated(api)
    if api == "app":
        return Refusal(403, f"User 123 is not a member of project {project_id}.")
    return Refusal(403, "User is not a member of this project", form="json without status")
