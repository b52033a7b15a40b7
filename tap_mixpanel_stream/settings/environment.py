"""Settings from environment variables, checked as strictly as a configuration file."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from .errors import LIST_SETTINGS, SettingsError, can_show, expected, kind_of, suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "TAP_MIXPANEL_STREAM_"

LOG_LEVEL = f"{PREFIX}LOGLEVEL"
"""Read by the SDK itself."""

_OF_KUBERNETES = re.compile(rf"{PREFIX}(.+_)?(SERVICE_HOST|(SERVICE_)?PORT(_.+)?)")
"""What Kubernetes sets in each container for a service whose name begins like the tap's."""

_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def variable_of(setting: str) -> str:
    """Return the name of a setting's variable."""
    return PREFIX + setting.upper()


def read_environment(environment: Mapping[str, str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that environment variables hold. An empty variable counts as absent.

    Args:
        environment: The variables by name.
        schema: The schema of all settings, the SDK's own included.

    Raises:
        SettingsError: A variable is unknown, or its value cannot be read.
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
        elif variable.startswith(PREFIX) and not _is_foreign(variable, schema):
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
        raise ValueError(text)  # noqa: TRY004 - the text of a variable has no type
    return _nested(value) if isinstance(value, dict) else value


def _nested(value: dict[str, Any]) -> dict[str, Any]:
    """Undo what Meltano makes of an object that stands in meltano.yml: `{"storage.root": …}`."""
    nested: dict[str, Any] = {}
    for path, inner in value.items():
        *parents, name = path.split(".")
        level = nested
        for parent in parents:
            level = level.setdefault(parent, {})
        level[name] = inner
    return nested


def _is_foreign(variable: str, schema: Mapping[str, Any]) -> bool:
    """Return whether a variable is the SDK's, Meltano's or Kubernetes' own.

    Meltano sets its extras with a double underscore, and beside an object each of its values,
    such as `TAP_MIXPANEL_STREAM_BATCH_CONFIG_STORAGE_ROOT`.
    """
    objects = (variable_of(name) + "_" for name, spec in schema["properties"].items() if kind_of(spec) == "object")
    is_meltanos = variable.startswith((f"{PREFIX}_", *objects))
    return variable == LOG_LEVEL or is_meltanos or _OF_KUBERNETES.fullmatch(variable) is not None
