"""A project with a history of its own: as long as asked, the same for the same seed, and much like a real one.

Nothing is stored. A day's rows are drawn from a generator seeded with the day, so they do not depend on the window they
are asked in; what `now` changes is which of them are visible yet, and under which identity.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any, overload
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_SECOND = 1000
_HOUR = 3600 * _SECOND
_DAY = 24 * _HOUR
_BATCH = 512
_CONTEXTS = 1024
# Letters of randomness in each row: its $insert_id, and enough more for gzip to find as little in it as in real rows.
_RANDOM = 16 + 64

# One row in so many is sent twice, as by a client that missed the response.
_RESENT = 211
# A device is anonymous for part of a spell, for one user in seven, then merged into the user.
_SPELL = 10 * _DAY
_ANONYMOUS = 7
# Of 1024 rows, so many (running totals) are odd in one way.
_LATE, _IMPORTED, _UNPROCESSED, _WITHOUT_ID, _WITHOUT_USER = 20, 28, 38, 70, 72
# And the one whose time has a fraction.
_FRACTIONAL = 72

# Until then, every second row has no time of receipt: those with this bit.
_LAST_YEAR_WITHOUT_RECEIPT, _WITHOUT_RECEIPT = 2020, 1 << 30

_CITIES = [
    ("Zürich", "Zurich", "CH", "Europe/Zurich"),
    ("München", "Bavaria", "DE", "Europe/Berlin"),
    ("São Paulo", "São Paulo", "BR", "America/Sao_Paulo"),
    ("東京", "Tokyo", "JP", "Asia/Tokyo"),
    ("Kraków", "Lesser Poland", "PL", "Europe/Warsaw"),
    ("San Francisco", "California", "US", "America/Los_Angeles"),
    ("New York", "New York", "US", "America/New_York"),
    ("London", "England", "GB", "Europe/London"),
    ("Mumbai", "Maharashtra", "IN", "Asia/Kolkata"),
    ("Montréal", "Quebec", "CA", "America/Toronto"),
    ("Αθήνα", "Attica", "GR", "Europe/Athens"),
    ("القاهرة", "Cairo", "EG", "Africa/Cairo"),
]
_SYSTEMS = [
    ("Mac OS X", "Chrome", "web", 1512, 982),
    ("Windows", "Edge", "web", 1920, 1080),
    ("iOS", "Mobile Safari", "iphone", 390, 844),
    ("Android", "Chrome", "android", 412, 915),
    ("Linux", "Firefox", "web", 2560, 1440),
]
_CAMPAIGNS = [
    ("google", "cpc", "brand-2024"),
    ("newsletter", "email", "Frühling 🌷"),
    ("facebook", "social", "retargeting"),
    ("", "", ""),
]
# Saved Insights reports, by their numbers.
_BY_DAY, _BY_CITY = 4001, 4002
_PLANS = ["free", "pro", "team", "enterprise"]
_EVENTS: list[tuple[int, str, dict[str, object]]] = [
    (26, "Page View", {"page": "/pricing", "title": "Preise & Pläne", "scroll": 0}),
    (12, "Search", {"query": "blue suede shoes", "results": 0, "filters": {"size": [41, 42], "in stock": True}}),
    (9, "Product Viewed", {"sku": "SKU-4711", "price": 0, "Browse Filter": ["Under $1000", "Books"], "rating": 4.5}),
    (6, "Added to Cart", {"sku": "SKU-1138", "price": 0, "currency": "EUR", "coupon": None, "gift": False}),
    (3, "Signed up", {"method": "sso", "step #": 0, "invited": True, "quote": "to be,\u2028or not to be"}),
    (3, "Purchase", {"total": 0, "tax (%)": 7.7, "items": [{"sku": "SKU-4711", "n": 2}, {"sku": "X/9", "n": 1}]}),
    (3, "Message Sent", {"length": 0, "channel": "email", "emoji": "🎉👩‍💻", "mentions": []}),
    (2, "$mp_session_end", {"seconds": 0, "bounced": False, "stack": {"frames": [{"line": 12, "fn": "main"}]}}),
]


class SyntheticProject:
    """A project made up from a seed.

    About 1 KB and 30 properties an event, in unsorted lines, and what a reader must live with: events that arrive hours
    to days late, identities merged after the fact (the row's `distinct_id` is then rewritten, and the old one stands in
    `$distinct_id_before_identity`), events without `$insert_id` or `distinct_id`, the same event twice, imported rows
    (without `$mp_api_timestamp_ms`), rows without `mp_processing_time_ms`, raw U+2028 in strings, and now and then an
    id that is a number, or a `time` with a fraction.
    Of the rows until 2020 every second one has no `$mp_api_timestamp_ms` either.

    A row shows once it is processed and the visibility delay has passed; a merge shows from its instant on.

    In a project from before 2023, made by a zone other than UTC, days and `time` are the local wall clock written as if
    it were UTC, while `$mp_api_timestamp_ms` and `mp_processing_time_ms` are true UTC.

    Args:
        seed: Another seed, another project.
        first_day: The first day with events.
        last_day: The last; None for no end but the present.
        events_per_day: Lines a day, once all have arrived.
        profiles: How many users there are, all of them created by the first day's end.
        groups: How many group profiles there are, by `data_group_id`.
        zone: The zone of the project's days.
        visibility_delay: How long a processed row stays invisible.
    """

    def __init__(
        self,
        seed: int = 1,
        first_day: date = date(2024, 1, 1),
        last_day: date | None = None,
        *,
        events_per_day: int = 1000,
        profiles: int = 1000,
        groups: Mapping[str, int] | None = None,
        zone: str = "UTC",
        visibility_delay: timedelta = timedelta(0),
    ) -> None:
        self.seed = seed
        self.first_day = first_day
        self.last_day = last_day
        self.events_per_day = events_per_day
        self.users = profiles
        self.groups = dict(groups) if groups is not None else {"-1234567890123456789": 40}
        self.zone = ZoneInfo(zone)
        self.visibility_delay = visibility_delay
        self._templates = [template for weight, name, own in _EVENTS for template in [_template(name, own)] * weight]

    @cached_property
    def _contexts(self) -> list[bytes]:
        rng = Random(f"{self.seed}/contexts")  # noqa: S311 - seeded randomness is the point
        return [_context(rng) for _ in range(min(_CONTEXTS, max(1, self.users)))]

    def lines(self, first: date, last: date, *, now: datetime, in_ms: bool = False) -> Iterator[bytes]:
        """Yield what an export of these days holds at an instant; see `Project`."""
        today = now.astimezone(self.zone).date()
        day = max(first, self.first_day)
        last = min(last, today if self.last_day is None else min(today, self.last_day))
        while day <= last:
            yield from self._day(day, now, in_ms=in_ms)
            day += timedelta(days=1)

    def _day(self, day: date, now: datetime, *, in_ms: bool) -> Iterator[bytes]:  # noqa: C901 - a call a row costs more
        rng = Random(f"{self.seed}/{day}")  # noqa: S311
        random, getrandbits = rng.random, rng.getrandbits
        start, length, change, before, after = _day_in_utc(day, self.zone)
        now_ms = int(now.timestamp() * _SECOND)
        visible = int((now - self.visibility_delay).timestamp() * _SECOND)
        users, contexts, templates = max(1, self.users), self._contexts, self._templates
        pool, kinds = len(contexts), len(templates)
        without_receipt = _WITHOUT_RECEIPT if day.year <= _LAST_YEAR_WITHOUT_RECEIPT else 0
        unit = 1 if in_ms else _SECOND
        index = 0
        # The batch bounds the memory, whatever a day's size; its length is fixed, since it decides what is drawn when.
        for left in range(self.events_per_day, 0, -_BATCH):
            ids = b64encode(rng.randbytes(_RANDOM // 4 * 3 * _BATCH), b"Zz")
            for place in range(min(left, _BATCH)):
                index += 1
                at = _RANDOM * place
                if index % _RESENT:
                    bits = getrandbits(64)
                    moment = start + int(random() * length)
                    share = random()
                    user = int(share * share * users)
                    received = moment + 120 + (bits >> 8 & 2047)
                    processed = received + 300 + (bits >> 20 & 4095)
                    insert_id = b'"$insert_id":"%b",' % ids[at : at + 16]
                    trace = ids[at + 16 : at + _RANDOM]
                    who = self._identity(user, moment, now_ms)
                    odd = bits & 1023
                    if odd < _WITHOUT_USER:
                        if odd < _LATE:
                            # Kept on the device: it reaches Mixpanel late, by up to five days.
                            received += _HOUR + int(random() * (5 * _DAY - 2 * _HOUR))
                            processed = received + 1500
                        elif odd < _IMPORTED:
                            processed += int(random() * 30 * _DAY)
                            received = 0
                        elif odd >= _WITHOUT_ID:
                            who = b""
                        elif odd >= _UNPROCESSED:
                            insert_id = b""
                else:
                    # The same event once more: all of it equal but the time Mixpanel saw it.
                    processed += 90 * _SECOND
                if processed > visible:
                    continue
                arrived = b""
                if received and not bits & without_receipt:
                    arrived = b'"$mp_api_timestamp_ms":%d,' % received
                if not _IMPORTED <= odd < _UNPROCESSED:
                    arrived += b'"mp_processing_time_ms":%d,' % processed
                clock = moment + (before if moment < change else after)
                yield templates[(bits >> 32 & 0xFFFF) % kinds] % (
                    b"%d.%03d" % divmod(clock, unit) if odd == _FRACTIONAL and not in_ms else b"%d" % (clock // unit),
                    who,
                    insert_id,
                    arrived,
                    contexts[user % pool],
                    trace,
                    bits >> 40 & 0x3FFF,
                )

    def _identity(self, user: int, moment: int, now: int) -> bytes:
        """Return the properties that say who it was, as they read at `now`."""
        name = _user_id(user)
        spell = moment // _SPELL
        if (user + spell) % _ANONYMOUS == 0:
            merge = spell * _SPELL + (user * 2654435761 + spell * 40503 + self.seed) % _SPELL
            if moment < merge:
                device = b'"$device:%08x-%04x"' % ((user * 2246822519 + spell) & 0xFFFFFFFF, user & 0xFFFF)
                if now < merge:
                    return b'"distinct_id":%b,' % device
                # The two ids are all that a merge changes in a row.
                return b'"distinct_id":%b,"$distinct_id_before_identity":%b,' % (name, device)
        return b'"distinct_id":%b,"$user_id":%b,' % (name, name)

    def profiles(self, group: str | None, *, now: datetime) -> Sequence[Mapping[str, object]]:
        """Return the profiles as they are at an instant; each is made when it is looked at."""
        if group is None:
            return _Profiles(self, self.users, now, group=False)
        return _Profiles(self, self.groups.get(group, 0), now, group=True)

    def profile(self, index: int, now: datetime, *, group: bool) -> dict[str, object]:
        """Return one profile as it is at an instant."""
        begin = datetime.combine(self.first_day, datetime.min.time(), UTC)
        count = max(1, self.users)
        created = begin + timedelta(days=1) - timedelta(days=500) * ((index + 1) / count if not group else 1)
        if self.last_day is not None:
            now = min(now, datetime.combine(self.last_day, datetime.max.time(), UTC))
        # Each profile changes at its own pace, every 6 hours to every 60 days.
        pace = timedelta(hours=6 + (index * 7919 + self.seed) % 1434)
        changes = max(0, (now - created) // pace)
        city, region, country, zone = _CITIES[index * 31 % len(_CITIES)]
        properties: dict[str, object] = {
            "$created": _clock(created),
            "$name": f"Company № {index}" if group else f"Zoë Müller-{index} 🙂",
            "$last_seen": _clock(created + changes * pace),
            "$city": city,
            "$region": region,
            "$country_code": country,
            "$timezone": zone,
            "plan": _PLANS[index * 17 % len(_PLANS)],
            "changes": changes,
            "lifetime value": round(changes * 12.35, 2),
            "tags": ["vip", "Größe L"] if index % 3 else [],
            "settings": {"mail": {"weekly": bool(index % 2), "hour": index % 24}, "theme": None},
        }
        if group:
            properties |= {"seats": 5 + index % 95}
            return {"$distinct_id": f"company-{index:05d}", "$properties": properties}
        properties |= {
            "$email": f"user{index}@example.com",
            "$os": _SYSTEMS[index % len(_SYSTEMS)][0],
            "$browser": _SYSTEMS[index % len(_SYSTEMS)][1],
            "$transactions": [{"$time": _clock(created), "$amount": 9.9}] if index % 4 == 0 else [],
        }
        if index % 40 == 11:  # noqa: PLR2004 - now and then
            del properties["$last_seen"]
        return {"$distinct_id": json.loads(_user_id(index)), "$properties": properties}

    def cohorts(self) -> Sequence[Mapping[str, object]]:
        """Return two cohorts: every third user, and a small one."""
        return [
            {
                "id": cohort,
                "name": name,
                "count": len(self.cohort_members(cohort) or ()),
                "is_visible": 1,
                "description": "",
                "created": "2023-03-19 23:49:51",
                "data_group_id": None,
            }
            for cohort, name in ((1000, "Every third"), (1001, "Größte Kunden"))
        ]

    def cohort_members(self, cohort: int) -> Collection[str | int] | None:
        """Return a cohort's distinct ids; two in each have no profile."""
        step = {1000: 3, 1001: 100}.get(cohort)
        if step is None:
            return None
        users = [json.loads(_user_id(user)) for user in range(0, self.users, step)]
        return [*users, f"gone-{cohort}-1", f"gone-{cohort}-2"]

    def annotations(self) -> Sequence[Mapping[str, object]]:
        """Return an annotation for the first day of each of three weeks; the first one has no tags."""
        return [
            {
                "id": number + 1,
                "date": datetime.combine(self.first_day + timedelta(days=7 * number), time(12), self.zone).isoformat(),
                "description": f"Release {number + 1}.0 🚀",
                "user": {"id": 3, "first_name": "Ada", "last_name": "Lovelace"},
                **({"tags": [{"id": 1, "name": "release"}]} if number else {}),
            }
            for number in range(3)
        ]

    def funnels(self) -> Sequence[Mapping[str, object]]:
        """Return two funnels."""
        return [{"funnel_id": 7509, "name": "Signup"}, {"funnel_id": 9070, "name": "Käufe"}]

    def funnel_days(self, funnel: int, first: date, last: date) -> Mapping[str, object]:
        """Return a funnel's data, by day."""
        days: dict[str, object] = {}
        day = max(first, self.first_day)
        while day <= (last if self.last_day is None else min(last, self.last_day)):
            rng = Random(f"{self.seed}/{funnel}/{day}")  # noqa: S311
            starting = rng.randrange(50, 500)
            count = starting * rng.randrange(5, 95) // 100
            days[day.isoformat()] = {
                "steps": [
                    _funnel_step("Page View", starting, starting, None),
                    _funnel_step("Signed up", count, starting, rng.randrange(30, 3000)),
                ],
                "analysis": {"completion": count, "starting_amount": starting, "steps": 2, "worst": 1},
            }
            day += timedelta(days=1)
        return days

    def schemas(self) -> Sequence[Mapping[str, object]]:
        """Return a schema for each event, and one for user profiles; one is hidden, another has no description."""
        events = [
            {
                "entityType": "event",
                "name": name,
                "schemaJson": {
                    **({"description": f"Somebody did this: {name}."} if number else {}),
                    "properties": {
                        key: {"type": _schema_type(value), "description": f"What {key} was."}
                        for key, value in properties.items()
                    },
                    "metadata": {
                        "com.mixpanel": {
                            "tags": ["shop"],
                            "hidden": name.startswith("$"),
                            "contacts": ["ada@example.com"],
                        }
                    },
                },
            }
            for number, (_, name, properties) in enumerate(_EVENTS)
        ]
        plan = {"type": "string", "description": "The plan paid for: one of free, pro, team, enterprise."}
        return [*events, {"entityType": "profile", "name": "$user", "schemaJson": {"properties": {"plan": plan}}}]

    def insights(self, report: int, *, now: datetime) -> Mapping[str, object] | None:
        """Return one of two reports over the first fortnight: events by day, and a breakdown without a time axis."""
        days = [datetime.combine(self.first_day + timedelta(days=number), time(), self.zone) for number in range(14)]
        rng = Random(f"{self.seed}/insights/{report}")  # noqa: S311
        if report == _BY_DAY:
            headers, series = ["$event"], _by_day(rng, days)
        elif report == _BY_CITY:
            cities = {city: {"all": rng.randrange(5000)} for city in ("$overall", "Zürich", "東京")}
            headers, series = ["$metric", "$city"], {"Größte Städte": cities}
        else:
            return None
        return {
            "computed_at": now.isoformat(),
            "date_range": {"from_date": days[0].isoformat(), "to_date": days[-1].isoformat()},
            "headers": headers,
            "series": series,
        }


