"""A page of profiles: each result a record, or a bad profile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import msgspec

from .errors import BadProfile
from .members import NotARecord, whole_or_masked
from .nul import without_nul

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .envelope import Envelope


class ProfilePage(ABC):
    r"""Converts the results of pages.

    Args:
        envelope: what stands around each record.
        strip_nul: take `\u0000` out of the strings of records.

    Attributes:
        results: results seen.
        records: records made.
        nuls: `\u0000` taken out.
    """

    def __init__(self, *, envelope: Envelope, strip_nul: bool) -> None:
        self.results = 0
        self.records = 0
        self.nuls = 0
        self._envelope = envelope
        self._strip_nul = strip_nul

    def convert(self, results: Sequence[msgspec.Raw | bytes], on_bad_profile: Callable[[BadProfile], None]) -> bytes:
        """Convert a page's results.

        Args:
            results: the JSON text of each.
            on_bad_profile: is told of each result that is no profile; raises, or sets it aside.

        Returns:
            A line for each profile: a record in its envelope.

        Raises:
            BadProfile: one of them is no profile, and `on_bad_profile` raises it.
        """
        records = []
        for index, result in enumerate(map(bytes, results), start=self.results):
            try:
                if not result.isascii():
                    result.decode()
                records.append(whole_or_masked(self._record, result))
            except UnicodeDecodeError as error:
                on_bad_profile(BadProfile(index, f"not UTF-8 at byte {error.start + 1}", result))
            except NotARecord as error:
                on_bad_profile(BadProfile(index, str(error), result))
            except RecursionError:
                on_bad_profile(BadProfile(index, "nested too deep", result))
            except msgspec.DecodeError as error:
                on_bad_profile(BadProfile(index, f"no JSON object: {error}", result))
        self.results += len(results)
        if not records:
            return b""
        self.records += len(records)
        lines = self._lines(records)
        if self._strip_nul:
            lines, nuls = without_nul(lines)
            self.nuls += nuls
        return lines

    def _lines(self, records: list[bytes]) -> bytes:
        # A page may be laid out over lines. JSON lets a raw end of line stand between tokens only, where a space is
        # the same.
        laid_out = any(b"\n" in record or b"\r" in record for record in records)
        if laid_out:
            records = [record.replace(b"\n", b" ").replace(b"\r", b" ") for record in records]
        between = self._envelope.tail + self._envelope.head
        return b"".join((self._envelope.head, between.join(records), self._envelope.tail))

    @abstractmethod
    def _record(self, result: bytes) -> bytes:
        """Make the record of one result of valid UTF-8, without its envelope.

        Raises:
            NotARecord: it is JSON, and no profile.
            msgspec.DecodeError: it is not a JSON object.
            RecursionError: it is nested deeper than Python follows.
        """
