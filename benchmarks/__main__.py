"""Run the benchmarks and write the results to docs/benchmarks.md and README.md."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from . import chart, comparison, fidelity, page, pipelines, request_counts, scaling, stages
from .data import History
from .environment import Environment
from .processes import RunFailedError
from .report import progress

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> int:
    """Run the selected parts.

    Returns:
        The exit code: 1 if a part could not run, otherwise 0. A missed goal is not an error.
    """
    options = _options()
    environment = Environment.capture()
    code = 0
    if options.quick:
        sys.stdout.write("Sizes are small, so the figures are not meaningful.\n")
    for part in options.only:
        began = time.monotonic()
        try:
            if options.quick:
                sys.stdout.write(f"\n## {part}\n\n{_QUICK[part]()}\n")
            else:
                page.write(page.PAGE, part, f"{environment.describe(part)}\n\n{_FULL[part](environment)}")
        except RunFailedError as failure:
            code = 1
            progress(f"{part}: {failure}")
        progress(f"{part}: {time.monotonic() - began:.0f} s")
    return code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, without other programs, printed to the screen"
    )
    parser.add_argument(
        "--only", type=_parts, default=[*_FULL], help=f"parts to run, separated by commas (default: {','.join(_FULL)})"
    )
    return parser.parse_args()


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if unknown := [part for part in parts if part not in _FULL]:
        raise argparse.ArgumentTypeError(f"unknown part {', '.join(unknown)}; the parts are {', '.join(_FULL)}")
    return parts


def _comparison(environment: Environment) -> str:
    groups = [comparison.measure(group) for group in comparison.groups(quick=False)]
    chart.comparison(groups[0])
    page.write(page.README, "how fast", page.readme(groups[0], environment, History().event_bytes()))
    return page.comparison(groups)


def _scaling(_: Environment) -> str:
    results = scaling.measure(quick=False)
    chart.scaling(results)
    return page.scaling(results)


_FULL: dict[str, Callable[[Environment], str]] = {
    "comparison": _comparison,
    "pipelines": lambda _: page.pipelines(pipelines.measure(quick=False)),
    "fidelity": lambda _: page.fidelity(fidelity.measure(quick=False)),
    "scaling": _scaling,
    "requests": lambda _: page.requests(request_counts.measure(quick=False)),
    "stages": lambda _: page.stages(stages.measure(quick=False)),
}

_QUICK: dict[str, Callable[[], str]] = {
    "comparison": lambda: page.comparison([comparison.measure(group) for group in comparison.groups(quick=True)]),
    "pipelines": lambda: page.pipelines(pipelines.measure(quick=True)),
    "fidelity": lambda: page.fidelity(fidelity.measure(quick=True)),
    "scaling": lambda: page.scaling(scaling.measure(quick=True)),
    "requests": lambda: page.requests(request_counts.measure(quick=True)),
    "stages": lambda: page.stages(stages.measure(quick=True)),
}


if __name__ == "__main__":
    sys.exit(main())
