"""Pages of profiles: each result a record, or a bad profile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import msgspec

from .converter import Converter
from .errors import BadProfile
from .json_objects import NotARecord, whole_or_masked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .envelope import Envelope


class ProfileConverter(Converter, ABC):
    """Converts the results of pages. See `Converter`.

    Attributes:
        needs: the properties that columns are made of; they must come even where only others are asked for.
        results: results seen.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, envelope: Envelope, selected: frozenset[str] | None = None, strip_nul: bool = False) -> None:
        super().__init__(envelope=envelope, selected=selected, strip_nul=strip_nul)
        self.results = 0

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
        self.records += len(records)
        # A page may be laid out over lines. As with carriage returns, a space means the same.
        return self._finished(b"".join(record.replace(b"\n", b" ") + b"\n" for record in records))

    @abstractmethod
    def _record(self, result: bytes) -> bytes:
        """Make the record of one result of valid UTF-8, without its envelope.

        Raises:
            NotARecord: it is JSON, and no profile.
            msgspec.DecodeError: it is not a JSON object.
            RecursionError: it is nested deeper than Python follows.
        """
