from __future__ import annotations

import gc
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.mixpanel.auth import Auth, OAuthToken, ProjectSecret, ServiceAccount
from tap_mixpanel_stream.mixpanel.client import Client
from tap_mixpanel_stream.mixpanel.clock import Clock
from tap_mixpanel_stream.mixpanel.errors import BrokenBody, MixpanelError, Refused, Stopped, Transient
from tap_mixpanel_stream.mixpanel.quota import Quota
from tap_mixpanel_stream.mixpanel.request import Hosts, Request
from tests.mixpanel.fake_clock import START, FakeClock
from tests.mixpanel.loopback import Script, Server, answer, begins, gzip_in_chunks, packed, silent

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = Request("events 2024-01-01", "data", "export", params={"from_date": "2024-01-01"})
SECRET = "hunter2-hunter2"
ACCOUNT = ServiceAccount("tap.abc123.mp-service-account", SECRET, "123")

Connect = Callable[..., Client]


@pytest.fixture
def connect(clock: FakeClock) -> Iterator[Connect]:
    clients: list[Client] = []

    def connect(
        where: Server | Hosts, *, auth: Auth = ACCOUNT, clock: Clock = clock, timeout: float = 5, **more: Any
    ) -> Client:
        hosts = where.hosts if isinstance(where, Server) else where
        client = Client(hosts, auth, Quota(clock), clock, request_timeout=timeout, **more)
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


def error_of(client: Client, request: Request = EVENTS) -> MixpanelError:
    with pytest.raises(MixpanelError) as raised, client.open(request) as opened:
        opened.read(10**9)
    return raised.value


def test_an_export_request_has_credentials_and_gzip(connect: Connect) -> None:
    """An export request sends `project_id`, credentials, the user agent and `Accept-Encoding: gzip`."""
    with Server(gzip_in_chunks(packed(b"hello\n"))) as server:
        with connect(server, user_agent="me/1").open(EVENTS) as opened:
            assert opened.content_encoding == "gzip"
            assert b"".join(opened.blocks()) == packed(b"hello\n")
            assert opened.requested_at == START
            assert opened.received == len(packed(b"hello\n"))
        requested = server.requests[0]
    assert requested.startswith("GET /api/2.0/export?project_id=123&from_date=2024-01-01 HTTP/1.1\r\n")
    assert "Accept-Encoding: gzip\r\n" in requested
    assert "User-Agent: me/1\r\n" in requested
    assert "Authorization: Basic " in requested


def test_an_unread_body_closes_its_connection(connect: Connect) -> None:
    """A connection whose response body was not read is not used again."""
    with Server(begins(gzip_in_chunks(packed(b"x" * 10**6))[:100]), answer(b"x")) as server:
        client = connect(server)
        with client.open(EVENTS):
            pass
        with client.open(EVENTS) as opened:
            assert opened.read(1) == b"x"
        assert server.connections == 2


def test_the_app_api_needs_a_project_id(connect: Connect) -> None:
    """An app API request without `project_id` is rejected, and the error names the setting."""
    error = error_of(
        connect(Hosts("http://127.0.0.1:9", "http://127.0.0.1:9"), auth=ProjectSecret(SECRET)),
        Request("annotations", "app", "annotations"),
    )
    assert isinstance(error, Refused)
    assert "project_id" in str(error)