def _by_day(rng: Random, days: Sequence[datetime]) -> dict[str, dict[str, Any]]:
    """Return the series of a report of three events by day."""
    return {name: {day.isoformat(): rng.randrange(500) for day in days} for _, name, _ in _EVENTS[:3]}


def _schema_type(value: object) -> str:
    """Return the JSON schema type of a property's example."""
    types = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return types.get(type(value), "null")


def _funnel_step(event: str, count: int, starting: int, seconds: int | None) -> dict[str, object]:
    """Return a step of a funnel of two steps."""
    return {
        "count": count,
        "goal": event,
        "step_label": None,
        "event": event,
        "custom_event": False,
        "custom_event_id": None,
        "avg_time": seconds,
        "avg_time_from_start": seconds,
        "step_conv_ratio": count / starting,
        "overall_conv_ratio": count / starting,
    }


class _Profiles(Sequence["Mapping[str, object]"]):
    """The profiles of one instant, made when looked at: a million cost nothing until then."""

    def __init__(self, project: SyntheticProject, count: int, now: datetime, *, group: bool) -> None:
        self._project = project
        self._count = count
        self._now = now
        self._group = group

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Mapping[str, object]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, object]]: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, object] | Sequence[Mapping[str, object]]:
        places = range(self._count)[index]
        if isinstance(places, range):
            return [self._project.profile(place, self._now, group=self._group) for place in places]
        return self._project.profile(places, self._now, group=self._group)


