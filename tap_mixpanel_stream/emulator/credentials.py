"""The credentials that the emulator accepts: a service account, the project secret or an OAuth token."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .error_responses import ErrorResponse, not_a_member, not_authenticated

if TYPE_CHECKING:
    from .error_responses import Api


@dataclass(frozen=True)
class Credentials:
    """The emulated project's id and its valid credentials.

    * Service account: `Authorization: Basic base64(username:secret)`. Requires `project_id`.
    * Project secret: `Authorization: Basic base64(secret:)`. `project_id` is optional. The app API does not accept it.
    * OAuth token: `Authorization: Bearer TOKEN`. Requires `project_id`.

    Attributes:
        project_id: Project id, a string of digits.
        username: Username of the service account.
        secret: Secret of the service account.
        project_secret: Project secret, the legacy credential.
        oauth_token: OAuth bearer token.
    """

    project_id: str = "2526451"
    username: str = "tap.abc123.mp-service-account"
    secret: str = "emulated-service-account-secret"  # noqa: S105 - valid for the emulator only
    project_secret: str = "emulated-project-secret"  # noqa: S105
    oauth_token: str = "emulated-oauth-token"  # noqa: S105

    def check(
        self, authorization: str, project_id: str | None, api: Api, *, only_service_accounts: bool = False
    ) -> None:
        """Check the credentials of a request.

        Args:
            authorization: Value of the `Authorization` header; empty if absent.
            project_id: Project id in the request, if any.
            api: API of the request.
            only_service_accounts: Whether the endpoint rejects OAuth tokens.

        Raises:
            ErrorResponse: 401 for invalid credentials, 400 for a missing project id, 403 for another project. The
                export API returns 400 in all three cases.
        """
        scheme, _, rest = authorization.partition(" ")
        pair = _user_and_secret(rest) if scheme.lower() == "basic" else ("", "")
        is_service_account = pair == (self.username, self.secret)
        is_token = not only_service_accounts and scheme.lower() == "bearer" and rest.strip() == self.oauth_token
        is_project_secret = api != "app" and pair == (self.project_secret, "")
        if not (is_service_account or is_token or is_project_secret):
            raise not_authenticated(api)
        if project_id is None and not is_project_secret:
            raise ErrorResponse(400, "Missing required parameter: project_id")
        if project_id is not None and project_id != self.project_id:
            raise not_a_member(api, project_id)


def _user_and_secret(encoded: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    user, _, secret = text.partition(":")
    return user, secret
