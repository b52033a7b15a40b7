"""A naive implementation of the record format, with which the tests compare the fast code.

It shares nothing with the package. JSON is read by a parser that keeps the text of every value and every duplicate key.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from hashlib import sha1
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from zoneinfo import ZoneInfo

SPACE = re.compile(r"[ \t\n\r]*")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "tap-mixpanel-stream")


class InvalidJson(Exception):  # noqa: N818
    pass


class InvalidEvent(Exception):  # noqa: N818
    pass


@dataclass
class Value:
    """A JSON value: its text, and the members of an object. The first character shows its type."""

    text: str
    members: list[tuple[str, Value]]


def text_of(token: str) -> str:
    text: str = json.loads(token)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidJson from None
    return text


def read(text: str) -> Value:
    value, end = read_value(text, SPACE.match(text, 0).end())  # type: ignore[union-attr]
    if SPACE.fullmatch(text, end) is None:
        raise InvalidJson
    return value


def read_value(text: str, at: int) -> tuple[Value, int]:
    first = text[at : at + 1]
    if first in ("{", "["):
        return read_container(text, at, "}" if first == "{" else "]")
    for pattern in (STRING, NUMBER, re.compile("true|false|null")):
        match = pattern.match(text, at)
        if match:
            if first == '"':
                text_of(match[0])
            return Value(match[0], []), match.end()
    raise InvalidJson


def read_container(text: str, at: int, close: str) -> tuple[Value, int]:
    def skip(position: int) -> int:
        return SPACE.match(text, position).end()  # type: ignore[union-attr]

    members = []
    position = skip(at + 1)
    if text[position : position + 1] == close:
        return Value(text[at : position + 1], []), position + 1
    while True:
        key = ""
        if close == "}":
            match = STRING.match(text, position)
            if not match:
                raise InvalidJson
            key = text_of(match[0])
            position = skip(match.end())
            if text[position : position + 1] != ":":
                raise InvalidJson
            position = skip(position + 1)
        value, position = read_value(text, position)
        members.append((key, value))
        position = skip(position)
        mark = text[position : position + 1]
        if mark == close:
            return Value(text[at : position + 1], members if close == "}" else []), position + 1
        if mark != ",":
            raise InvalidJson
        position = skip(position + 1)


def number(value: str) -> Decimal | None:
    if value.startswith('"'):
        value = text_of(value).strip()
    return Decimal(value) if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,4})?", value) else None


def milliseconds(value: str, received: str | None, zone: ZoneInfo | None, processed: str | None = None) -> int:
    """Return `time` as milliseconds since 1970 in UTC."""
    count = number(value)
    if count is None:
        raise InvalidEvent
    with localcontext(prec=2000, Emax=99999, Emin=-99999):
        if abs(count) < 100_000_000_000:
            count *= 1000
        if abs(count) > 10**15:
            raise InvalidEvent
        wall = int(count.to_integral_value(ROUND_HALF_EVEN))
    clock_start = datetime(1970, 1, 1)  # noqa: DTZ001
    try:
        clock = clock_start + timedelta(milliseconds=wall)
    except OverflowError:
        raise InvalidEvent from None
    instants = []
    for fold in (0, 1):
        offset = (zone.utcoffset(clock.replace(fold=fold)) if zone else None) or timedelta()
        instants.append(wall - offset // timedelta(milliseconds=1))
    chosen = instants[0]
    at = number(received) if received else None
    day = 24 * 3600 * 1000
    if at is None and processed:
        at = number(processed)
        if at is not None and not min(instants) - day <= at <= max(instants) + day:
            at = None
    if at is not None and instants[0] < instants[1] and abs(instants[1] - at) < abs(instants[0] - at):
        chosen = instants[1]
    try:
        clock_start + timedelta(milliseconds=chosen)
    except OverflowError:
        raise InvalidEvent from None
    return chosen


def instant_text(instant: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=instant)
    return moment.isoformat(timespec="milliseconds" if instant % 1000 else "seconds")


def as_text(value: str | None) -> str:
    if value is None or value == "null":
        return ""
    return text_of(value) if value.startswith('"') else value


def prefixed(text: str) -> bytes:
    return str(len(text.encode())).encode() + b":" + text.encode()


def made_insert_id(event: str, instant: int, identity: str, others: dict[str, str]) -> str:
    hashed = NAMESPACE.bytes + prefixed(event) + str(instant).encode() + b"," + prefixed(identity)
    for key in sorted(others):
        hashed += prefixed(key) + others[key].encode() + b","
    return str(uuid.UUID(bytes=sha1(hashed, usedforsecurity=False).digest()[:16], version=5))


def event_members(line: bytes) -> tuple[str, dict[str, str]]:
    """Return an event's name and the texts of its properties; the last of duplicate keys."""
    try:
        value = read(line.decode())
    except UnicodeDecodeError:
        raise InvalidJson from None
    top = dict(value.members)
    if not value.text.startswith("{") or "event" not in top or not top["event"].text.startswith('"'):
        raise InvalidEvent
    properties = top.get("properties", Value("null", []))
    if not properties.text.startswith("{") and properties.text != "null":
        raise InvalidEvent
    return text_of(top["event"].text), {key: value.text for key, value in properties.members}


