"""Bytes as they arrive, cut at the ends of lines."""

from __future__ import annotations

from .errors import LineTooLong

LONGEST_LINE = 32 * 1024 * 1024
"""Mixpanel takes events of 1 MB at most; what is far beyond is no line but a body gone wrong."""


class LineCutter:
    r"""Hands on the whole lines of a stream of chunks and holds the half line back.

    It cuts at `\n` alone: U+2028, U+0085 and a lone carriage return can stand inside a line.

    Args:
        longest: bytes a line may have, its newline not counted.
    """

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        # A bytearray grows in place, so a line that spans many chunks is copied once and not once a chunk.
        self._half = bytearray()

    def cut(self, chunk: bytes) -> bytes:
        r"""Take a chunk of the body.

        Returns:
            The lines that are whole now, each ended by `\n`; empty while a line is unfinished.

        Raises:
            LineTooLong: a line, finished or not, is longer than allowed.
        """
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._half += chunk
            self._refuse_over(len(self._half))
            return b""
        block = b"".join((self._half, chunk[:end])) if self._half else chunk[:end]
        self._half = bytearray(chunk[end:])
        if len(block) > self._longest:
            self._refuse_over(max(map(len, block.split(b"\n"))))
        self._refuse_over(len(self._half))
        return block

    def rest(self) -> bytes:
        """Take what stood after the last newline; empty where the body ended in one."""
        rest = bytes(self._half)
        self._half.clear()
        return rest

    def _refuse_over(self, length: int) -> None:
        if length > self._longest:
            raise LineTooLong(self._longest)
