"""A portion: the shaped records of one window or one page, complete and checked, not yet delivered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from .spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType


class Shaper(Protocol):
    """What turns a body's bytes into record lines: `convert` while they arrive, `finish` once at the end."""

    def convert(self, block: bytes) -> bytes:
        """Return the record lines of a block of whole lines."""

    def finish(self, rest: bytes) -> bytes:
        """Return the record line of a last line without line end; raise if the body cannot be whole."""


class Cutter(Protocol):
    """What cuts a body into blocks of whole lines."""

    def cut(self, chunk: bytes) -> bytes:
        """Return the whole lines that are there now."""

    def rest(self) -> bytes:
        """Return what is left after the last line end."""


@dataclass
class Portion:
    r"""Complete record lines, waiting for their turn.

    Attributes:
        lines: The record lines.
        aside: Lines that were no records, as they came, each ended by a line feed.
        records: How many record lines there are.
        set_aside: How many lines were set aside.
        nuls: How many `\u0000` were taken out of strings.
        received: Bytes of the answer as they came over the network.
        unpacked: Bytes of the answer, unpacked.
    """

    lines: Spool = field(default_factory=Spool)
    aside: Spool = field(default_factory=Spool)
    records: int = 0
    set_aside: int = 0
    nuls: int = 0
    received: int = 0
    unpacked: int = 0

    def collect(self, blocks: Iterable[bytes], cutter: Cutter, shaper: Shaper) -> None:
        """Shape and keep a whole body.

        Args:
            blocks: The body, unpacked, cut anywhere. Ends well only if the body is whole.
            cutter: Makes blocks of whole lines of it.
            shaper: Makes record lines of those.
        """
        for block in blocks:
            if lines := cutter.cut(block):
                self.lines.write(shaper.convert(lines))
        self.lines.write(shaper.finish(cutter.rest()))

    def close(self) -> None:
        """Let go of what was kept."""
        self.lines.close()
        self.aside.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
