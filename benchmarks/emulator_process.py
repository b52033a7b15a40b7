"""The emulator in a separate process, so that its CPU and memory are not measured."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, cast

import requests

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject

from .data import DEFAULT_LAYOUT, FIRST_DAY, History

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE_SIZE = 5000
"""Profiles per page, the default of the tap."""


@dataclass(frozen=True)
class EmulatorServer:
    """A running emulator.

    Attributes:
        url: URL of the server without a path.
        settings: Tap settings for the emulator, including credentials.
    """

    url: str
    settings: dict[str, str]

    def save_profiles(self, path: Path) -> None:
        """Request all profiles and write the pages to a file, each as a gzip member."""
        login = self.settings["service_account_username"], self.settings["service_account_secret"]
        form: dict[str, Any] = {"page_size": PAGE_SIZE, "page": 0}
        with path.open("wb") as file, requests.Session() as session:
            # Ignore proxies in the environment.
            session.trust_env = False
            while True:
                response = session.post(
                    f"{self.settings['api_url']}/query/engage",
                    params={"project_id": self.settings["project_id"]},
                    data=form,
                    auth=login,
                    stream=True,
                )
                compressed = response.raw.read(decode_content=False)
                # Small responses are not compressed.
                if response.headers.get("Content-Encoding") != "gzip":
                    compressed = gzip.compress(compressed)
                file.write(compressed)
                page = json.loads(gzip.decompress(compressed))
                if len(page["results"]) < page["page_size"]:
                    return
                form |= {"session_id": page["session_id"], "page": page["page"] + 1}


@contextmanager
def run_emulator(profiles: int = 0, zone: str = "UTC", layout: str = DEFAULT_LAYOUT) -> Iterator[EmulatorServer]:
    """Run an emulator with the data of the benchmarks.

    Args:
        profiles: Number of profiles.
        zone: Time zone of the project.
        layout: Layout of the lines, a key of `LAYOUTS`.
    """
    command = [sys.executable, "-m", "benchmarks.emulator_process", str(profiles), zone, layout]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            settings = json.loads(cast("Any", server.stdout).readline())
            yield EmulatorServer(settings["api_url"].removesuffix("/api"), settings)
        finally:
            # The server exits at the end of its stdin, so it also exits if this process is killed.
            cast("Any", server.stdin).close()


class _EncodedBody:
    """An encoded body. See `tap_mixpanel_stream.emulator.response_writer.EncodedBody`."""

    coding: str | None
    pieces: Iterator[bytes]

    def __init__(self, history: History, first: date, last: date, *, gzip: bool) -> None:
        self.coding = "gzip" if gzip else None
        self.pieces = history.gzipped(first, last) if gzip else (day.lines for day in history.between(first, last))


class PreparedExports:
    """A replacement for the emulator's cache that contains the compressed body of every export.

    Args:
        zone: Time zone of the project.
        layout: Layout of the lines, a key of `LAYOUTS`.
    """

    capacity = 1

    def __init__(self, zone: str = "UTC", layout: str = DEFAULT_LAYOUT) -> None:
        self._seconds, self._milliseconds = (History(in_ms=in_ms, zone=zone, layout=layout) for in_ms in (False, True))
        _ = self._seconds.days, self._milliseconds.days

    def get(self, key: tuple[Any, ...]) -> _EncodedBody | None:
        """Return the body of a response. The key is whether the client accepts gzip, and the parameters."""
        query = dict(key[1:])
        if "limit" in query:
            return None
        history = self._milliseconds if query.get("time_in_ms") == "true" else self._seconds
        first, last = (date.fromisoformat(query[name]) for name in ("from_date", "to_date"))
        return _EncodedBody(history, first, last, gzip=key[0])

    def store(self, key: tuple[Any, ...], body: object) -> None:
        """Ignore the body, because all bodies are available already."""


def main() -> None:
    """Serve until stdin ends. The first line on stdout contains the tap settings as JSON."""
    profiles, zone, layout = sys.argv[1:]
    emulator = Emulator(SyntheticProject(1, FIRST_DAY, FIRST_DAY, profiles=int(profiles), zone=zone), gzip_level=1)
    emulator.cache = cast("Any", PreparedExports(zone, layout))
    with emulator:
        sys.stdout.write(json.dumps(emulator.settings) + "\n")
        sys.stdout.flush()
        reader = threading.Thread(target=sys.stdin.read)
        reader.start()
        reader.join()


if __name__ == "__main__":
    main()
