"""The command `tap-mixpanel-emulator`: serves a made-up project until it is stopped."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from .engage_endpoint import Paging
from .faults import KINDS, NAMES, Fault
from .history import SyntheticProject
from .plan import PLANS
from .rate_limits import Quota
from .server import Emulator

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT.

    The first line on stdout is the tap's settings as JSON, the rest is for people.

    Args:
        arguments: The command line; None for the process's own.

    Returns:
        The exit code: 0, or 1 where the port is not free.
    """
    options = _parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    project = SyntheticProject(
        options.seed,
        options.first_day,
        options.last_day,
        events_per_day=options.events_per_day,
        profiles=options.profiles,
        zone=options.zone,
    )
    quota = None if options.quota is None else Quota(hourly=options.quota)
    plan = replace(PLANS[options.plan], history_days=options.history_days)
    fixed: datetime | None = options.now
    now = None if fixed is None else lambda: fixed
    try:
        paging = Paging(fields=options.page_fields)
        emulator = Emulator(
            project, faults=options.fault, quota=quota, plan=plan, now=now, paging=paging, port=options.port
        )
    except OSError as error:
        sys.stderr.write(
            f"port {options.port} cannot be used ({error.strerror}): stop the process or set another --port\n"
        )
        return 1
    with emulator:
        zone = {} if options.zone == "UTC" else {"project_timezone": options.zone}
        settings = {**emulator.settings, "start_date": str(options.first_day), **zone}
        sys.stdout.write(
            f"{json.dumps(settings)}\n\n"
            "A local Mixpanel is running. Save the line above as config.json, then:\n"
            "  tap-mixpanel-stream --config config.json\n"
            f"  Export:   GET  {emulator.data_api_url}/export\n"
            f"  Profiles: POST {emulator.api_url}/query/engage\n"
            f"  Days:     {options.first_day} to {options.last_day or 'now'}, {options.events_per_day} events each\n"
            "Stop it with Ctrl-C.\n"
        )
        sys.stdout.flush()
        stop.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, NAMES))
    parser = argparse.ArgumentParser(
        prog="tap-mixpanel-emulator",
        description="A local Mixpanel on 127.0.0.1 with synthetic data.",
        epilog="faults:\n" + "\n".join(f"  {name:{width}}  {text}" for name, text in NAMES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="port (default: a free one)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the synthetic data (default: 1)")
    parser.add_argument(
        "--first-day", type=_day, default=date(2024, 1, 1), help="first day with events (default: 2024-01-01)"
    )
    parser.add_argument("--last-day", type=_day, help="last day with events (default: up to now)")
    parser.add_argument("--events-per-day", type=int, default=1000, help="events per day (default: 1000)")
    parser.add_argument("--profiles", type=int, default=1000, help="number of users (default: 1000)")
    parser.add_argument(
        "--zone", type=_zone, default="UTC", help="time zone of a project created before 2023 (default: UTC)"
    )
    parser.add_argument(
        "--quota",
        type=int,
        nargs="?",
        const=60,
        metavar="HOURLY",
        help="enforce Mixpanel's rate limits, by default 60 requests an hour (default: none)",
    )
    parser.add_argument(
        "--page-fields",
        choices=["every", "first", "none"],
        default="every",
        help="profile pages that carry page_size, total and session_id; with none, the first still has its session_id",
    )
    parser.add_argument("--plan", choices=PLANS, default="paid", help="free excludes the query API (default: paid)")
    parser.add_argument("--history-days", type=int, metavar="N", help="days of history in the plan (default: all)")
    parser.add_argument("--now", type=_instant, metavar="ISO", help="freeze the clock at this instant")
    parser.add_argument(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        metavar="KIND:NUMBER:NAME[=VALUE][@AT]",
        help=f"inject a fault, such as export:3:gzip-cut into the third export; KIND is one of {', '.join(KINDS)}; "
        "NUMBER counts its requests from 1: one, several separated by commas, or * for all; AT is the share of the "
        "response sent before the fault (default: 0.5); repeatable",
    )
    return parser


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2024-01-15") from None


def _zone(text: str) -> str:
    try:
        return ZoneInfo(text).key
    except (KeyError, ValueError, OSError):
        raise argparse.ArgumentTypeError(f"unknown time zone {text!r}") from None


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an ISO date and time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _fault(text: str) -> Fault:
    try:
        return Fault.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