def test_netrc_does_not_replace_the_credentials(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `.netrc` entry for the host does not replace the configured credentials."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Server(answer(b"x")) as server:
        with connect(server, auth=OAuthToken(SECRET, "1")).open(EVENTS):
            pass
        assert f"Authorization: Bearer {SECRET}\r\n" in server.requests[0]


def test_a_redirect_is_not_followed(connect: Connect) -> None:
    """A redirect fails without a connection to its target, and the error shows only the host."""
    with Server(answer(b"x")) as other:
        moved = answer(b"", status="302 Found", headers=[f"Location: http://localhost:{other.port}/steal?token=1"])
        with Server(moved) as server:
            error = error_of(connect(server))
        assert other.connections == 0
    assert isinstance(error, Refused)
    assert "localhost" in str(error)
    assert "steal" not in str(error)


def test_a_redirect_body_is_not_read(connect: Connect) -> None:
    """A redirect fails at once, without waiting for the rest of its body."""
    start = answer(b"x" * 10**6, status="302 Found", headers=["Location: http://127.0.0.1/"])[:100_000]
    with Server(begins(start)) as server:
        begin = time.monotonic()
        assert "HTTP 302" in str(error_of(connect(server, timeout=60)))
        assert time.monotonic() - begin < 5


def test_requested_at_is_the_time_of_the_request(connect: Connect, clock: FakeClock) -> None:
    """`requested_at` is the time before the request was sent, not when the response arrived."""

    def slow(taken: socket.socket) -> None:
        clock.advance(100)
        taken.sendall(answer(b"x"))

    with Server(slow) as server, connect(server).open(EVENTS) as opened:
        assert opened.requested_at == START


@pytest.mark.parametrize(
    "cookie", ["a=b", "a=b; expires=Mon, 99 Foo 9999 00:00:00 GMT; version=x; domain=.; path=\xff"]
)
def test_cookies_are_not_stored(connect: Connect, cookie: str) -> None:
    """A cookie that a response sets is not sent with the next request."""
    with Server(answer(b"x", headers=[f"Set-Cookie: {cookie}"])) as server:
        client = connect(server)
        for _ in range(2):
            with client.open(EVENTS) as opened:
                opened.read(1)
        assert "Cookie" not in server.requests[1]


def test_an_error_body_is_decompressed(connect: Connect) -> None:
    """A gzip error body is decompressed, and its text ends the message."""
    with Server(answer(packed(b"the reason"), status="500 Oops", headers=["Content-Encoding: gzip"])) as server:
        assert str(error_of(connect(server))).endswith("Response: the reason")


def test_an_error_body_may_be_truncated(connect: Connect) -> None:
    """An error response is reported by its status even if its body is truncated or stalls."""
    with Server(answer(b"half a rea", status="403 No", length=False), close=True) as server:
        assert "HTTP 403" in str(error_of(connect(server)))
    endless = answer(b"x" * 10**6, status="500 Oops").replace(b"Content-Length: 1000000", b"Content-Length: 9000000")
    with Server(begins(endless)) as server:
        assert "xxx…" in str(error_of(connect(server)))


def test_a_truncated_body_names_the_window(connect: Connect) -> None:
    """The error for a truncated body begins with the stream and window."""
    with Server(gzip_in_chunks(packed(b"hello")[:-3])) as server:
        client = connect(server)
        error = error_of(client)
        assert type(error) is BrokenBody
        assert str(error).startswith("events 2024-01-01: ")
        with pytest.raises(BrokenBody, match=r"^events 2024-01-01: "), client.open(EVENTS) as opened:
            opened.read(10**9)


@pytest.mark.parametrize(
    ("script", "close", "words"),
    [
        (silent, False, "no response from 127.0.0.1 within 0 s: raise request_timeout"),
        (b"", True, "the connection to 127.0.0.1 failed"),
        (b"garbage\r\n\r\n", True, "the connection to 127.0.0.1 failed"),
    ],
)
def test_a_missing_response_is_transient(connect: Connect, script: Script, *, close: bool, words: str) -> None:
    """A timeout, a closed connection and a malformed response are transient errors."""
    with Server(script, close=close) as server:
        error = error_of(connect(server, timeout=0.2))
    assert type(error) is Transient
    assert words in str(error)


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        ("http://127.0.0.1:1", Transient, "Connection refused"),
        ("http://nowhere.invalid", Transient, "the host nowhere.invalid was not found"),
        ("http://a..b", Refused, "or of its proxy is invalid"),
        ("gopher://127.0.0.1", Refused, "or of its proxy is invalid"),
    ],
)
def test_a_failed_connection_says_why(connect: Connect, url: str, kind: type[MixpanelError], words: str) -> None:
    """The error for a failed connection names the cause: refused, unknown host or invalid URL."""
    error = error_of(connect(Hosts(url, url)))
    assert type(error) is kind
    assert words in str(error)


