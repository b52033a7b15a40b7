"""A chunk: the shaped records of one window or one page, complete and checked, not yet delivered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from .spool import Spool

if TYPE_CHECKING:
    from types import TracebackType


@dataclass
class SpooledChunk:
    r"""Complete record lines, waiting for their turn.

    Attributes:
        lines: The record lines.
        rejected_lines: Lines that were no records, as they came, each ended by a line feed.
        records: How many record lines there are.
        what: What was asked for, for messages.
        rejected: How many lines were set aside.
        first_rejected: The place in the response of the first of them, from 1 for a line and from 0 for a profile.
        nuls: How many `\u0000` were taken out of strings.
        extent: How much of its stream it covers: days of a window, profiles of a page.
        received: Bytes of the answer as they came over the network.
        decompressed_bytes: Bytes of the answer, unpacked.
        names: Names of events, where they are collected.
        days: Events by day of the stored clock since 1970, where they are counted.
    """

    lines: Spool = field(default_factory=Spool)
    rejected_lines: Spool = field(default_factory=Spool)
    records: int = 0
    what: str = ""
    rejected: int = 0
    first_rejected: int = 0
    nuls: int = 0
    extent: int = 0
    received: int = 0
    decompressed_bytes: int = 0
    names: set[str] = field(default_factory=set)
    days: dict[int, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, Any]:
        """What was counted while the body was shaped, by the attributes' names."""
        names = ("records", "rejected", "first_rejected", "nuls", "decompressed_bytes", "names", "days")
        return {name: getattr(self, name) for name in names}

    @counts.setter
    def counts(self, counts: dict[str, Any]) -> None:
        for name, count in counts.items():
            setattr(self, name, count)

    def complete(self) -> None:
        """Nothing more comes: have it all where it is kept.

        Raises:
            SpoolError: The file system did not take it.
        """
        self.lines.flush()
        self.rejected_lines.flush()

    def close(self) -> None:
        """Let go of what was kept."""
        self.lines.close()
        self.rejected_lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
