"""The `tap-mixpanel-emulator` command, which serves a synthetic project until it is stopped."""

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
from .faults import FAULT_DESCRIPTIONS, REQUEST_KINDS, Fault
from .history import SyntheticProject
from .plan import PLANS
from .rate_limits import Quota
from .server import Emulator

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT.

    The first line on stdout is the tap's configuration as JSON. The lines after it are instructions for the user.

    Args:
        arguments: Command line arguments; default: `sys.argv`.

    Returns:
        The exit code: 0, or 1 if the port cannot be bound.
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
            f"cannot listen on port {options.port} ({error.strerror}): free the port, or set another one with --port\n"
        )
        return 1
    with emulator:
        zone = {} if options.zone == "UTC" else {"project_timezone": options.zone}
        settings = {**emulator.settings, "start_date": str(options.first_day), **zone}
        sys.stdout.write(
            f"{json.dumps(settings)}\n\n"
            "The emulator is running. Save the line above as config.json, then run:\n"
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
    width = max(map(len, FAULT_DESCRIPTIONS))
    parser = argparse.ArgumentParser(
        prog="tap-mixpanel-emulator",
        description="Emulate the Mixpanel API on 127.0.0.1 with synthetic data.",
        epilog="faults:\n" + "\n".join(f"  {name:{width}}  {text}" for name, text in FAULT_DESCRIPTIONS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any free port)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the synthetic data (default: 1)")
    parser.add_argument(
        "--first-day", type=_day, default=date(2024, 1, 1), help="first day with events (default: 2024-01-01)"
    )
    parser.add_argument("--last-day", type=_day, help="last day with events (default: the current day)")
    parser.add_argument("--events-per-day", type=int, default=1000, help="events per day (default: 1000)")
    parser.add_argument("--profiles", type=int, default=1000, help="number of user profiles (default: 1000)")
    parser.add_argument(
        "--zone", type=_zone, default="UTC", help="project time zone, as in projects created before 2023 (default: UTC)"
    )
    parser.add_argument(
        "--quota",
        type=int,
        nargs="?",
        const=60,
        metavar="HOURLY",
        help="enforce Mixpanel's rate limits, with HOURLY requests per hour (60 if omitted; default: no limits)",
    )
    parser.add_argument(
        "--page-fields",
        choices=["every", "first", "none"],
        default="every",
        help="profile pages that contain page_size, total and session_id; with 'none', the first page still contains "
        "session_id (default: every)",
    )
    parser.add_argument(
        "--plan",
        choices=PLANS,
        default="paid",
        help="Mixpanel plan; the free plan excludes the query API (default: paid)",
    )
    parser.add_argument(
        "--history-days", type=int, metavar="N", help="days of history that the plan includes (default: unlimited)"
    )
    parser.add_argument(
        "--now",
        type=_instant,
        metavar="ISO",
        help="freeze the clock at this time, in ISO 8601; UTC if it has no offset",
    )
    parser.add_argument(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        metavar="KIND:NUMBER:NAME[=VALUE][@AT]",
        help=f"inject a fault; repeatable. KIND is the kind of request: {', '.join(REQUEST_KINDS)}. NUMBER selects "
        "requests of this kind, counted from 1: a number, several separated by commas, or * for all. AT is the "
        "fraction of the response sent before the fault (default: 0.5). Example: export:3:gzip-cut truncates the "
        "third export",
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
        raise argparse.ArgumentTypeError(f"{text!r} is not a date and time such as 2024-01-15T09:30:00") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _fault(text: str) -> Fault:
    try:
        return Fault.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
