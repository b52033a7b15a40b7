"""HTTP client that sends requests within the quota. It repeats a request only after a 429; callers do all retries."""

from __future__ import annotations

import logging
import os
import ssl
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import requests
import urllib3

from .clock import clock_lead
from .errors import (
    BrokenBody,
    MixpanelError,
    Refused,
    Stopped,
    TooManyRequests,
    Transient,
    failure,
    mask_in_messages,
    printable,
)
from .framing import FramingError
from .rate_limit import read_rate_limit
from .response_body import Counts, content_encoding_of, decompressed_blocks, raw_blocks, read_all
from .sockets import Adapter, Sockets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta, tzinfo
    from types import TracebackType

    from .auth import Auth
    from .clock import Clock
    from .decompression import ContentEncoding
    from .quota import Quota
    from .request import Hosts, Request

_CONNECT_TIMEOUT = 10.0
"""In seconds. A reachable host accepts a connection immediately; only the response can take minutes."""

_MAX_ERROR_BODY = 64 * 1024
"""Maximum number of bytes to read of an error's body."""

_UNCOUNTED_STATUSES = frozenset({401, 402, 429})
"""Statuses of requests that Mixpanel does not count toward the quota."""

_log = logging.getLogger(__name__)


class Client:
    """A client of Mixpanel's APIs for one project. Thread-safe.

    Attributes:
        clock: The run's clock.
        quota: The run's quota.
        clock_lead: How far this machine's clock was ahead of Mixpanel's at the last response; None if unknown.
    """

    def __init__(
        self,
        hosts: Hosts,
        auth: Auth,
        quota: Quota,
        clock: Clock,
        *,
        request_timeout: float = 600,
        user_agent: str = "tap-mixpanel-stream",
        workspace_id: str | None = None,
        zone: tzinfo = UTC,
    ) -> None:
        """Create a client without opening a connection.

        Args:
            hosts: The hosts of the project's region.
            auth: The credentials.
            quota: The run's quota.
            clock: The run's clock, which also stops the client.
            request_timeout: Read timeout in seconds. An export can be silent for minutes before its first byte, as
                others have seen on the live API.
            user_agent: The `User-Agent` header.
            workspace_id: A data view, for the query API (Mixpanel's docs).
            zone: The project's time zone, which determines today's date.
        """
        mask_in_messages(auth.secrets)
        self._hosts = hosts
        self._auth = auth
        self.quota = quota
        self.clock = clock
        self.clock_lead: timedelta | None = None
        self._timeout = request_timeout
        self._workspace_id = workspace_id
        self._zone = zone
        self._sockets = Sockets()
        self._session = _Session()
        self._session.headers.update({"User-Agent": user_agent, "Accept-Encoding": "gzip", "Connection": "close"})
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, Adapter(self._sockets))

    def open(self, request: Request) -> Response:
        """Send a request as soon as the quota allows it, and again after each 429.

        Args:
            request: The request.

        Returns:
            A response with status 200 whose body has not been read. Use it in a `with` statement.

        Raises:
            Transient: The request failed, and a retry can help.
            Refused: The request failed, and a retry would not help.
            SessionExpired: The profile query must start again from its first page.
            QuotaSpent: Waiting for quota would exceed `max_quota_wait`.
            Stopped: `stop` was called.
        """
        while True:
            booked = self.quota.acquire(
                request.what,
                request.api,
                is_counted=request.counts_toward_quota,
                reserve_seconds=request.reserve_seconds,
            )
            requested_at = self.clock.now()
            response = self._send(request)
            self.clock_lead = clock_lead(response.headers.get("Date"), requested_at, self.clock.now())
            if response.status_code == requests.codes.ok:
                self.quota.reset_backoff(request.api)
                self.quota.update_limits(request.api, read_rate_limit(response.headers, self.clock.now()))
                return Response(response, request.what, requested_at, self.clock)
            with response:
                error = self._failure(request, response)
            if response.status_code in _UNCOUNTED_STATUSES:
                self.quota.refund(request.api, booked)
            if not isinstance(error, TooManyRequests):
                raise error
            _log.debug("%s", error)
            self.quota.update_limits(request.api, error.limit)
            self.quota.block_after_429(request.api, error.limit)

    def stop(self) -> None:
        """End all waits and connections. The threads that use them get `Stopped`. Thread-safe."""
        self.clock.stop()
        self._sockets.shut_down()

    def close(self) -> None:
        """Close idle connections."""
        self._session.close()

    def _url(self, request: Request) -> str:
        if request.api == "data":
            return f"{self._hosts.data_api_url}/{request.path}"
        if request.api == "query":
            return f"{self._hosts.query_url}/{request.path}"
        if self._auth.project_id is None:
            raise Refused(
                f"{request.what}: project_id is required: set it, preferably with a service account", kind="credentials"
            )
        return f"{self._hosts.app_url(self._auth.project_id)}/{request.path}"

    def _params(self, request: Request) -> dict[str, str]:
        # The app API has the project in its path.
        params = {**({} if request.api == "app" else self._auth.params), **request.params}
        if request.api == "query" and self._workspace_id is not None:
            params["workspace_id"] = self._workspace_id
        return params

    def _send(self, request: Request) -> requests.Response:
        url = self._url(request)
        host = urlsplit(url).hostname
        try:
            return self._session.request(
                request.method,
                url,
                params=self._params(request),
                data=request.form,
                # Passed with each request, so that credentials from ~/.netrc cannot replace them.
                auth=self._auth,
                timeout=(_CONNECT_TIMEOUT, self._timeout),
                # Plain http is allowed for loopback only, whose credentials HTTP_PROXY must not send elsewhere.
                proxies={"http": ""},
                stream=True,
                allow_redirects=False,
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            # `from None`, because these errors contain the request with its headers.
            if self.clock.is_stopped:
                raise Stopped from None
            raise self._connection_error(error, f"{request.what}: ", str(host)) from None

    def _connection_error(self, error: Exception, prefix: str, host: str) -> MixpanelError:
        """Return the error for a request without a response."""
        causes = _causes(error)
        if bundle_problem := _ca_bundle_problem():
            return Refused(f"{prefix}{bundle_problem}")
        certificate = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
        if certificate is not None:
            return Refused(
                f"{prefix}the TLS certificate of {host} is not trusted ({certificate.verify_message}): if a proxy "
                "inspects TLS, set REQUESTS_CA_BUNDLE to its CA certificate"
            )
        if isinstance(error, ValueError):  # `requests` raises it for an invalid URL.
            return Refused(
                f"{prefix}the URL of {host} or of its proxy is invalid: check data_api_url, api_url and HTTPS_PROXY"
            )
        if isinstance(error, requests.exceptions.ProxyError):
            problem = f"the proxy to {host} did not connect ({_reason(causes)}): check HTTPS_PROXY and NO_PROXY"
        elif isinstance(error, requests.ConnectTimeout):
            problem = f"no connection to {host} within {_CONNECT_TIMEOUT:.0f} s: check network and proxy"
        elif isinstance(error, requests.ReadTimeout):
            problem = f"no response from {host} within {self._timeout:.0f} s: raise request_timeout if necessary"
        elif any(isinstance(cause, urllib3.exceptions.NameResolutionError) for cause in causes):
            problem = f"the host {host} was not found: check DNS, data_api_url and api_url"
        else:
            problem = f"the connection to {host} failed ({_reason(causes)})"
        return Transient(prefix + problem)

    def _failure(self, request: Request, response: requests.Response) -> MixpanelError:
        """Return the error for a response other than 200."""
        body, now = _beginning(response), self.clock.now()
        return failure(
            response.status_code,
            body,
            what=request.what,
            settings_hint=self._auth.settings_hint,
            source_settings=request.source_settings,
            location=response.headers.get("Location"),
            limit=read_rate_limit(response.headers, now, body),
            today=now.astimezone(self._zone).date(),
        )


class Response:
    """A response with status 200, open until its `with` statement ends.

    Attributes:
        requested_at: The time of the request, in UTC.
    """

    def __init__(self, response: requests.Response, what: str, requested_at: datetime, clock: Clock) -> None:
        self.requested_at = requested_at
        self._response = response
        self._what = what
        self._clock = clock
        self._counts = Counts()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._response.close()

    @property
    def received(self) -> int:
        """The number of bytes of the body received so far, as sent."""
        return self._counts.received

    @property
    def content_encoding(self) -> ContentEncoding:
        """The content encoding of the body.

        Raises:
            Refused: The request does not accept the content encoding.
        """
        try:
            return content_encoding_of(self._response)
        except Refused as error:
            raise self.with_context(error) from None

    def blocks(self) -> Iterator[bytes]:
        """Yield the body as sent, in blocks of at most 64 KiB.

        Raises:
            BrokenBody: The HTTP framing is incomplete. `with_context` adds the request to the message.
            Stopped: The client was stopped.
        """
        for block in raw_blocks(self._response, self._counts):
            self._clock.check()
            yield block

    def read(self, limit: int, *, remedy: str = "") -> bytearray:
        """Return the whole body, decompressed.

        Args:
            limit: The maximum size of the decompressed body, in bytes.
            remedy: What the user can do about a larger response, for the message.

        Raises:
            BrokenBody: The body is incomplete.
            Refused: The body exceeds the limit, or the request does not accept its content encoding.
            Stopped: The client was stopped.
        """
        try:
            return read_all(self._response, limit, self._counts, remedy=remedy, check=self._clock.check)
        except (BrokenBody, Refused) as error:
            raise self.with_context(error) from None

    def with_context(self, error: BrokenBody | Refused) -> MixpanelError:
        """Return the error with the request added to its message; `Stopped` if the client was stopped."""
        if self._clock.is_stopped:
            return Stopped()
        error.args = (f"{self._what}: {error}",)
        return error


class _Session(requests.Session):
    """A session that does not follow redirects.

    Responses cannot set cookies (see `framing`), so the session never changes and threads can share it.
    """

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002
        """Return None. The parent would read a body of any size to prepare a request that is never sent."""
        return None


def _ca_bundle_problem() -> str | None:
    """Return the problem with the CA bundle in the environment; None if it can be used or is not set."""
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # In the order that `requests` uses.
    name = next((name for name in names if os.environ.get(name)), None)
    if name is None:
        return None
    path = os.environ[name]
    try:
        if not Path(path).is_dir():
            ssl.create_default_context(cafile=path)
    except OSError as error:  # Includes `ssl.SSLError`.
        return (
            f"{name} names {path}, which cannot be read as PEM certificates ({error.strerror}): "
            "correct the path or unset the variable"
        )
    return None


def _beginning(response: requests.Response) -> str:
    """Return the beginning of an error's body, which may be incomplete."""
    body = bytearray()
    try:
        for block in decompressed_blocks(response):
            body += block
            if len(body) >= _MAX_ERROR_BODY:
                break
    except MixpanelError:
        pass
    return body.decode("utf-8", errors="replace")


def _reason(causes: list[BaseException]) -> str:
    """Return the reason that the innermost readable cause gives."""
    for cause in reversed(causes):
        if isinstance(cause, FramingError):
            return f"the response is not valid HTTP: {cause}"
        if isinstance(cause, OSError) and cause.strerror:
            return printable(str(cause.strerror))
        if str(cause).startswith("Tunnel connection failed"):  # Followed by the proxy's status and text.
            return printable(str(cause))
    return type(causes[-1]).__name__


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and all errors nested in it, outermost first."""
    causes: list[BaseException] = []
    queue: list[BaseException] = [error]
    while queue:
        cause = queue.pop(0)
        if cause in causes:
            continue
        causes.append(cause)
        nested = [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
        queue += [each for each in nested if isinstance(each, BaseException)]
    return causes
