"""The error for invalid settings, and texts for its message."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


LIST_SETTINGS = "`tap-mixpanel-stream --about` lists the settings"


class SettingsError(Exception):
    """The configuration is invalid. The message is one line that names the settings and the remedies."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))


def suggestion(name: str, known: Iterable[str], otherwise: str, prefix: str = "") -> str:
    """Return a remedy for an unknown name: "did you mean" the closest known name, or `otherwise` if none is close.

    Args:
        name: The unknown name.
        known: The known names.
        otherwise: The remedy if no known name is close.
        prefix: A prefix of all names, shown in the remedy but not compared.
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else otherwise


def suggested_stream(name: str, streams: Iterable[str]) -> str:
    """Return a remedy for an unknown stream: the stream with the closest name, here or in tap-mixpanel, or a list."""
    known = {stream: stream for stream in streams} | {"export": "events", "engage": "profiles"}
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {known[near[0]]}?" if near else f"the streams are {', '.join(dict.fromkeys(known.values()))}"


def kind_of(spec: Mapping[str, Any]) -> str:
    """Return the JSON type of a setting."""
    kinds: list[str] = [spec["type"]] if isinstance(spec["type"], str) else spec["type"]
    return next(kind for kind in kinds if kind != "null")


def can_show(value: object, spec: Mapping[str, Any]) -> bool:
    """Return whether a message may quote an invalid value: the setting contains no secret, and the value is simple."""
    if isinstance(value, str):
        return "enum" in spec or kind_of(spec) in {"integer", "boolean"}
    return not spec.get("secret") and isinstance(value, int | float | None)


def expected(spec: Mapping[str, Any]) -> str:
    """Describe the values that a setting accepts, for a message."""
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
