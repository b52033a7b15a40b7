"""The local Mixpanel, in a process of its own, so that its work is nobody's cost."""

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

from .data import FIRST_DAY, USUAL, History

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE_SIZE = 5000
"""Profiles in a page: what the tap asks for by default."""


@dataclass(frozen=True)
class Site:
    """Where the local Mixpanel is, and who may ask.

    Attributes:
        base: Its address, without a path.
        settings: The tap's settings that reach it.
    """

    base: str
    settings: dict[str, str]

    def save_profiles(self, path: Path) -> None:
        """Write the pages of a query for all profiles into a file, packed as they come."""
        login = self.settings["service_account_username"], self.settings["service_account_secret"]
        form: dict[str, Any] = {"page_size": PAGE_SIZE, "page": 0}
        with path.open("wb") as file, requests.Session() as session:
            # No proxy must come in between.
            session.trust_env = False
            while True:
                answer = session.post(
                    f"{self.settings['api_url']}/query/engage",
                    params={"project_id": self.settings["project_id"]},
                    data=form,
                    auth=login,
                    stream=True,
                )
                packed = answer.raw.read(decode_content=False)
                # An answer that is small comes as it is.
                packed = packed if answer.headers.get("Content-Encoding") == "gzip" else gzip.compress(packed)
                file.write(packed)
                page = json.loads(gzip.decompress(packed))
                if len(page["results"]) < page["page_size"]:
                    return
                form |= {"session_id": page["session_id"], "page": page["page"] + 1}


@contextmanager
def serving(profiles: int = 0, zone: str = "UTC", layout: str = USUAL) -> Iterator[Site]:
    """Serve the benchmark's data while the block lasts.

    Args:
        profiles: How many profiles there are.
        zone: The project's zone.
        layout: How an event's line is laid out.
    """
    command = [sys.executable, "-m", "benchmarks.serving", str(profiles), zone, layout]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            settings = json.loads(cast("Any", server.stdout).readline())
            yield Site(settings["api_url"].removesuffix("/api"), settings)
        finally:
            # The server ends with its standard input, also when this process is killed.
            cast("Any", server.stdin).close()


class _EncodedBody:
    """A body as it goes out; see `tap_mixpanel_stream.emulator.response_writer.EncodedBody`."""

    coding: str | None
    pieces: Iterator[bytes]

    def __init__(self, history: History, first: date, last: date, *, gzip: bool) -> None:
        self.coding = "gzip" if gzip else None
        self.pieces = history.gzipped(first, last) if gzip else (day.lines for day in history.between(first, last))


class Ready:
    """Stands in for the emulator's cache: every export is at hand, packed.

    Args:
        zone: The project's zone.
        layout: How an event's line is laid out.
    """

    capacity = 1

    def __init__(self, zone: str = "UTC", layout: str = USUAL) -> None:
        self._seconds, self._milliseconds = (History(in_ms=in_ms, zone=zone, layout=layout) for in_ms in (False, True))
        _ = self._seconds.days, self._milliseconds.days

    def get(self, key: tuple[Any, ...]) -> _EncodedBody | None:
        """Return the body for a request, by whether it takes gzip, and its parameters."""
        query = dict(key[1:])
        if "limit" in query:
            return None
        history = self._milliseconds if query.get("time_in_ms") == "true" else self._seconds
        first, last = (date.fromisoformat(query[name]) for name in ("from_date", "to_date"))
        return _EncodedBody(history, first, last, gzip=key[0])

    def store(self, key: tuple[Any, ...], body: object) -> None:
        """Keep nothing more."""


def main() -> None:
    """Serve until standard input ends. The first line on stdout is the tap's settings."""
    profiles, zone, layout = sys.argv[1:]
    emulator = Emulator(SyntheticProject(1, FIRST_DAY, FIRST_DAY, profiles=int(profiles), zone=zone), gzip_level=1)
    emulator.cache = cast("Any", Ready(zone, layout))
    with emulator:
        sys.stdout.write(json.dumps(emulator.settings) + "\n")
        sys.stdout.flush()
        reader = threading.Thread(target=sys.stdin.read)
        reader.start()
        reader.join()


if __name__ == "__main__":
    main()
