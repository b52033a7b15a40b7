"""A ClickHouse server: its HTTP interface with chdb, which is ClickHouse as a library.

    PYTHON_WITH_CHDB clickhouse_server.py FOLDER PORT USER PASSWORD

A query is the parameter `query`, the body, or both in this order; settings are further parameters. chdb runs one query
at a time: concurrent queries, replication and clusters are not emulated.
"""

from __future__ import annotations

import base64
import gzip
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from chdb.session import Session


class Handler(BaseHTTPRequestHandler):
    """A handler for queries."""

    session: Session
    user: str
    password: str

    def do_POST(self) -> None:
        """Run a query and respond like ClickHouse."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        if not self._is_authorized():
            self._respond(403, f"Code: 516. DB::Exception: {self.user}: Authentication failed".encode())
            return
        settings = dict(parse_qsl(urlsplit(self.path).query))
        query = "\n".join(filter(None, (settings.pop("query", ""), body.decode())))
        form = settings.pop("default_format", "TabSeparated")
        settings.pop("query_id", None)
        try:
            if database := settings.pop("database", ""):
                self.session.query(f"USE {database}")
            for name, value in settings.items():
                self.session.query(f"SET {name} = '{value}'")
            self._respond(200, bytes(self.session.query(query, form).bytes()))
        except Exception as error:  # noqa: BLE001 - a server must not stop
            self._respond(500, str(error).encode())

    def _is_authorized(self) -> bool:
        basic = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = self.headers["X-ClickHouse-User"], self.headers["X-ClickHouse-Key"]
        return self.headers["Authorization"] == f"Basic {basic}" or headers == (self.user, self.password)

    def _respond(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def main() -> None:
    """Serve until the process is ended."""
    folder, port, Handler.user, Handler.password = sys.argv[1:]
    Handler.session = Session(folder)
    HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
