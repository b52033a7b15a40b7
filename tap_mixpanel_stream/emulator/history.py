"""A synthetic project with realistic data, generated on demand.

Rows are not stored. The random generator of a day is seeded with the day, so the rows of a day are the same in every
request. The time of the request only determines which rows are visible and which identity they have.
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

# Durations in milliseconds.
_SECOND = 1000
_HOUR = 3600 * _SECOND
_DAY = 24 * _HOUR
_BATCH_SIZE = 512
_CONTEXT_COUNT = 1024
# Random characters per row: 16 for `$insert_id`, and 64 for `trace_id` so that the rows compress like real ones.
_RANDOM_CHARACTERS = 16 + 64

# Every 211th row is a duplicate, as if a client had sent an event again because it missed the response.
_DUPLICATE_INTERVAL = 211
# In each period of 10 days, one user in 7 starts with an anonymous device id, which is later merged into the user.
_IDENTITY_PERIOD = 10 * _DAY
_ANONYMOUS_INTERVAL = 7
# A random number from 0 to 1023 selects the anomaly of a row. These are the exclusive upper bounds of: late rows,
# imported rows, rows without `mp_processing_time_ms`, without `$insert_id` and without `distinct_id`.
_LATE, _IMPORTED, _UNPROCESSED, _WITHOUT_INSERT_ID, _WITHOUT_DISTINCT_ID = 20, 28, 38, 70, 72
# This number selects a row with a fractional `time`.
_FRACTIONAL = 72

# In rows up to 2020, this random bit decides whether `$mp_api_timestamp_ms` is missing.
_LAST_YEAR_WITHOUT_RECEIPT, _WITHOUT_RECEIPT_BIT = 2020, 1 << 30

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
# Ids of the saved Insights reports.
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
    """A synthetic project, determined by a seed.

    An event is about 1 KB long and has about 30 properties. Lines are not sorted. The data has the anomalies of real
    projects:

    * Events that arrive hours to days late.
    * Identities that are merged later. The merge rewrites `distinct_id` and stores the previous value in
      `$distinct_id_before_identity`.
    * Events without `$insert_id` or `distinct_id`, and duplicate events.
    * Imported rows, which have no `$mp_api_timestamp_ms`. Half of all rows up to 2020 have none either.
    * Rows without `mp_processing_time_ms`.
    * Unescaped U+2028 in strings, numeric ids and a fractional `time`.

    A row becomes visible `visibility_delay` after it is processed. A merge becomes visible immediately.

    A zone other than UTC emulates a project created before 2023: days and `time` are local wall clock time, stored as
    if it were UTC. `$mp_api_timestamp_ms` and `mp_processing_time_ms` are true UTC.

    Args:
        seed: Seed of the random generators.
        first_day: First day with events.
        last_day: Last day with events; None for the current day.
        events_per_day: Lines per day, once all events of the day are visible.
        profiles: Number of user profiles. All users are created before the end of the first day.
        groups: Number of group profiles by `data_group_id`.
        zone: Time zone of the project's days.
        visibility_delay: Time from the processing of a row until it is visible.
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
        self._templates = [
            template for weight, name, properties in _EVENTS for template in [_template(name, properties)] * weight
        ]

    @cached_property
    def _contexts(self) -> list[bytes]:
        rng = Random(f"{self.seed}/contexts")  # noqa: S311 - the data must be reproducible
        return [_context(rng) for _ in range(min(_CONTEXT_COUNT, max(1, self.users)))]

    def lines(self, first: date, last: date, *, now: datetime, in_ms: bool = False) -> Iterator[bytes]:
        """Yield the lines of an export. See `Project.lines`."""
        today = now.astimezone(self.zone).date()
        day = max(first, self.first_day)
        last = min(last, today if self.last_day is None else min(today, self.last_day))
        while day <= last:
            yield from self._day(day, now, in_ms=in_ms)
            day += timedelta(days=1)

    def _day(self, day: date, now: datetime, *, in_ms: bool) -> Iterator[bytes]:  # noqa: C901 - one function, because a call per row is slow
        rng = Random(f"{self.seed}/{day}")  # noqa: S311
        random, getrandbits = rng.random, rng.getrandbits
        start, length, change, before, after = _local_day(day, self.zone)
        now_ms = int(now.timestamp() * _SECOND)
        visible = int((now - self.visibility_delay).timestamp() * _SECOND)
        users, contexts, templates = max(1, self.users), self._contexts, self._templates
        pool, kinds = len(contexts), len(templates)
        without_receipt = _WITHOUT_RECEIPT_BIT if day.year <= _LAST_YEAR_WITHOUT_RECEIPT else 0
        unit = 1 if in_ms else _SECOND
        index = 0
        # Batches limit memory use for large days. The batch size is fixed, because the generated data depends on it.
        for remaining in range(self.events_per_day, 0, -_BATCH_SIZE):
            ids = b64encode(rng.randbytes(_RANDOM_CHARACTERS // 4 * 3 * _BATCH_SIZE), b"Zz")
            for row in range(min(remaining, _BATCH_SIZE)):
                index += 1
                at = _RANDOM_CHARACTERS * row
                if index % _DUPLICATE_INTERVAL:
                    bits = getrandbits(64)
                    moment = start + int(random() * length)
                    share = random()
                    user = int(share * share * users)
                    received = moment + 120 + (bits >> 8 & 2047)
                    processed = received + 300 + (bits >> 20 & 4095)
                    insert_id = b'"$insert_id":"%b",' % ids[at : at + 16]
                    trace = ids[at + 16 : at + _RANDOM_CHARACTERS]
                    identity = self._identity(user, moment, now_ms)
                    anomaly = bits & 1023
                    if anomaly < _WITHOUT_DISTINCT_ID:
                        if anomaly < _LATE:
                            # The device sends the event 1 hour to 5 days late.
                            received += _HOUR + int(random() * (5 * _DAY - 2 * _HOUR))
                            processed = received + 1500
                        elif anomaly < _IMPORTED:
                            processed += int(random() * 30 * _DAY)
                            received = 0
                        elif anomaly >= _WITHOUT_INSERT_ID:
                            identity = b""
                        elif anomaly >= _UNPROCESSED:
                            insert_id = b""
                else:
                    # Repeat the previous event with a later processing time.
                    processed += 90 * _SECOND
                if processed > visible:
                    continue
                timestamps = b""
                if received and not bits & without_receipt:
                    timestamps = b'"$mp_api_timestamp_ms":%d,' % received
                if not _IMPORTED <= anomaly < _UNPROCESSED:
                    timestamps += b'"mp_processing_time_ms":%d,' % processed
                wall_clock = moment + (before if moment < change else after)
                yield templates[(bits >> 32 & 0xFFFF) % kinds] % (
                    b"%d.%03d" % divmod(wall_clock, unit)
                    if anomaly == _FRACTIONAL and not in_ms
                    else b"%d" % (wall_clock // unit),
                    identity,
                    insert_id,
                    timestamps,
                    contexts[user % pool],
                    trace,
                    bits >> 40 & 0x3FFF,
                )

    def _identity(self, user: int, moment: int, now: int) -> bytes:
        """Return the identity properties of a row as of `now`. All times are in milliseconds."""
        name = _user_id(user)
        period = moment // _IDENTITY_PERIOD
        if (user + period) % _ANONYMOUS_INTERVAL == 0:
            merge = period * _IDENTITY_PERIOD + (user * 2654435761 + period * 40503 + self.seed) % _IDENTITY_PERIOD
            if moment < merge:
                device = b'"$device:%08x-%04x"' % ((user * 2246822519 + period) & 0xFFFFFFFF, user & 0xFFFF)
                if now < merge:
                    return b'"distinct_id":%b,' % device
                # A merge changes only these two properties of a row.
                return b'"distinct_id":%b,"$distinct_id_before_identity":%b,' % (name, device)
        return b'"distinct_id":%b,"$user_id":%b,' % (name, name)

    def profiles(self, group: str | None, *, now: datetime) -> Sequence[Mapping[str, object]]:
        """Return the profiles as of a point in time. Each profile is generated when it is accessed."""
        if group is None:
            return _Profiles(self, self.users, now, is_group=False)
        return _Profiles(self, self.groups.get(group, 0), now, is_group=True)

    def profile(self, index: int, now: datetime, *, is_group: bool) -> dict[str, object]:
        """Return a profile as of a point in time."""
        start = datetime.combine(self.first_day, datetime.min.time(), UTC)
        count = max(1, self.users)
        created = start + timedelta(days=1) - timedelta(days=500) * (1 if is_group else (index + 1) / count)
        if self.last_day is not None:
            now = min(now, datetime.combine(self.last_day, datetime.max.time(), UTC))
        # Profiles change at different intervals, from 6 hours to 60 days.
        interval = timedelta(hours=6 + (index * 7919 + self.seed) % 1434)
        changes = max(0, (now - created) // interval)
        city, region, country, zone = _CITIES[index * 31 % len(_CITIES)]
        properties: dict[str, object] = {
            "$created": _format_time(created),
            "$name": f"Company № {index}" if is_group else f"Zoë Müller-{index} 🙂",
            "$last_seen": _format_time(created + changes * interval),
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
        if is_group:
            properties |= {"seats": 5 + index % 95}
            return {"$distinct_id": f"company-{index:05d}", "$properties": properties}
        properties |= {
            "$email": f"user{index}@example.com",
            "$os": _SYSTEMS[index % len(_SYSTEMS)][0],
            "$browser": _SYSTEMS[index % len(_SYSTEMS)][1],
            "$transactions": [{"$time": _format_time(created), "$amount": 9.9}] if index % 4 == 0 else [],
        }
        if index % 40 == 11:  # noqa: PLR2004 - one user in 40
            del properties["$last_seen"]
        return {"$distinct_id": json.loads(_user_id(index)), "$properties": properties}

    def cohorts(self) -> Sequence[Mapping[str, object]]:
        """Return two cohorts, with every 3rd and every 100th user."""
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
        """Return the distinct ids in a cohort. Each cohort has two ids without a profile."""
        step = {1000: 3, 1001: 100}.get(cohort)
        if step is None:
            return None
        users = [json.loads(_user_id(user)) for user in range(0, self.users, step)]
        return [*users, f"gone-{cohort}-1", f"gone-{cohort}-2"]

    def annotations(self) -> Sequence[Mapping[str, object]]:
        """Return three annotations, one per week. The first annotation has no tags."""
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
        """Return the data of a funnel by day (`YYYY-MM-DD`)."""
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
        """Return a schema for each event and one for user profiles.

        One event is hidden, and one has no description.
        """
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
        """Return a saved report on the first 14 days: events by day, or a breakdown by city without a time axis."""
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
    """Return the series of a report with three events by day."""
    return {name: {day.isoformat(): rng.randrange(500) for day in days} for _, name, _ in _EVENTS[:3]}


def _schema_type(value: object) -> str:
    """Return the JSON Schema type of a value."""
    types = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return types.get(type(value), "null")


def _funnel_step(event: str, count: int, starting: int, seconds: int | None) -> dict[str, object]:
    """Return a funnel step."""
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
    """The profiles as of a point in time, generated on access to save memory."""

    def __init__(self, project: SyntheticProject, count: int, now: datetime, *, is_group: bool) -> None:
        self._project = project
        self._count = count
        self._now = now
        self._is_group = is_group

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Mapping[str, object]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, object]]: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, object] | Sequence[Mapping[str, object]]:
        selected = range(self._count)[index]
        if isinstance(selected, range):
            return [self._project.profile(each, self._now, is_group=self._is_group) for each in selected]
        return self._project.profile(selected, self._now, is_group=self._is_group)


def _local_day(day: date, zone: ZoneInfo) -> tuple[int, int, int, int, int]:
    """Return the start, length and UTC offsets of a local day.

    Returns:
        In milliseconds: the start of the day in UTC, the length of the day, the time of the offset change in UTC (the
        end of the day if the offset does not change), the offset before it and the offset after it.
    """
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
    """Return the id of a user as JSON. One user in 200 has a numeric id, the others have strings."""
    return b"%d" % (7_000_000 + user) if user % 200 == 7 else b'"user-%06d"' % user  # noqa: PLR2004


def _format_time(moment: datetime) -> str:
    """Format a datetime as in profiles: in UTC, without an offset."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _context(rng: Random) -> bytes:
    """Return the properties that all events of a visitor share, as JSON without the braces."""
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
    """Return a line with a `%` placeholder for each value that differs between rows.

    Args:
        event: Name of the event.
        properties: Properties of the event. The first property with the value 0 becomes a placeholder.
    """
    number, *others = [(key, value) for key, value in properties.items() if value == 0 and value is not False][:1] + [
        (key, value) for key, value in properties.items() if value != 0 or value is False
    ]
    constants = _json(dict(others))[1:-1].replace(b"%", b"%%")
    head = b'{"event":%b,"properties":{"time":' % _json(event).replace(b"%", b"%%")
    key = _json(number[0]).replace(b"%", b"%%")
    return head + b'%b,%b%b%b%b,"trace_id":"%b",' + key + b":%d," + constants + b"}}"
