"""Connections that another thread can close.

A thread that waits for Mixpanel's first byte, perhaps for minutes, checks no flag. Shutting its socket down wakes it.
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

from .auth import basic
from .framing import Response

if TYPE_CHECKING:
    from urllib3 import PoolManager

_POOLED = 100
"""Ended connections that urllib3 may hold on to. With fewer than there are threads it logs a warning for each more."""


def _kept_alive() -> list[tuple[int, int, int]]:
    """Return the socket options of TCP keep-alive: a probe after a minute of silence, then every 15 s.

    An export may be silent for minutes. Routers on the way forget connections without traffic, after about six minutes
    in some clouds, and without a word: what was asked for would never come.
    """
    options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    # Under other names, or missing, on other systems than Linux, whose own patience has to do there.
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 8)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


class Sockets:
    """The sockets in use, by weak references."""

    def __init__(self) -> None:
        # The lock can be taken again by its holder, so that `shut` may come from a signal handler at any moment.
        self._lock = threading.RLock()
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._shut = False

    def add(self, used: socket.socket) -> None:
        """Register a socket; shut it down at once after `shut`."""
        with self._lock:
            self._open.add(used)
            if self._shut:
                _shut_down(used)

    def discard(self, used: socket.socket) -> None:
        """Forget a socket."""
        with self._lock:
            self._open.discard(used)

    def shut(self) -> None:
        """Shut down all sockets, now and later: their readers and writers find the connection closed."""
        with self._lock:
            self._shut = True
            for used in list(self._open):
                _shut_down(used)


def _shut_down(used: socket.socket) -> None:
    with contextlib.suppress(OSError):  # Already closed, by either side.
        # Not an SSL socket's own method, which forgets the keys first: its reader would take cipher text for data.
        socket.socket.shutdown(used, socket.SHUT_RDWR)


class Adapter(HTTPAdapter):
    """The adapter of `requests`, which registers every socket with `Sockets`."""

    def __init__(self, sockets: Sockets) -> None:
        """Make an adapter.

        Args:
            sockets: Registers the sockets.
        """
        self._pools = _pools(sockets)
        super().__init__(pool_maxsize=_POOLED)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: D102
        super().init_poolmanager(*args, **kwargs, socket_options=_kept_alive())
        self._use_pools(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        manager = super().proxy_manager_for(*args, **kwargs, socket_options=_kept_alive())
        self._use_pools(manager)
        return manager

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """Return the credentials of a proxy, encoded as UTF-8; the parent's ISO-8859-1 lacks most characters."""
        username, password = get_auth_from_url(proxy)
        return {"Proxy-Authorization": basic(username, password)} if username else {}

    def _use_pools(self, manager: PoolManager) -> None:
        # A SOCKS proxy brings pools of its own; its sockets are not taken in, and end with their time-out.
        if manager.pool_classes_by_scheme.get("http") is HTTPConnectionPool:
            manager.pool_classes_by_scheme = self._pools


def _pools(sockets: Sockets) -> dict[str, Any]:
    """Return urllib3's pools by scheme, of connections whose sockets are registered."""

    class Plain(HTTPConnection):
        response_class = Response

        def connect(self) -> None:
            super().connect()
            sockets.add(_plain_socket(self.sock))

    class Tls(HTTPSConnection):
        response_class = Response
        _handshaking: socket.socket | None = None

        def _new_conn(self) -> socket.socket:
            new = super()._new_conn()
            # The handshake, and a proxy's tunnel before it, happen in an object of which nobody else hears. A second
            # handle on the same connection stands in until they are over.
            self._handshaking = new.dup()
            sockets.add(self._handshaking)
            return new

        def connect(self) -> None:
            try:
                super().connect()
                sockets.add(_plain_socket(self.sock))
            finally:
                if self._handshaking is not None:
                    sockets.discard(self._handshaking)
                    self._handshaking.close()
                    self._handshaking = None

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": PlainPool, "https": TlsPool}


def _plain_socket(used: Any) -> socket.socket:
    """Return the socket of a connection; TLS through a TLS proxy wraps it twice."""
    inner: socket.socket = used if isinstance(used, socket.socket) else used.socket
    return inner
