"""Mixpanel's three kinds of credentials. No `repr` of them shows a secret."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from requests.auth import AuthBase

from .errors import Refused

if TYPE_CHECKING:
    from requests import PreparedRequest


def basic(username: str, password: str) -> str:
    """Return the value of a Basic `Authorization` header.

    Encoded as UTF-8: `requests` would take ISO-8859-1, and fail on a secret that has none.
    """
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")


def _forms(*texts: str) -> tuple[str, ...]:
    """Return texts, each as it is and as it looks in a URL."""
    return tuple(dict.fromkeys(form for text in texts for form in (text, quote(text, safe=""))))


def _refuse_unless_clean(setting: str, value: str, *, also: str = "") -> None:
    """Refuse a value that was copied incompletely.

    The message names the setting: Mixpanel responds with a bare 401, and an error of `requests` shows the secret.
    """
    if not value or any(character in also or character.isspace() or not character.isprintable() for character in value):
        problem = "is empty" if not value else "contains a space, a line break or another invalid character"
        raise Refused(f"{setting} {problem}: copy it from Mixpanel's settings again", kind="credentials")


@dataclass(frozen=True, slots=True)
class ServiceAccount(AuthBase):
    """A service account: the way Mixpanel's docs recommend.

    Attributes:
        username: Looks like `name.abc123.mp-service-account`.
        secret: Shown by Mixpanel once, when the account is made.
        project_id: Mixpanel's docs: required with a service account.
    """

    username: str = field(repr=False)
    secret: str = field(repr=False)
    project_id: str

    def __post_init__(self) -> None:
        # A colon would end the user name early, in the middle of it.
        _refuse_unless_clean("service_account_username", self.username, also=":")
        _refuse_unless_clean("service_account_secret", self.secret)

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """Sign a request."""
        r.headers["Authorization"] = basic(self.username, self.secret)
        return r

    @property
    def params(self) -> dict[str, str]:
        """What requests must carry in their query string, those of the app API excepted."""
        return {"project_id": self.project_id}

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must never be shown."""
        return _forms(self.secret, basic(self.username, self.secret).removeprefix("Basic "), self.username)

    @property
    def settings(self) -> str:
        """The settings to look at when Mixpanel does not believe them."""
        return "service_account_username, service_account_secret and project_id (an account can have expired)"


@dataclass(frozen=True, slots=True)
class ProjectSecret(AuthBase):
    """A project's API secret, which names the project by itself. Mixpanel's docs: retired on 2027-03-03."""

    secret: str = field(repr=False)
    #: The app API has the project in its path; the header says it everywhere else.
    project_id: str | None = None

    def __post_init__(self) -> None:
        _refuse_unless_clean("api_secret", self.secret, also=":")

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """Sign a request."""
        r.headers["Authorization"] = basic(self.secret, "")
        return r

    @property
    def params(self) -> dict[str, str]:
        """What every request must carry in its query string: nothing."""
        return {}

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must never be shown."""
        return _forms(self.secret, basic(self.secret, "").removeprefix("Basic "))

    @property
    def settings(self) -> str:
        """The settings to look at when Mixpanel does not believe them."""
        return "api_secret (Mixpanel retires project secrets on 2027-03-03: a service account is the way on)"


@dataclass(frozen=True, slots=True)
class OAuthToken(AuthBase):
    """An OAuth bearer token. Mixpanel's docs: `project_id` is required with it."""

    token: str = field(repr=False)
    project_id: str

    def __post_init__(self) -> None:
        _refuse_unless_clean("oauth_token", self.token)

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """Sign a request."""
        # Bytes, since a header given as text would be encoded as ISO-8859-1.
        r.headers["Authorization"] = f"Bearer {self.token}".encode()  # type: ignore[assignment]
        return r

    @property
    def params(self) -> dict[str, str]:
        """What every request must carry in its query string."""
        return {"project_id": self.project_id}

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must never be shown."""
        return _forms(self.token)

    @property
    def settings(self) -> str:
        """The settings to look at when Mixpanel does not believe them."""
        return "oauth_token and project_id (a token expires)"


Auth = ServiceAccount | ProjectSecret | OAuthToken
