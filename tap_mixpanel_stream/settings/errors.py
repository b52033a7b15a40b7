"""What the message about a refused setting says."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


LIST_SETTINGS = "`tap-mixpanel-stream --about` lists the settings"


class SettingsError(Exception):
    """The configuration is refused. The message names the settings and the remedies, in one line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))


def suggestion(name: str, known: Iterable[str], otherwise: str, prefix: str = "") -> str:
    """Return the question whether an unknown name means a known one, or another remedy if none is like it.

    Args:
        name: The unknown name.
        known: The known ones.
        otherwise: The other remedy.
        prefix: What stands before each of the names. Left out of the comparison, since it makes any two alike.
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else otherwise


def suggested_stream(name: str, streams: Iterable[str]) -> str:
    """Return the question which stream an unknown name means; it may be the stream's name in tap-mixpanel."""
    meant = {stream: stream for stream in streams} | {"export": "events", "engage": "profiles"}
    near = difflib.get_close_matches(name, meant, n=1)
    return f"did you mean {meant[near[0]]}?" if near else f"the streams are {', '.join(dict.fromkeys(meant.values()))}"


def kind_of(spec: Mapping[str, Any]) -> str:
    """Return the JSON type of a setting."""
    kinds: list[str] = [spec["type"]] if isinstance(spec["type"], str) else spec["type"]
    return next(kind for kind in kinds if kind != "null")


def can_show(value: object, spec: Mapping[str, Any]) -> bool:
    """Return whether a wrong value may be shown: where the setting cannot hold a secret, and the value is plain."""
    if isinstance(value, str):
        return "enum" in spec or kind_of(spec) in {"integer", "boolean"}
    return not spec.get("secret") and isinstance(value, int | float | None)


def expected(spec: Mapping[str, Any]) -> str:
    """Return what a setting takes, in words."""
    kind = kind_of(spec)
    if "enum" in spec:
        return "one of " + ", ".join(spec["enum"])
    if kind == "integer":
        bounds = [f"from {spec['minimum']}"] if "minimum" in spec else []
        bounds += [f"to {spec['maximum']}"] if "maximum" in spec else []
        return " ".join(["an integer", *bounds])
    if kind == "array":
        items = kind_of(spec["items"])
        return 'a JSON array of strings, such as ["a", "b"]' if items == "string" else "a JSON array of objects"
    return {"boolean": "true or false", "object": "a JSON object", "string": "a string"}[kind]
