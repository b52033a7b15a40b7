"""The data in Mixpanel for the target tests: a synthetic history with everything that targets have failed on.

It is read on two evenings: completely, and two days later for the new days and the look-back. In between an event
arrives late, another one is merged into another user, and some profiles change.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from tap_mixpanel_stream.emulator import FixedProject, SyntheticProject
from tests.records import reference

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_DAY = dt.date(2024, 1, 1)
EVENINGS = (dt.date(2024, 1, 8), dt.date(2024, 1, 10))
BOOKMARKS = ("2024-01-09T00:00:00+00:00", "2024-01-11T00:00:00+00:00")
# The second run starts on the day of its bookmark minus the default look-back.
REQUESTED_FROM = (FIRST_DAY, dt.date(2024, 1, 4))
LATE, MERGED = dt.date(2024, 1, 5), dt.date(2024, 1, 6)
ALL_HAVE_ARRIVED = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)

# One property with a different type in each event, or text that looks like another type.
MIXED = (
    *('"text"', "1", "1.5", "true", "false", "null", "[]", "{}", '[1,"a",null,{"b":[]}]', '{"a":{"b":{"c":[1]}}}'),
    *('""', '"null"', '"NULL"', '"true"', '"False"', '"007"', '"1e5"', '"2024-01-15"', '"{"', '"[]"', r'"\\N"'),
)
LONG_NAME = "a long name " * 25  # 300 characters
ODD_PROPERTIES = (
    '"Unicode":"Zürich 東京 Αθήνα القاهرة e\u0301 👩‍💻 \u2028\u2029\u0085\u00a0","naïve 🔑":"🎉"',
    r'"escaped":"\u00fc \ud83c\udf89 \/ \" \\ \b\f\n\r\t \\u0000 \\n"',
    r'''"quotes, commas":"a \"b\", c; 'd' | e\r\nf\tg","back\\slash":"\\","\"":"\"\"","it's":"'"''',
    f'"{LONG_NAME}":"{"long value " * 3000}"',
    f'"2^60":{2**60},"-2^60":{-(2**60)},"2^63":{2**63},"2^70":{2**70}',
    '"canonical_json":12.50,"small":1e-7,"exponent":1E5,"negative zero":-0.0,"digits":0.1234567890123456',
    '"":"no name","$city":"Bern","a.b":1,"a__b":2,"a b":3,"Case":"upper","case":"lower","properties":{"time":null}',
    r'"nul":"a\u0000b","n\u0000l":{"deeper":["\u0000"]}',
    f'"many":{[*range(2000)]}',
)
START = int(dt.datetime.combine(FIRST_DAY, dt.time(1), dt.UTC).timestamp())
ODD_EVENTS = (
    f'{{"event":"Odd","properties":{{"time":{START},"distinct_id":"u1","$insert_id":"nothing else"}}}}',
    f'{{"event":"Odd","properties":{{"time":{START},"no id":"and nobody who did it"}}}}',
    f'{{"event":"Odd","properties":{{"time":{START}250,"distinct_id":4711,"$insert_id":"milliseconds"}}}}',
    rf'{{"event":"Size, \"L\"\n","properties":{{"time":{START},"distinct_id":"ü 🙂, \"x\"\t","$insert_id":"a,b\"c"}}}}',
    rf'{{"event":"O\u0000dd","properties":{{"time":{START},"distinct_id":"n\u0000l","$insert_id":"i\u0000d"}}}}',
)

Row = dict[str, str | None]


def event(day: dt.date, insert_id: str, properties: str) -> bytes:
    """Return the line of an event on a morning, with these properties besides Mixpanel's."""
    time = int(dt.datetime.combine(day, dt.time(6), dt.UTC).timestamp())
    own = f'"time":{time},"distinct_id":"u1","$insert_id":"{insert_id}"'
    return f'{{"event":"Odd","properties":{{{own},{properties}}}}}'.encode()


