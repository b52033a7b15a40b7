"""Runs the benchmarks: all of them into docs/ and README.md, or in a hurry to the screen."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from . import asking, growth, losses, races, report, stages
from .circumstances import Circumstances
from .data import History
from .processes import RunFailedError
from .saying import say

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> int:
    """Run what is asked for. The exit code is 1 if a part did not run; a figure, whatever it is, fails nothing."""
    options = _options()
    circumstances = Circumstances.now()
    code = 0
    if options.quick:
        sys.stdout.write("Small sizes: the figures show that it runs, and little more.\n")
    for part in options.only:
        began = time.monotonic()
        try:
            if options.quick:
                sys.stdout.write(f"\n## {part}\n\n{_QUICK[part]()}\n")
            else:
                report.write(report.PAGE, part, f"{circumstances.text(part)}\n\n{_FULL[part](circumstances)}")
        except RunFailedError as failure:
            code = 1
            say(f"{part}: {failure}")
        say(f"{part}: {time.monotonic() - began:.0f} s")
    return code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, without the peers, to the screen")
    parser.add_argument("--only", type=_parts, default=[*_FULL], help=f"some of {','.join(_FULL)}")
    return parser.parse_args()


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if unknown := [part for part in parts if part not in _FULL]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(_FULL)}")
    return parts


def _races(circumstances: Circumstances) -> str:
    from . import chart  # noqa: PLC0415 - what draws is there for the full run only

    groups = [races.race(group) for group in races.line_up(quick=False)]
    chart.races(groups[0])
    report.write(report.README, "how fast", report.readme(groups[0], circumstances, History().event_bytes()))
    return report.races(groups)


def _growth(_: Circumstances) -> str:
    from . import chart  # noqa: PLC0415 - what draws is there for the full run only

    grown = growth.grow(quick=False)
    chart.growth(grown)
    return report.growth(grown)


_FULL: dict[str, Callable[[Circumstances], str]] = {
    "races": _races,
    "losses": lambda _: report.losses(losses.compare_all(quick=False)),
    "growth": _growth,
    "asking": lambda _: report.asking(asking.ask(quick=False)),
    "stages": lambda _: report.stages(stages.time_stages(quick=False)),
}

_QUICK: dict[str, Callable[[], str]] = {
    "races": lambda: report.races([races.race(group) for group in races.line_up(quick=True)]),
    "losses": lambda: report.losses(losses.compare_all(quick=True)),
    "growth": lambda: report.growth(growth.grow(quick=True)),
    "asking": lambda: report.asking(asking.ask(quick=True)),
    "stages": lambda: report.stages(stages.time_stages(quick=True)),
}


if __name__ == "__main__":
    sys.exit(main())
