"""The three kinds of credentials for Mixpanel. Their `repr` never contains a secret."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from requests.auth import AuthBase

from .errors import Refused

if TYPE_CHECKING:
    from requests import PreparedRequest


def basic_authorization(username: str, password: str) -> str:
    """Return the value of a Basic `Authorization` header, encoded as UTF-8.

    `requests` would encode it as ISO-8859-1 and fail on other characters.
    """
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")


def _with_url_encoded(*texts: str) -> tuple[str, ...]:
    """Return each text, and its URL-encoded form if that differs."""
    return tuple(dict.fromkeys(form for text in texts for form in (text, quote(text, safe=""))))


def _check_credential(setting: str, value: str, *, forbidden: str = "") -> None:
    """Reject a value that was copied incompletely or with additional characters.

    Otherwise Mixpanel would respond with a 401 that does not name the setting, or `requests` would raise an error that
    contains the secret.

    Args:
        setting: The name of the setting.
        value: The value.
        forbidden: Characters that are invalid in addition to spaces and control characters.

    Raises:
        Refused: The value is empty or has an invalid character.
    """
    if not value or any(
        character in forbidden or character.isspace() or not character.isprintable() for character in value
    ):
        problem = "is empty" if not value else "contains a space, a line break or another invalid character"
        raise Refused(f"{setting} {problem}: copy it from Mixpanel's settings again", kind="credentials")


@dataclass(frozen=True, slots=True)
class ServiceAccount(AuthBase):
    """A service account, which Mixpanel's docs recommend.

    Attributes:
        username: The user name, such as `name.abc123.mp-service-account`.
        secret: The secret. Mixpanel shows it once, when the account is created.
        project_id: The project. Mixpanel's docs: required with a service account.
    """

    username: str = field(repr=False)
    secret: str = field(repr=False)
    project_id: str

    def __post_init__(self) -> None:
        # In Basic authentication a colon ends the user name.
        _check_credential("service_account_username", self.username, forbidden=":")
        _check_credential("service_account_secret", self.secret)

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """Add the credentials to a request."""
        r.headers["Authorization"] = basic_authorization(self.username, self.secret)
        return r

    @property
    def params(self) -> dict[str, str]:
        """The query parameters to add to requests, except to the app API."""
        return {"project_id": self.project_id}

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that must not appear in any output."""
        return _with_url_encoded(
            self.secret, basic_authorization(self.username, self.secret).removeprefix("Basic "), self.username
        )

    @property
    def settings_hint(self) -> str:
        """The settings to check if Mixpanel rejects the credentials, for messages."""
        return "service_account_username, service_account_secret and project_id (an account can have expired)"


@dataclass(frozen=True, slots=True)
class ProjectSecret(AuthBase):
    """A project's API secret, which also identifies the project. Mixpanel's docs: retired on 2027-03-03.

    Attributes:
        secret: The secret.
        project_id: The project. Only the app API needs it, in the URL path.
    """

    secret: str = field(repr=False)
    project_id: str | None = None

    def __post_init__(self) -> None:
        _check_credential("api_secret", self.secret, forbidden=":")

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """Add the credentials to a request."""
        r.headers["Authorization"] = basic_authorization(self.secret, "")
        return r

    @property
    def params(self) -> dict[str, str]:
        """The query parameters to add to requests. The secret needs none."""
        return {}

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that must not appear in any output."""
        return _with_url_encoded(self.secret, basic_authorization(self.secret, "").removeprefix("Basic "))

    @property
    def settings_hint(self) -> str:
        """The settings to check if Mixpanel rejects the credentials, for messages."""
        return "api_secret (Mixpanel retires project secrets on 2027-03-03: use a service account)"


@dataclass(frozen=True, slots=True)
class OAuthToken(AuthBase):
    """An OAuth bearer token.

    Attributes:
        token: The token.
        project_id: The project. Mixpanel's docs: required with a token.
    """

    token: str = field(repr=False)
    project_id: str

    def __post_init__(self) -> None:
        _check_credential("oauth_token", self.token)

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """Add the credentials to a request."""
        # As bytes, because `requests` would encode text as ISO-8859-1.
        r.headers["Authorization"] = f"Bearer {self.token}".encode()  # type: ignore[assignment]
        return r

    @property
    def params(self) -> dict[str, str]:
        """The query parameters to add to requests, except to the app API."""
        return {"project_id": self.project_id}

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that must not appear in any output."""
        return _with_url_encoded(self.token)

    @property
    def settings_hint(self) -> str:
        """The settings to check if Mixpanel rejects the credentials, for messages."""
        return "oauth_token and project_id (a token expires)"


Auth = ServiceAccount | ProjectSecret | OAuthToken