def normalized(line: bytes, zone: ZoneInfo | None = None) -> dict[str, object]:
    """Return the record of a line: four columns, and under `properties` the text of each value."""
    event, others = event_members(line)
    if "time" not in others:
        raise InvalidEvent
    instant = milliseconds(
        others.pop("time"), others.get("$mp_api_timestamp_ms"), zone, others.get("mp_processing_time_ms")
    )
    distinct_id = as_text(others.pop("distinct_id", None))
    insert_id = as_text(others.pop("$insert_id", None))
    hashed = dict(others)
    identity = as_text(hashed.pop("$distinct_id_before_identity", None)) or distinct_id
    return {
        "event_name": event,
        "event_time": instant_text(instant),
        "distinct_id": distinct_id,
        "insert_id": insert_id or made_insert_id(event, instant, identity, hashed),
        # Between tokens a carriage return is whitespace and must be written as a space.
        "properties": {key: text.replace("\r", " ") for key, text in others.items()},
    }


def column_value(text: str | None, kind: str) -> str | None:
    """Return the text of a property column; None if the value has another type."""
    if text is None or text == "null":
        return "null"
    fits: dict[str, bool] = {
        "string": text.startswith('"'),
        "boolean": text in ("true", "false"),
        "json": text[0] in "{[",
        "number": NUMBER.fullmatch(text) is not None and abs(Decimal(text)) < Decimal(2) ** 1024,
        "integer": re.fullmatch("-?[0-9]+", text) is not None and -(2**63) <= Decimal(text) < 2**63,
    }
    if kind == "date-time":
        try:
            at = datetime.fromisoformat(text_of(text)) if fits["string"] else None
            at = at and (at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC))
        except (ValueError, OverflowError):
            at = None
        return json.dumps(at.isoformat()) if at else None
    return text.replace("\r", " ") if fits[kind] else None


def parsed(record: bytes, chosen: Collection[str] = ()) -> dict[str, object]:
    """Parse a record made by the package into the form of `normalized`; its text must be valid JSON."""
    assert b"\n" not in record
    assert b"\r" not in record
    json.loads(record)
    value = read(record.decode())
    keys = [key for key, _ in value.members]
    assert len(keys) == len(set(keys))
    return {key: _parsed_column(key, member, chosen) for key, member in value.members}


def _parsed_column(key: str, value: Value, chosen: Collection[str]) -> object:
    if key == "properties":
        return {name: member.text for name, member in value.members}
    return value.text if key in chosen else text_of(value.text)
