"""Connections that another thread can interrupt.

A thread can wait minutes for the first byte of a response, and cannot check a flag in the meantime. Shutting down its
socket wakes it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from requests.utils import get_auth_from_url
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from .auth import basic_authorization
from .framing import StrictResponse

if TYPE_CHECKING:
    from urllib3 import PoolManager

_POOL_SIZE = 100
"""Maximum size of urllib3's connection pool. If there are more threads, it logs a warning for each of them."""


def _keep_alive_options() -> list[tuple[int, int, int]]:
    """Return the socket options for TCP keep-alive: a probe after a minute of silence, then every 15 s.

    An export can be silent for minutes. Routers silently drop idle connections, in some clouds after about six minutes,
    and the response would then never arrive.
    """
    options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    # These options are missing on some systems other than Linux, where the system's defaults apply.
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 8)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


class Sockets:
    """A registry of open sockets, which it references weakly."""

    def __init__(self) -> None:
        # A reentrant lock, because a signal handler can call `shut_down` while the lock is held.
        self._lock = threading.RLock()
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._is_shut_down = False

    def add(self, sock: socket.socket) -> None:
        """Register a socket. After `shut_down`, the socket is shut down immediately."""
        with self._lock:
            self._open.add(sock)
            if self._is_shut_down:
                _shut_down(sock)

    def discard(self, sock: socket.socket) -> None:
        """Remove a socket from the registry."""
        with self._lock:
            self._open.discard(sock)

    def shut_down(self) -> None:
        """Shut down all sockets, including those registered later. Reads and writes then find a closed connection."""
        with self._lock:
            self._is_shut_down = True
            for sock in list(self._open):
                _shut_down(sock)


def _shut_down(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # Already closed, by either side.
        # Not `SSLSocket.shutdown`, which drops the TLS state first: a reader would then get encrypted data.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Adapter(HTTPAdapter):
    """An adapter for `requests` that registers every socket.

    Args:
        sockets: The registry.
    """

    def __init__(self, sockets: Sockets) -> None:
        self._pools = _pools(sockets)
        super().__init__(pool_maxsize=_POOL_SIZE)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: D102
        super().init_poolmanager(*args, **kwargs, socket_options=_keep_alive_options())
        self._use_pools(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        manager = super().proxy_manager_for(*args, **kwargs, socket_options=_keep_alive_options())
        self._use_pools(manager)
        return manager

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """Return the header with a proxy's credentials, encoded as UTF-8 instead of the parent's ISO-8859-1."""
        username, password = get_auth_from_url(proxy)
        return {"Proxy-Authorization": basic_authorization(username, password)} if username else {}

    def _use_pools(self, manager: PoolManager) -> None:
        # A SOCKS proxy has its own pools. Its sockets are not registered, so only the read timeout ends waits on them.
        if manager.pool_classes_by_scheme.get("http") is HTTPConnectionPool:
            manager.pool_classes_by_scheme = self._pools


def _pools(sockets: Sockets) -> dict[str, Any]:
    """Return urllib3's pool classes by scheme, with connections that register their sockets."""

    class Plain(HTTPConnection):
        response_class = StrictResponse

        def connect(self) -> None:
            super().connect()
            sockets.add(_plain_socket(self.sock))

    class Tls(HTTPSConnection):
        response_class = StrictResponse
        _handshake_socket: socket.socket | None = None

        def _new_conn(self) -> socket.socket:
            new = super()._new_conn()
            # During the TLS handshake, and a proxy's tunnel before it, the socket object is not accessible. So register
            # a duplicate of it until the handshake is done.
            self._handshake_socket = new.dup()
            sockets.add(self._handshake_socket)
            return new

        def connect(self) -> None:
            try:
                super().connect()
                sockets.add(_plain_socket(self.sock))
            finally:
                if self._handshake_socket is not None:
                    sockets.discard(self._handshake_socket)
                    self._handshake_socket.close()
                    self._handshake_socket = None

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": PlainPool, "https": TlsPool}


def _plain_socket(sock: Any) -> socket.socket:
    """Return the underlying socket of a connection. TLS through a TLS proxy wraps it."""
    inner: socket.socket = sock if isinstance(sock, socket.socket) else sock.socket
    return inner
