"""Decode and write records one by one, for everything that the SDK does with single records.

msgspec reads and writes the same JSON as the SDK, at a fraction of the cost. It raises for values that it cannot
represent exactly, such as an unpaired surrogate or a number beyond the range of a double. Python's `json`, which the
SDK uses, handles these lines.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
from singer_sdk.singerlib import RecordMessage
from singer_sdk.singerlib.encoding.simple import SimpleSingerWriter
from singer_sdk.singerlib.json import serialize_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from singer_sdk.singerlib.encoding.simple import Message

    from ..delivery.stdout import Stdout

# Bytes of records to buffer before writing.
BUFFER_BYTES = 64 * 1024

_decode = msgspec.json.Decoder(dict[str, Any]).decode
# Stream maps can produce values that have no JSON type, such as dates.
_encode = msgspec.json.Encoder(enc_hook=str, decimal_format="number").encode


class IntegerTooLongError(ValueError):
    """A record has an integer with thousands of digits, which Python does not convert."""


def decode_records(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the records in lines that have no Singer envelope.

    Raises:
        IntegerTooLongError: A record has an integer that Python does not convert.
    """
    for line in lines:
        try:
            yield _decode(line)
        except msgspec.DecodeError:
            yield _decode_slowly(line)


def _decode_slowly(line: bytes) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError:  # The conversion has validated the JSON, so this is Python's limit on digits.
        raise IntegerTooLongError from None
    return record


def encode_record(value: object) -> bytes:
    """Return a record or message as JSON on one line, without a newline."""
    try:
        return _encode(value)
    except (UnicodeEncodeError, msgspec.MsgspecError):
        return serialize_json(value).encode()


class LineWriter(SimpleSingerWriter):
    """Writes the SDK's messages through `Stdout`, so that no signal truncates a line."""

    def __init__(self, stdout: Stdout) -> None:
        super().__init__()
        self._stdout = stdout
        self._records = bytearray()

    def write_message(self, message: Message) -> None:
        """Write one message as a whole line. Records are buffered until another message or `flush`."""
        if not isinstance(message, RecordMessage):
            self.flush()
            self._stdout.write(self.format_message(message).encode() + b"\n")
            return
        fields = message.to_dict()
        if message.time_extracted is not None:
            fields["time_extracted"] = message.time_extracted.isoformat()
        self._records += encode_record(fields) + b"\n"
        if len(self._records) >= BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the buffered records."""
        records, self._records = bytes(self._records), bytearray()
        if records:
            self._stdout.write(records)

    def discard(self) -> None:
        """Discard the buffered records, because their chunk failed."""
        self._records = bytearray()
