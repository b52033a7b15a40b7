"""The SDK's own way, record by record: lines to records, messages to lines.

msgspec reads and writes JSON as the SDK does, at a fraction of the cost, and refuses what it cannot do exactly: half a
surrogate pair, a number that no double can hold. Such a line goes the SDK's way in this, too.
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

# Bytes of records that wait to be written at once.
WAITING = 64 * 1024

_decode = msgspec.json.Decoder(dict[str, Any]).decode
# What is not JSON's own comes from stream maps.
_encode = msgspec.json.Encoder(enc_hook=str, decimal_format="number").encode


class NoValueError(ValueError):
    """A record holds an integer that Python has no value for: one of thousands of digits."""


def decode_records(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the records of bare lines.

    Raises:
        NoValueError: There is no value for what stands in one.
    """
    for line in lines:
        try:
            yield _decode(line)
        except msgspec.DecodeError:
            yield _decode_slowly(line)


def _decode_slowly(line: bytes) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError:  # It is JSON, as the conversion has checked; but Python reads no integer of any length.
        raise NoValueError from None
    return record


def encode_record(value: object) -> bytes:
    """Return a record or message as JSON, on one line without its end."""
    try:
        return _encode(value)
    except (UnicodeEncodeError, msgspec.MsgspecError):
        return serialize_json(value).encode()


class LineWriter(SimpleSingerWriter):
    """Writes the SDK's messages by the same way as blocks of records, so that no signal cuts one."""

    def __init__(self, stdout: Stdout) -> None:
        super().__init__()
        self._stdout = stdout
        self._records = bytearray()

    def write_message(self, message: Message) -> None:
        """Write one message as one whole line. Records wait for each other, until another message or `flush`."""
        if not isinstance(message, RecordMessage):
            self.flush()
            self._stdout.write(self.format_message(message).encode() + b"\n")
            return
        fields = message.to_dict()
        if message.time_extracted is not None:
            fields["time_extracted"] = message.time_extracted.isoformat()
        self._records += encode_record(fields) + b"\n"
        if len(self._records) >= WAITING:
            self.flush()

    def flush(self) -> None:
        """Write the records that wait."""
        records, self._records = bytes(self._records), bytearray()
        if records:
            self._stdout.write(records)

    def discard(self) -> None:
        """Forget the records that wait: they belong to a chunk that failed."""
        self._records = bytearray()