@dataclass
class Source:
    """A project that changes between two evenings.

    Attributes:
        events: Current lines by day.
        profiles: Current profiles.
        found: The lines and profiles available to each run so far, in Mixpanel's order.
    """

    events: dict[dt.date, list[bytes]]
    profiles: list[dict[str, Any]]
    found: list[tuple[list[bytes], list[dict[str, Any]]]] = field(default_factory=list)

    @classmethod
    def new(cls) -> Source:
        """Return the project on the first evening."""
        history = SyntheticProject(events_per_day=150, profiles=120)
        days = [FIRST_DAY + dt.timedelta(days=number) for number in range(10)]
        events = {day: list(history.lines(day, day, now=ALL_HAVE_ARRIVED)) for day in days}
        odd = [*ODD_PROPERTIES, *(f'"mixed":{value}' for value in MIXED)]
        events[FIRST_DAY] += [event(FIRST_DAY, f"odd-{number}", text) for number, text in enumerate(odd)]
        events[FIRST_DAY] += [line.encode() for line in ODD_EVENTS]
        events[MERGED].append(event(MERGED, "merged", '"as of":"the first evening"'))
        profiles = [dict(profile) for profile in history.profiles(None, now=ALL_HAVE_ARRIVED)]
        profiles += [
            {"$distinct_id": f'odd-{number}, "ü"\n🙂', "$properties": json.loads(f"{{{text}}}")}
            for number, text in enumerate(odd)
        ]
        return cls(events, [*profiles, {"$distinct_id": "nothing else", "$properties": {}}])

    def change(self) -> None:
        """Apply the changes between the evenings."""
        self.events[LATE].insert(0, event(LATE, "late", '"as of":"the second evening"'))
        # This event is merged into another user.
        line = self.events[MERGED].pop()
        self.events[MERGED].append(line.replace(b'"u1"', b'"u2"').replace(b"first evening", b"second evening"))
        deleted, changed, *same = self.profiles
        changed = copy.deepcopy(changed)
        changed["$properties"]["plan"] = "changed"
        self.profiles = [changed, *same, {**deleted, "$distinct_id": "new"}]

    def project(self) -> FixedProject:
        """Return the project for the next run."""
        run = len(self.found)
        days = [day for day in sorted(self.events) if REQUESTED_FROM[run] <= day <= EVENINGS[run]]
        self.found.append(([line for day in days for line in self.events[day]], self.profiles))
        return FixedProject(self.events, self.profiles)


@dataclass(frozen=True)
class Reading:
    """How a target changes values.

    Attributes:
        doubles: Numbers with a fraction or an exponent become doubles.
        whole_seconds: Fractions of a second are dropped.
        without_nul: NULs are removed from strings.
        empty: The value of empty text in a column.
        null: The value of null in a column.
    """

    doubles: bool = False
    whole_seconds: bool = False
    without_nul: bool = False
    empty: str | None = ""
    null: str | None = None

    def text(self, value: str | None) -> str | None:
        """Return a column's text as the target stores it."""
        if value is None:
            return self.null
        return self._string(value) or self.empty

    def instant(self, value: str) -> str:
        """Return an instant as the target stores it."""
        return re.sub(r"\.\d+", "", value) if self.whole_seconds else value

    def parse(self, text: str | bytes) -> Any:
        """Return the value of JSON text as the target stores it, with numbers as exact fractions."""
        return self._walk(json.loads(text, parse_int=_exact, parse_float=self._number))

    def json(self, text: str) -> str:
        """Return JSON text in canonical form."""
        return canonical_json(self.parse(text))

    def _number(self, text: str) -> dict[str, str]:
        return _exact(float(text) if self.doubles else text)

    def _string(self, text: str) -> str:
        return text.replace("\0", "") if self.without_nul else text

    def _walk(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._string(name): self._walk(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._walk(inner) for inner in value]
        return self._string(value) if isinstance(value, str) else value


def canonical_json(value: Any) -> str:
    """Return a parsed value as JSON text with sorted keys."""
    return json.dumps(value, sort_keys=True)


def _exact(number: str | float) -> dict[str, str]:
    return {"number": str(Fraction(number))}


def expected_rows(source: Source, stream: str, reading: Reading, *, raw: bool) -> Iterator[Row]:
    """Yield the rows that all runs so far deliver: text columns, and JSON columns in canonical form."""
    for lines, profiles in source.found:
        if stream == "events":
            yield from ((_raw_event if raw else _event)(line, reading) for line in lines)
        else:
            yield from ((_raw_profile if raw else _profile)(profile, reading) for profile in profiles)


def _raw_event(line: bytes, reading: Reading) -> Row:
    parsed = reading.parse(line)
    return {"event": parsed["event"], "properties": canonical_json(parsed["properties"])}


def _event(line: bytes, reading: Reading) -> Row:
    record = reference.normalized(line)
    properties = record.pop("properties")
    assert isinstance(properties, dict)
    members = ",".join(f"{json.dumps(name)}:{text}" for name, text in properties.items())
    columns = {column: reading.text(str(value)) for column, value in record.items()}
    columns["event_time"] = reading.instant(str(record["event_time"]))
    return {**columns, "properties": reading.json(f"{{{members}}}")}


def _raw_profile(profile: dict[str, Any], reading: Reading) -> Row:
    properties = reading.json(json.dumps(profile["$properties"]))
    return {"$distinct_id": reading.text(str(profile["$distinct_id"])), "$properties": properties}


def _profile(profile: dict[str, Any], reading: Reading) -> Row:
    properties = dict(profile["$properties"])
    return {
        "distinct_id": reading.text(str(profile["$distinct_id"])),
        "last_seen": reading.text(properties.pop("$last_seen", None)),
        "properties": reading.json(json.dumps(properties)),
    }
