"""What Mixpanel holds in these tests: a made-up history, and in it all that targets were seen to stumble over.

It is asked on two evenings: for everything, and two days later for the new days and those of the look-back. In between
an event arrives late, another changes hands, and so do some profiles.
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
# The second run begins on its bookmark's day less the tap's default look-back.
ASKED_FROM = (FIRST_DAY, dt.date(2024, 1, 4))
LATE, MERGED = dt.date(2024, 1, 5), dt.date(2024, 1, 6)
ALL_HAVE_ARRIVED = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)

# One property, in each event of another type, or a text that could be taken for another type.
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
    '"spelled":12.50,"small":1e-7,"exponent":1E5,"negative zero":-0.0,"digits":0.1234567890123456',
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
    """The line of an event in the morning of a day, with these properties beside Mixpanel's own."""
    time = int(dt.datetime.combine(day, dt.time(6), dt.UTC).timestamp())
    own = f'"time":{time},"distinct_id":"u1","$insert_id":"{insert_id}"'
    return f'{{"event":"Odd","properties":{{{own},{properties}}}}}'.encode()


@dataclass
class Source:
    """A project that changes between its two evenings.

    Attributes:
        events: Lines by day, as they are now.
        profiles: Profiles, as they are now.
        found: The lines and the profiles that each run so far was to find, in Mixpanel's order.
    """

    events: dict[dt.date, list[bytes]]
    profiles: list[dict[str, Any]]
    found: list[tuple[list[bytes], list[dict[str, Any]]]] = field(default_factory=list)

    @classmethod
    def new(cls) -> Source:
        """The project on the first evening."""
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
        """What happens between the evenings."""
        self.events[LATE].insert(0, event(LATE, "late", '"as of":"the second evening"'))
        # The user of this one turned out to be another.
        line = self.events[MERGED].pop()
        self.events[MERGED].append(line.replace(b'"u1"', b'"u2"').replace(b"first evening", b"second evening"))
        deleted, changed, *same = self.profiles
        changed = copy.deepcopy(changed)
        changed["$properties"]["plan"] = "changed"
        self.profiles = [changed, *same, {**deleted, "$distinct_id": "new"}]

    def project(self) -> FixedProject:
        """The project as the next run is to find it."""
        run = len(self.found)
        days = [day for day in sorted(self.events) if ASKED_FROM[run] <= day <= EVENINGS[run]]
        self.found.append(([line for day in days for line in self.events[day]], self.profiles))
        return FixedProject(self.events, self.profiles)


@dataclass(frozen=True)
class Reading:
    """How a target holds values, as far as that differs from what Mixpanel sent.

    Attributes:
        doubles: Numbers with a fraction or an exponent went through a double.
        whole_seconds: Fractions of a second were cut off.
        without_nul: NULs were removed from strings.
        empty: What an empty text of a column became.
        null: What a null of a column became.
    """

    doubles: bool = False
    whole_seconds: bool = False
    without_nul: bool = False
    empty: str | None = ""
    null: str | None = None

    def text(self, value: str | None) -> str | None:
        """A column's text as the target holds it."""
        if value is None:
            return self.null
        return self._string(value) or self.empty

    def instant(self, value: str) -> str:
        """An instant as the target holds it."""
        return re.sub(r"\.\d+", "", value) if self.whole_seconds else value

    def parse(self, text: str | bytes) -> Any:
        """A JSON text's value as the target holds it, each number as an exact fraction."""
        return self._walk(json.loads(text, parse_int=_exact, parse_float=self._number))

    def json(self, text: str) -> str:
        """A JSON text in one spelling for all that mean the same."""
        return spelled(self.parse(text))

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


def spelled(value: Any) -> str:
    """A parsed value as JSON text, sorted."""
    return json.dumps(value, sort_keys=True)


def _exact(number: str | float) -> dict[str, str]:
    return {"number": str(Fraction(number))}


def rows_found(source: Source, stream: str, reading: Reading, *, raw: bool) -> Iterator[Row]:
    """What all runs so far had to deliver of a stream, in their order: text columns, JSON columns in one spelling."""
    for lines, profiles in source.found:
        if stream == "events":
            yield from ((_raw_event if raw else _event)(line, reading) for line in lines)
        else:
            yield from ((_raw_profile if raw else _profile)(profile, reading) for profile in profiles)


def _raw_event(line: bytes, reading: Reading) -> Row:
    parsed = reading.parse(line)
    return {"event": parsed["event"], "properties": spelled(parsed["properties"])}


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
