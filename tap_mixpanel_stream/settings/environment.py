"""Read settings from environment variables, as strictly as from a configuration file."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from .errors import LIST_SETTINGS, SettingsError, can_show, expected, kind_of, suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "TAP_MIXPANEL_STREAM_"

LOG_LEVEL = f"{PREFIX}LOGLEVEL"
"""The variable for the log level, which the SDK reads."""

_KUBERNETES_VARIABLE = re.compile(rf"{PREFIX}(.+_)?(SERVICE_HOST|(SERVICE_)?PORT(_.+)?)")
"""Matches the variables that Kubernetes sets in each container for a service whose name begins with the tap's."""

_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def variable_of(setting: str) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + setting.upper()


def read_environment(environment: Mapping[str, str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in environment variables. An empty variable counts as not set.

    Args:
        environment: The variables by name.
        schema: The schema of all settings, including the SDK's.

    Raises:
        SettingsError: A variable is unknown, or its value is invalid.
    """
    known = {variable_of(name): name for name in schema["properties"]}
    settings: dict[str, Any] = {}
    problems = []
    for variable, text in sorted(environment.items()):
        if name := known.get(variable):
            try:
                if text:
                    settings[name] = _value(text, kind_of(schema["properties"][name]))
            except ValueError:
                spec = schema["properties"][name]
                shown = f" ({text!r})" if can_show(text, spec) else ""
                problems.append(f"{variable} cannot be read{shown}: set it to {expected(spec)}")
        elif variable.startswith(PREFIX) and not _is_reserved(variable, schema):
            names = [name.upper() for name in schema["properties"]]
            remedy = suggestion(variable.removeprefix(PREFIX), names, LIST_SETTINGS, prefix=PREFIX)
            problems.append(f"unknown variable {variable}: {remedy}")
    if problems:
        raise SettingsError(problems)
    return settings


def _value(text: str, kind: str) -> Any:
    if kind == "string":
        return text
    if kind == "integer":
        if not re.fullmatch(r"[+-]?[0-9]{1,4000}", text):
            raise ValueError(text)
        return int(text)
    if kind == "boolean":
        if text.lower() not in _BOOLEANS:
            raise ValueError(text)
        return _BOOLEANS[text.lower()]
    value = json.loads(text)
    if not isinstance(value, list if kind == "array" else dict):
        raise ValueError(text)  # noqa: TRY004 - the value is always text
    return _nested(value) if isinstance(value, dict) else value


def _nested(value: dict[str, Any]) -> dict[str, Any]:
    """Restore the nesting of an object from meltano.yml, which Meltano passes as `{"storage.root": …}`."""
    nested: dict[str, Any] = {}
    for path, inner in value.items():
        *parents, name = path.split(".")
        level = nested
        for parent in parents:
            level = level.setdefault(parent, {})
        level[name] = inner
    return nested


def _is_reserved(variable: str, schema: Mapping[str, Any]) -> bool:
    """Return whether the SDK, Meltano or Kubernetes uses a variable.

    Meltano sets its plugin extras with a double underscore. For an object it also sets a variable for each value:
    `TAP_MIXPANEL_STREAM_BATCH_CONFIG_STORAGE_ROOT`.
    """
    objects = (variable_of(name) + "_" for name, spec in schema["properties"].items() if kind_of(spec) == "object")
    is_meltano_variable = variable.startswith((f"{PREFIX}_", *objects))
    return variable == LOG_LEVEL or is_meltano_variable or _KUBERNETES_VARIABLE.fullmatch(variable) is not None
