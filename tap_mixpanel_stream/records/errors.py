"""What can be wrong with a body.

    BadBody
    ├── BadLine       one line is no event: `bad_lines` decides
    ├── CutShort      the body stopped before its end: none of it may be delivered
    ├── LineTooLong   no end of line in sight
    ├── BadProfile    one result of a page is no profile
    └── BadRow        one entry of a list is no record

Each message is one line of printable text, whatever the body held, and each error can cross a process boundary.
"""

from __future__ import annotations

import logging

SHOWN_BYTES = 80
"""How much of a line a message shows."""


def shown(line: bytes) -> str:
    """The start of `line`, quoted, on one line, with nothing in it that a terminal would obey.

    Its size alone unless LOGLEVEL is DEBUG: ids and properties of people belong in no log that nobody asked for.
    """
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        return f"{len(line)} bytes, of which LOGLEVEL=DEBUG shows the first"
    return _quoted(line)


def _quoted(line: bytes) -> str:
    text = repr(line[:SHOWN_BYTES].decode("utf-8", "backslashreplace"))
    return text if len(line) <= SHOWN_BYTES else f"{text}… ({len(line)} bytes)"


class BadBody(Exception):  # noqa: N818  # These are named after what they are about.
    """What Mixpanel sent is not what it says it is."""


class BadLine(BadBody):
    """A line that is not an event.

    Attributes:
        number: the line's place in the body, from 1.
        reason: what is wrong with it.
        line: the line as it came, without its newline.
        parses: whether it is a whole JSON text all the same. A line that is not can be the mark of a cut.
    """

    def __init__(self, number: int, reason: str, line: bytes, parses: bool) -> None:
        super().__init__(number, reason, line, parses)
        self.number = number
        self.reason = reason
        self.line = line
        self.parses = parses

    def __str__(self) -> str:
        return f"line {self.number} is no event: {self.reason}: {shown(self.line)}"


class CutShort(BadBody):
    """The body is not whole: Mixpanel said so in a line of its own, or the last line breaks off.

    Attributes:
        number: the line's place in the body, from 1.
        seen: the line as it came, without its newline.
    """

    def __init__(self, number: int, seen: bytes) -> None:
        super().__init__(number, seen)
        self.number = number
        self.seen = seen

    def __str__(self) -> str:
        # Mixpanel's own words are no event's.
        told = shown(self.seen) if self.seen.startswith(b'{"event"') else _quoted(self.seen)
        return f"the body was cut short at line {self.number}: {told}"


class LineTooLong(BadBody):
    """A line is longer than any event can be.

    Attributes:
        longest: the bytes allowed.
    """

    def __init__(self, longest: int) -> None:
        super().__init__(longest)
        self.longest = longest

    def __str__(self) -> str:
        return f"a line is longer than {self.longest} bytes, and no event is"


class BadProfile(BadBody):
    """A result of a page is not a profile.

    Attributes:
        index: its place among the results that were converted so far, from 0.
        reason: what is wrong with it.
        result: the result as it came.
    """

    def __init__(self, index: int, reason: str, result: bytes) -> None:
        super().__init__(index, reason, result)
        self.index = index
        self.reason = reason
        self.result = result

    def __str__(self) -> str:
        return f"result {self.index} is no profile: {self.reason}: {shown(self.result)}"


class BadRow(BadBody):
    """An entry of a list is not a record.

    Attributes:
        index: its place in the list, from 0.
        reason: what is wrong with it.
        row: the entry as it came.
    """

    def __init__(self, index: int, reason: str, row: bytes) -> None:
        super().__init__(index, reason, row)
        self.index = index
        self.reason = reason
        self.row = row

    def __str__(self) -> str:
        return f"entry {self.index} is no record: {self.reason}: {shown(self.row)}"
