"""Set up the SDK's stream maps for the selected streams, with one-line messages for mistakes in them."""

from __future__ import annotations

import ast
import copy
import fnmatch
import importlib.util
from typing import TYPE_CHECKING, Any

from singer_sdk.helpers._catalog import get_selected_schema
from singer_sdk.mapper import MAPPER_SOURCE_OPTION, NULL_STRING, CustomStreamMap, PluginMapper, RemoveRecordTransform
from singer_sdk.singerlib import Schema

from .pipeline.errors import StreamError
from .settings import SettingsError
from .settings.errors import suggested_stream

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping

    from .streams.base import MixpanelStream

# The names that the SDK defines in expressions, besides its functions and the record's columns.
_SDK_NAMES = {"_", "record", "config", "__stream_name__", "__original_stream_name__"}
_MAX_QUOTED = 200
"""Maximum number of characters of an expression that a message quotes."""


def make_mapper(
    config: Mapping[str, Any], streams: Mapping[str, MixpanelStream], logger: logging.Logger
) -> PluginMapper:
    """Return the SDK's mapper for the selected streams.

    Args:
        config: The configuration.
        streams: All streams by name, selected or not.
        logger: The tap's logger.

    Raises:
        SettingsError: `stream_maps` names an unknown stream, or cannot be applied to a selected stream.
    """
    maps = config.get("stream_maps") or {}
    for key, rules in maps.items():
        _check_source(key, rules, streams)
    # A copy, because the SDK removes options from it.
    mapper = PluginMapper(plugin_config=copy.deepcopy(dict(config)), logger=logger)
    outputs: dict[str, tuple[object, object]] = {}
    for name, stream in streams.items():
        if not stream.selected:
            continue
        # Via the class that reads catalogs, so that the SCHEMA message is the same with and without a catalog.
        declared = Schema.from_dict(stream.effective_schema).to_dict()
        schema = get_selected_schema(name, declared, stream.mask)
        columns = set(schema.get("properties", ()))
        applied = {key: rules for key, rules in maps.items() if isinstance(rules, dict) and _applies(key, rules, name)}
        for key, rules in applied.items():
            _check_expressions(key, rules)
        try:
            mapper.register_raw_stream_schema(name, schema, stream.primary_keys)
        except Exception as error:  # noqa: BLE001 - the SDK raises many kinds of exception
            raise SettingsError([f"stream_maps: {name}: {error or type(error).__name__}"]) from None
        for stream_map in mapper.stream_maps[name]:
            alias = stream_map.stream_alias
            output = (stream_map.transformed_schema, stream_map.transformed_key_properties)
            if not isinstance(stream_map, RemoveRecordTransform) and outputs.setdefault(alias, output) != output:
                problem = f"{name}: the alias {alias} belongs to a stream with other columns or another key: change it"
                raise SettingsError([f"stream_maps: {problem}"])
            if isinstance(stream_map, CustomStreamMap):
                _check_names(name, applied, columns, stream_map)
                stream_map._eval = _with_context(name, stream_map._eval)  # type: ignore[method-assign] # noqa: SLF001
    return mapper


def _check_source(key: str, rules: object, streams: Mapping[str, MixpanelStream]) -> None:
    source = rules.get(MAPPER_SOURCE_OPTION, key) if isinstance(rules, dict) else key
    if not source.startswith("__") and not fnmatch.filter(streams, source):
        raise SettingsError([f"stream_maps: unknown stream {source}: {suggested_stream(source, streams)}"])
    if source.startswith("__") and not (source == "__else__" and (rules is None or rules == NULL_STRING)):
        raise SettingsError([f"stream_maps: {source}: the only option besides stream names is __else__: null"])


def _applies(key: str, rules: Mapping[str, Any], stream: str) -> bool:
    return fnmatch.fnmatch(stream, rules.get(MAPPER_SOURCE_OPTION, key))


def _expressions(rules: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the expressions of a stream map, each with its column or option."""
    for name, rule in rules.items():
        is_option = name.startswith("__") and name != "__filter__"
        if isinstance(rule, str) and rule != NULL_STRING and not is_option:
            yield name, rule


def _check_expressions(key: str, rules: Mapping[str, Any]) -> None:
    for name, expression in _expressions(rules):
        try:
            is_expression = [type(part) for part in ast.parse(expression).body] == [ast.Expr]
            reason = ""
        except (SyntaxError, ValueError) as error:
            is_expression, reason = False, f": {getattr(error, 'msg', error)}"
        if not is_expression:
            raise SettingsError([f"stream_maps: {key}.{name}: {_quoted(expression)} is not an expression{reason}"])


def _check_names(
    stream: str, maps: Mapping[str, dict[str, Any]], columns: set[str], stream_map: CustomStreamMap
) -> None:
    """Reject names in expressions that the SDK cannot resolve for a record."""
    known = columns | _SDK_NAMES | set(stream_map.functions)
    if importlib.util.find_spec("faker"):
        known.add("fake")
    for key, rules in maps.items():
        for name, expression in _expressions(rules):
            tree = ast.parse(expression)
            names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
            assigned = {node.id for node in names if isinstance(node.ctx, ast.Store)}
            for unknown in (used for used in _always_evaluated_names(tree) if used not in known | assigned):
                if unknown == "self" and name in columns:
                    continue
                reason = f"{stream} has no column or function {unknown}"
                if unknown == "fake":
                    reason = "fake requires the package faker: install it in the tap's environment"
                raise SettingsError([f"stream_maps: {key}.{name}: {_quoted(expression)}: {reason}"])


def _always_evaluated_names(tree: ast.AST) -> Iterator[str]:
    """Yield the names outside conditional expressions, `and` and `or`, which may not evaluate all of their names."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Name):
            yield node.id
        if not isinstance(node, ast.IfExp | ast.BoolOp):
            nodes += ast.iter_child_nodes(node)


def _with_context(stream: str, evaluate: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function that evaluates expressions, so that errors name the stream, the setting and the expression."""

    def evaluate_with_context(*, expr: str, property_name: str | None, **options: Any) -> Any:
        try:
            return evaluate(expr=expr, property_name=property_name, **options)
        except RecursionError:
            raise
        except Exception as error:  # noqa: BLE001 - an expression can raise any exception
            where = f"{stream}: stream_maps: {property_name or '__filter__'}: {_quoted(expr)}"
            raise StreamError(f"{where} failed on a record: {_reason(error)}") from None

    return evaluate_with_context


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, KeyError):
        return f"there is no key {cause}: use .get()"
    # The message of a ValueError quotes the value, which comes from the record.
    return type(cause).__name__ if isinstance(cause, ValueError) else f"{type(cause).__name__}: {cause}"


def _quoted(expression: str) -> str:
    cut = expression if len(expression) <= _MAX_QUOTED else expression[:_MAX_QUOTED] + "…"
    return f"`{' '.join(cut.split())}`"
