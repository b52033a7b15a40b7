"""Errors in a response body.

    BadBody
    ├── BadLine        a line is not an event: the setting `bad_lines` decides whether to skip it
    ├── TruncatedBody  the body was truncated: none of it may be delivered
    ├── LineTooLong    a line is longer than any event can be
    ├── BadProfile     a result of a page is not a profile
    └── BadRow         an entry of a list is not a record

Each message is one line of printable text. The errors can be pickled.
"""

from __future__ import annotations

import logging

SHOWN_BYTES = 80
"""Maximum number of bytes of a line that a message quotes."""


def excerpt(line: bytes) -> str:
    """Return the size of a line or, if LOGLEVEL is DEBUG, its beginning, quoted and without control characters.

    Personal data stays out of the log unless the user asks for it.
    """
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        return f"{len(line)} bytes; LOGLEVEL=DEBUG shows the beginning"
    return _quoted(line)


def _quoted(line: bytes) -> str:
    text = repr(line[:SHOWN_BYTES].decode("utf-8", "backslashreplace"))
    return text if len(line) <= SHOWN_BYTES else f"{text}… ({len(line)} bytes)"


class BadBody(Exception):  # noqa: N818  # Named after the faulty part, like its subclasses.
    """A response body is malformed."""


class BadLine(BadBody):
    """A line that is not an event.

    Attributes:
        number: The line number in the body, from 1.
        reason: Why the line is malformed.
        line: The line as received, without its newline.
        is_json: Whether the line is complete JSON. If not, the body may have been truncated there.
    """

    def __init__(self, number: int, reason: str, line: bytes, is_json: bool) -> None:
        super().__init__(number, reason, line, is_json)
        self.number = number
        self.reason = reason
        self.line = line
        self.is_json = is_json

    def __str__(self) -> str:
        return f"malformed line {self.number}: {self.reason}: {excerpt(self.line)}"


class TruncatedBody(BadBody):
    """The body was truncated: a line is Mixpanel's message about it, or the last line is incomplete.

    Attributes:
        number: The line number in the body, from 1.
        line: The line as received, without its newline.
    """

    def __init__(self, number: int, line: bytes) -> None:
        super().__init__(number, line)
        self.number = number
        self.line = line

    def __str__(self) -> str:
        # Mixpanel's own messages contain no personal data.
        text = excerpt(self.line) if self.line.startswith(b'{"event"') else _quoted(self.line)
        return f"the response was truncated at line {self.number}: {text}"


class LineTooLong(BadBody):
    """A line is longer than any event can be.

    Attributes:
        max_bytes: The maximum length of a line.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self.max_bytes = max_bytes

    def __str__(self) -> str:
        return f"a line exceeds {self.max_bytes} bytes, the limit for an event"


class BadProfile(BadBody):
    """A result of a page is not a profile.

    Attributes:
        index: The index among all results read so far, from 0.
        reason: Why the result is malformed.
        result: The result as received.
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
        index: The index in the list, from 0.
        reason: Why the entry is malformed.
        row: The entry as received.
    """

    def __init__(self, index: int, reason: str, row: bytes) -> None:
        super().__init__(index, reason, row)
        self.index = index
        self.reason = reason
        self.row = row

    def __str__(self) -> str:
        return f"malformed entry at index {self.index}: {self.reason}: {excerpt(self.row)}"
