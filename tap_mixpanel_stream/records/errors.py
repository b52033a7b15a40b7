"""What can be wrong with a body.

    BadBody
    ├── BadLine       a line is not an event: `bad_lines` decides
    ├── CutShort      the body was truncated: none of it may be delivered
    ├── LineTooLong   a line exceeds any event
    ├── BadProfile    a result of a page is not a profile
    └── BadRow        an entry of a list is not a record

Each message is one line of printable text, and each error can be pickled.
"""

from __future__ import annotations

import logging

SHOWN_BYTES = 80
"""How much of a line a message shows."""


def excerpt(line: bytes) -> str:
    """Return the start of a line, quoted and without control characters; its size alone unless LOGLEVEL is DEBUG.

    A log does not repeat ids and properties of people unless the user asks for it.
    """
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        return f"{len(line)} bytes; LOGLEVEL=DEBUG shows the beginning"
    return _quoted(line)


def _quoted(line: bytes) -> str:
    text = repr(line[:SHOWN_BYTES].decode("utf-8", "backslashreplace"))
    return text if len(line) <= SHOWN_BYTES else f"{text}… ({len(line)} bytes)"


class BadBody(Exception):  # noqa: N818  # These are named after what they are about.
    """A response body is malformed."""


class BadLine(BadBody):
    """A line that is not an event.

    Attributes:
        number: The line's place in the body, from 1.
        reason: What is wrong with it.
        line: The line as it came, without its newline.
        parses: Whether it is a complete JSON text. A line that is not can be where the body was truncated.
    """

    def __init__(self, number: int, reason: str, line: bytes, parses: bool) -> None:
        super().__init__(number, reason, line, parses)
        self.number = number
        self.reason = reason
        self.line = line
        self.parses = parses

    def __str__(self) -> str:
        return f"malformed line {self.number}: {self.reason}: {excerpt(self.line)}"


class CutShort(BadBody):
    """The body was truncated: a line of Mixpanel's says so, or the last line is incomplete.

    Attributes:
        number: The line's place in the body, from 1.
        seen: The line as it came, without its newline.
    """

    def __init__(self, number: int, seen: bytes) -> None:
        super().__init__(number, seen)
        self.number = number
        self.seen = seen

    def __str__(self) -> str:
        # A message of Mixpanel's holds no personal data.
        text = excerpt(self.seen) if self.seen.startswith(b'{"event"') else _quoted(self.seen)
        return f"the response was truncated at line {self.number}: {text}"


class LineTooLong(BadBody):
    """A line is longer than any event can be.

    Attributes:
        longest: The bytes allowed.
    """

    def __init__(self, longest: int) -> None:
        super().__init__(longest)
        self.longest = longest

    def __str__(self) -> str:
        return f"a line exceeds {self.longest} bytes, the limit for an event"


class BadProfile(BadBody):
    """A result of a page is not a profile.

    Attributes:
        index: Its place among the results that were converted so far, from 0.
        reason: What is wrong with it.
        result: The result as it came.
    """

    def __init__(self, index: int, reason: str, result: bytes) -> None:
        super().__init__(index, reason, result)
        self.index = index
        self.reason = reason
        self.result = result

    def __str__(self) -> str:
        return f"malformed profile at index {self.index}: {self.reason}: {excerpt(self.result)}"


class BadRow(BadBody):
    """An entry of a list is not a record.

    Attributes:
        index: Its place in the list, from 0.
        reason: What is wrong with it.
        row: The entry as it came.
    """

    def __init__(self, index: int, reason: str, row: bytes) -> None:
        super().__init__(index, reason, row)
        self.index = index
        self.reason = reason
        self.row = row

    def __str__(self) -> str:
        return f"malformed entry at index {self.index}: {self.reason}: {excerpt(self.row)}"