def _day_in_utc(day: date, zone: ZoneInfo) -> tuple[int, int, int, int, int]:
    """Return a local day's start and length in UTC, and its clock's offset before and after an instant, all in ms."""
    midnight = datetime.min.time()
    start = int(datetime.combine(day, midnight, zone).timestamp())
    end = int(datetime.combine(day + timedelta(days=1), midnight, zone).timestamp())

    def offset(instant: int) -> int:
        shift = datetime.fromtimestamp(instant, zone).utcoffset()
        return int(shift.total_seconds()) if shift else 0

    before, after = offset(start), offset(end - 1)
    low, high = start, end - 1
    while before != after and high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset(middle) == before else (low, middle)
    return tuple(_SECOND * each for each in (start, end - start, high, before, after))  # type: ignore[return-value]


def _user_id(user: int) -> bytes:
    """Return a user's id as JSON: a string, for some a number."""
    return b"%d" % (7_000_000 + user) if user % 200 == 7 else b'"user-%06d"' % user  # noqa: PLR2004


def _clock(moment: datetime) -> str:
    """Return an instant as profiles hold it: UTC, without an offset."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _context(rng: Random) -> bytes:
    """Return the properties that one visitor's events share, without the braces."""
    city, region, country, zone = rng.choice(_CITIES)
    system, browser, library, width, height = rng.choice(_SYSTEMS)
    source, medium, campaign = rng.choice(_CAMPAIGNS)
    campaigns = {"utm_source": source, "utm_medium": medium, "utm_campaign": campaign} if source else {}
    properties = {
        "$browser": browser,
        "$browser_version": rng.randrange(100, 131),
        "$city": city,
        "$current_url": f"https://www.example.com/shop/category-{rng.randrange(40)}?ref={rng.getrandbits(40):x}",
        "$device_id": f"{rng.getrandbits(64):016x}-{rng.getrandbits(48):012x}",
        "$initial_referrer": rng.choice(["$direct", "https://www.google.com/", "https://news.example.org/a/b"]),
        "$initial_referring_domain": rng.choice(["$direct", "www.google.com", "news.example.org"]),
        "$lib_version": f"2.{rng.randrange(40, 56)}.{rng.randrange(4)}",
        "$os": system,
        "$region": region,
        "$screen_height": height,
        "$screen_width": width,
        "mp_country_code": country,
        "mp_lib": library,
        **campaigns,
        "timezone": zone,
        "plan": rng.choice(_PLANS),
        "Is Returning": rng.random() < 0.5,  # noqa: PLR2004
        "referral code": None if rng.random() < 0.5 else f"R-{rng.randrange(10_000)}",  # noqa: PLR2004
        "experiments": {"checkout": rng.choice("AB"), "search v2": rng.random() < 0.5, "weight": rng.random()},  # noqa: PLR2004
        "score": round(rng.uniform(-10, 100), 3),
        "company": {"name": f"Société {rng.randrange(500)}", "size": rng.randrange(5000), "tags": ["b2b", "été"]},
    }
    return _json(properties)[1:-1]


def _template(event: str, properties: Mapping[str, object]) -> bytes:
    """Return an event's line with a place for each thing that differs from row to row."""
    number, *others = [(key, value) for key, value in properties.items() if value == 0 and value is not False][:1] + [
        (key, value) for key, value in properties.items() if value != 0 or value is False
    ]
    own = _json(dict(others))[1:-1].replace(b"%", b"%%")
    head = b'{"event":%b,"properties":{"time":' % _json(event).replace(b"%", b"%%")
    key = _json(number[0]).replace(b"%", b"%%")
    return head + b'%b,%b%b%b%b,"trace_id":"%b",' + key + b":%d," + own + b"}}"