def test_an_unreachable_proxy_is_reported(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names `HTTPS_PROXY` and does not contain the proxy's password."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{SECRET}@127.0.0.1:1")
    error = error_of(connect(Hosts("https://data.example", "https://example")))
    assert type(error) is Transient
    assert "HTTPS_PROXY" in str(error)
    assert SECRET not in "".join(traceback.format_exception(error))


def test_a_proxy_error_is_quoted(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error quotes the status line of a proxy that rejects the connection."""
    with Server(answer(b"", status="407 Proxy Authentication Required"), close=True) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        error = error_of(connect(Hosts("https://data.example", "https://example")))
    assert "407 Proxy Authentication Required" in str(error)
    assert "HTTPS_PROXY" in str(error)


def test_loopback_bypasses_the_proxy(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to loopback are sent directly, whatever the proxy variables are."""
    with Server(answer(b"x")) as server, Server(answer(b"y")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        with connect(server).open(EVENTS) as opened:
            assert opened.read(1) == b"x"
        assert proxy.connections == 0


def test_an_invalid_proxy_address_is_rejected(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid `HTTPS_PROXY` is a lasting error that names the variable."""
    monkeypatch.setenv("HTTPS_PROXY", "http:///nowhere")
    error = error_of(connect(Hosts("https://data.example", "https://example")))
    assert isinstance(error, Refused)
    assert "HTTPS_PROXY" in str(error)


def test_a_stop_ends_a_silent_proxy_connection(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request goes through the proxy, and a stop ends the wait for a silent proxy."""
    clock = Clock()
    with Server(silent) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        client = connect(Hosts("https://data.example", "https://example"), clock=clock)
        check_stop(client, lambda: bool(proxy.requests))
        assert proxy.requests[0].startswith("CONNECT data.example:443 ")


def test_no_secret_reaches_log_or_traceback(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the debug log nor a traceback contains a secret that the server echoes."""
    echo = answer(f"you sent {SECRET} and {ACCOUNT.secrets[1]}".encode(), status="401 No")
    with caplog.at_level(logging.DEBUG), Server(echo, b"garbage\r\n\r\n", close=True) as server:
        client = connect(server)
        errors = [error_of(client), error_of(client)]
    for error in errors:
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None
    text = caplog.text + "".join("".join(traceback.format_exception(error)) for error in errors)
    assert "api/2.0/export" in caplog.text
    for secret in ACCOUNT.secrets:
        assert secret not in text
    assert "you sent *** and ***" in text


# --- Stopping --------------------------------------------------------------------------------------------------------


def check_stop(client: Client, is_under_way: Callable[[], bool], request: Request = EVENTS) -> None:
    """Start a request in a thread, stop the client while it runs, and check that the thread ends with `Stopped`."""
    ended: list[BaseException] = []

    def work() -> None:
        try:
            with client.open(request) as opened:
                opened.read(10**9)
        except MixpanelError as error:
            ended.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    deadline = time.monotonic() + 5
    while not is_under_way() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    client.stop()
    thread.join(3)
    assert not thread.is_alive()
    assert [type(error) for error in ended] == [Stopped]
    with pytest.raises(Stopped):
        client.open(request)


@pytest.mark.parametrize(
    "script",
    [silent, begins(b"HTTP/1.1 200 OK\r\n"), begins(gzip_in_chunks(packed(b"x" * 10**7))[:3000])],
    ids=["before the first byte", "inside the head", "inside the body"],
)
def test_a_stop_ends_a_silent_connection(connect: Connect, script: Script) -> None:
    """A stop ends a request at once, wherever in the response the server went silent."""
    with Server(script) as server:
        check_stop(connect(server, clock=Clock(), timeout=60), lambda: bool(server.requests))


def test_a_stop_ends_a_body_with_connection_close(connect: Connect) -> None:
    """A stop ends a stalled body even if the response has `Connection: close`."""
    start = answer(b"x" * 100, headers=["Connection: close"])[:-50]
    with Server(begins(start)) as server:
        check_stop(connect(server, clock=Clock(), timeout=60), lambda: bool(server.requests))


def test_a_stop_ends_a_quota_wait(connect: Connect) -> None:
    """A stop ends the wait that a 429 asked for."""
    with Server(answer(b"", status="429 Too Many Requests", headers=["Retry-After: 600"])) as server:
        check_stop(connect(server, clock=Clock()), lambda: bool(server.requests))


def test_a_stop_ends_a_tls_handshake(connect: Connect) -> None:
    """A stop ends a TLS handshake that the server does not answer."""
    listening = Server()
    with listening:
        hosts = Hosts(f"https://127.0.0.1:{listening.port}", "https://127.0.0.1")
        check_stop(connect(hosts, clock=Clock(), timeout=60), lambda: listening.connections > 0)


def test_a_stop_before_the_connection_ends_it(connect: Connect) -> None:
    """A connection opened after the sockets were shut down fails at once."""
    with Server(silent) as server:
        client = connect(server, clock=Clock(), timeout=60)
        client._sockets.shut_down()
        begin = time.monotonic()
        assert isinstance(error_of(client), Transient)
        assert time.monotonic() - begin < 3


def test_closed_sockets_are_released(connect: Connect) -> None:
    """The client keeps no reference to a closed socket."""
    with Server(answer(b"x", headers=["Connection: close"]), close=True) as server:
        client = connect(server)
        for _ in range(5):
            with client.open(EVENTS) as opened:
                opened.read(1)
        client.close()
        gc.collect()
        assert len(client._sockets._open) == 0


def test_connections_use_tcp_keepalive(connect: Connect) -> None:
    """A connection has TCP keep-alive and `TCP_NODELAY` enabled."""
    with Server(begins(gzip_in_chunks(packed(b"x" * 10**6))[:100])) as server:
        client = connect(server)
        with client.open(EVENTS):
            (used,) = client._sockets._open
            assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for loopback, with its key in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    name = ["-subj", "/CN=loopback", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run([openssl, "req", *kind, *name, *files], cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "certificate.pem").read_bytes())
    return both


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_self_signed_certificate_is_rejected(connect: Connect, tls: ssl.SSLContext) -> None:
    """A self-signed certificate is a lasting error that names `REQUESTS_CA_BUNDLE`; no request is sent."""
    with Server(answer(b"x"), tls=tls) as server:
        error = error_of(connect(server))
        assert server.requests == []
    assert isinstance(error, Refused)
    assert "REQUESTS_CA_BUNDLE" in str(error)


def test_requests_ca_bundle_adds_an_authority(
    connect: Connect, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that `REQUESTS_CA_BUNDLE` names is trusted."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with Server(answer(b"x"), tls=tls) as server, connect(server).open(EVENTS) as opened:
        assert opened.read(1) == b"x"


@pytest.mark.parametrize(
    "script",
    [silent, begins(gzip_in_chunks(packed(b"x" * 10**7))[:3000])],
    ids=["before the first byte", "in the body"],
)
def test_a_stop_ends_a_silent_tls_connection(
    connect: Connect, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch, script: Script
) -> None:
    """A stop ends a TLS connection whose server went silent."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with Server(script, tls=tls) as server:
        check_stop(connect(server, clock=Clock(), timeout=60), lambda: bool(server.requests))
