"""Imports between packages go in one direction, including those for type checking."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

import tap_mixpanel_stream

ROOT = Path(tap_mixpanel_stream.__file__).parent

# A package imports only itself and packages of the rows below it.
LAYERS = (
    ("tap",),
    ("doctor",),
    ("streams",),
    ("pipeline", "run"),
    ("replication", "settings"),
    ("mixpanel", "records", "delivery"),
    ("logging_filters", "surrogates"),
)

# Modules at the top that belong to the tap.
PARTS_OF_THE_TAP = {"__main__", "selection", "stream_maps", "sync", "tap"}


def package_of(module: str) -> str:
    """Return the package of a module, or the module if it is at the top."""
    top = module.partition(".")[0]
    return "tap" if top in PARTS_OF_THE_TAP else top


def imports_of(path: Path) -> set[str]:
    """Return the package's modules that a module imports, anywhere in its code."""
    here = path.relative_to(ROOT).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*here[: len(here) + 1 - node.level], *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                parts = [*base, alias.name]
                is_module = ROOT.joinpath(*parts).with_suffix(".py").exists()
                found.add(".".join(parts if is_module else base))
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        prefix = f"{tap_mixpanel_stream.__name__}."
        found |= {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    return found - {""}


IMPORTS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): imports_of(path)
    for path in ROOT.rglob("*.py")
}


def test_imports_have_no_cycle() -> None:
    """A cycle means that two modules are one, or that a third is missing."""
    graphlib.TopologicalSorter(IMPORTS).prepare()


@pytest.mark.parametrize("module", sorted(module for module in IMPORTS if package_of(module) != "emulator"))
def test_a_module_imports_only_lower_layers(module: str) -> None:
    """Each package can be read and tested with only the packages below it."""
    package = package_of(module)
    if package == "__init__":
        assert not IMPORTS[module]
        return
    [layer] = [number for number, packages in enumerate(LAYERS) if package in packages]
    allowed = {package}.union(*LAYERS[layer + 1 :])
    assert {used for used in IMPORTS[module] if package_of(used) not in allowed} == set()


def test_the_emulator_does_not_import_the_tap() -> None:
    """The emulator must not repeat the tap's mistakes about Mixpanel."""
    emulator = {module for module in IMPORTS if package_of(module) == "emulator"}
    assert {used for module in emulator for used in IMPORTS[module] if package_of(used) != "emulator"} == set()
