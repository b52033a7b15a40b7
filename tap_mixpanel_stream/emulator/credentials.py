"""The three kinds of credentials that Mixpanel accepts."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .error_responses import Refusal, not_a_member, not_authenticated

if TYPE_CHECKING:
    from .error_responses import Api


@dataclass(frozen=True)
class Credentials:
    """The one project the emulator has, and what opens it.

    * A service account: `Authorization: Basic base64(username:secret)`; `project_id` is required.
    * The project secret: `Authorization: Basic base64(secret:)`; no `project_id` needed. Not taken by the app API.
    * An OAuth token: `Authorization: Bearer TOKEN`; `project_id` is required.

    Attributes:
        project_id: The project's id, digits.
        username: The service account's name.
        secret: The service account's secret.
        project_secret: The older way in.
        oauth_token: The bearer's token.
    """

    project_id: str = "2526451"
    username: str = "tap.abc123.mp-service-account"
    secret: str = "emulated-service-account-secret"  # noqa: S105 - opens nothing but the emulator
    project_secret: str = "emulated-project-secret"  # noqa: S105
    oauth_token: str = "emulated-oauth-token"  # noqa: S105

    def check(
        self, authorization: str, project_id: str | None, api: Api, *, only_service_accounts: bool = False
    ) -> None:
        """Let the request through, or raise.

        Args:
            authorization: The header's value; empty if absent.
            project_id: The project the request names, if it names one.
            api: The API that is asked. The app API does not take the project secret.
            only_service_accounts: Whether it takes no token either.

        Raises:
            Refusal: 401 for bad credentials, 400 for a missing project, 403 for another one's; the export answers 400
                to all of them.
        """
        app = api == "app"
        scheme, _, rest = authorization.partition(" ")
        pair = _user_and_secret(rest) if scheme.lower() == "basic" else ("", "")
        service = pair == (self.username, self.secret)
        token = not only_service_accounts and scheme.lower() == "bearer" and rest.strip() == self.oauth_token
        project_secret = not app and pair == (self.project_secret, "")
        if not (service or token or project_secret):
            raise not_authenticated(api)
        if project_id is None and not project_secret:
            raise Refusal(400, "Missing required parameter: project_id")
        if project_id is not None and project_id != self.project_id:
            raise not_a_member(api, project_id)


def _user_and_secret(encoded: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    user, _, secret = text.partition(":")
    return user, secret
