"""Run the benchmarks: all of them into docs/ and README.md, or small ones to the screen."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from . import asking, chart, comparison, fidelity, growth, page, pipelines, stages
from .circumstances import Circumstances
from .data import History
from .processes import RunFailedError
from .report import progress

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> int:
    """Run the parts asked for.

    Returns:
        The exit code: 1 if a part did not run. No figure fails anything.
    """
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
                page.write(page.PAGE, part, f"{circumstances.text(part)}\n\n{_FULL[part](circumstances)}")
        except RunFailedError as failure:
            code = 1
            progress(f"{part}: {failure}")
        progress(f"{part}: {time.monotonic() - began:.0f} s")
    return code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, without other programs, to the screen")
    parser.add_argument("--only", type=_parts, default=[*_FULL], help=f"some of {','.join(_FULL)}")
    return parser.parse_args()


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if unknown := [part for part in parts if part not in _FULL]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: unknown; the parts are {', '.join(_FULL)}")
    return parts


def _comparison(circumstances: Circumstances) -> str:
    groups = [comparison.measure(group) for group in comparison.groups(quick=False)]
    chart.comparison(groups[0])
    page.write(page.README, "how fast", page.readme(groups[0], circumstances, History().event_bytes()))
    return page.comparison(groups)


def _growth(_: Circumstances) -> str:
    grown = growth.grow(quick=False)
    chart.growth(grown)
    return page.growth(grown)


_FULL: dict[str, Callable[[Circumstances], str]] = {
    "comparison": _comparison,
    "pipelines": lambda _: page.pipelines(pipelines.measure(quick=False)),
    "fidelity": lambda _: page.fidelity(fidelity.check_all(quick=False)),
    "growth": _growth,
    "asking": lambda _: page.asking(asking.ask(quick=False)),
    "stages": lambda _: page.stages(stages.time_stages(quick=False)),
}

_QUICK: dict[str, Callable[[], str]] = {
    "comparison": lambda: page.comparison([comparison.measure(group) for group in comparison.groups(quick=True)]),
    "pipelines": lambda: page.pipelines(pipelines.measure(quick=True)),
    "fidelity": lambda: page.fidelity(fidelity.check_all(quick=True)),
    "growth": lambda: page.growth(growth.grow(quick=True)),
    "asking": lambda: page.asking(asking.ask(quick=True)),
    "stages": lambda: page.stages(stages.time_stages(quick=True)),
}


if __name__ == "__main__":
    sys.exit(main())
