"""A parser and interpreter for Mixpanel's `where` expressions.

    properties["x"]  user["x"]  behaviors["x"]      values of the row
    event["$time"]                                  event time, in exports
    * / %   + -   == != > >= < <= in                operators, highest precedence first
    not  and  or                                    logical operators, also NOT, AND, OR
    floor round ceil boolean number string          functions with one argument
    string(x, "default")                            string with a default for an undefined value
    any(x, list, condition)                         whether the condition holds for an item x of the list
    defined(x)  [1, 2]  datetime("2024-01-15T00:00:00")  true false

A missing or null value is undefined. An operation on an undefined value, or a comparison of values of different types,
is undefined. An undefined condition is false, so a comparison with `mp_processing_time_ms` does not match rows without
it. `not defined(properties["mp_processing_time_ms"])` does.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

Scope = Mapping[str, Any]
Predicate = Callable[[Scope], bool]
_Node = Callable[[Scope], object]


class _Undefined(Enum):
    UNDEFINED = 0


_UNDEFINED: Final = _Undefined.UNDEFINED

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?)
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<name>[A-Za-z_]\w*)
      | (?P<sign>==|!=|>=|<=|[-+*/%<>()\[\],])
    )""",
    re.VERBOSE | re.DOTALL,
)
_ROW_MAPPINGS = frozenset({"properties", "user", "behaviors"})


class BadExpressionError(ValueError):
    """The expression is invalid."""


def compile_where(text: str) -> Predicate:
    """Compile an expression to a function that returns whether a row matches.

    Raises:
        BadExpressionError: The expression is invalid.
    """
    try:
        node = _Parser(text).parse()
    except RecursionError:
        raise BadExpressionError("nested too deeply") from None
    return lambda scope: _is_true(node(scope))


class _Parser:
    """A recursive descent parser with one method per level of precedence."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokenize(text)
        self._position = 0
        # Names of the item variables of enclosing `any` calls, innermost last.
        self._items: list[str] = []

    def parse(self) -> _Node:
        node = self._or()
        if self._peek() != ("end", ""):
            raise BadExpressionError(f"unexpected {self._peek()[1]!r}")
        return node

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._position]

    def _take(self, *texts: str) -> str | None:
        kind, text = self._peek()
        if kind in {"sign", "name"} and text in texts:
            self._position += 1
            return text
        return None

    def _expect(self, text: str) -> None:
        if self._take(text) is None:
            raise BadExpressionError(f"expected {text!r}, found {self._peek()[1]!r}")

    def _or(self) -> _Node:
        node = self._and()
        while self._take("or", "OR"):
            node = _logical_or(node, self._and())
        return node

    def _and(self) -> _Node:
        node = self._not()
        while self._take("and", "AND"):
            node = _logical_and(node, self._not())
        return node

    def _not(self) -> _Node:
        if self._take("not", "NOT"):
            inner = self._not()
            return lambda scope: not _is_true(inner(scope))
        return self._comparison()

    def _comparison(self) -> _Node:
        node = self._sum()
        while sign := self._take("==", "!=", ">=", "<=", ">", "<", "in"):
            node = _binary(_contains if sign == "in" else _comparison_function(sign), node, self._sum())
        return node

    def _sum(self) -> _Node:
        node = self._product()
        while sign := self._take("+", "-"):
            node = _binary(_add if sign == "+" else _numeric_operation(operator.sub), node, self._product())
        return node

    def _product(self) -> _Node:
        signs = {"*": operator.mul, "/": operator.truediv, "%": operator.mod}
        node = self._unary_minus()
        while sign := self._take(*signs):
            node = _binary(_numeric_operation(signs[sign]), node, self._unary_minus())
        return node

    def _unary_minus(self) -> _Node:
        if self._take("-"):
            return _binary(_numeric_operation(operator.sub), lambda _: 0, self._unary_minus())
        return self._atom()

    def _atom(self) -> _Node:
        kind, text = self._peek()
        self._position += 1
        if kind == "number":
            return _constant(int(text) if text.isdigit() else float(text))
        if kind == "string":
            return _constant(_unquote(text))
        if text == "(":
            node = self._or()
            self._expect(")")
            return node
        if text == "[":
            return self._list()
        if kind == "name":
            return self._name(text)
        raise BadExpressionError(f"unexpected {text!r}" if text else "the expression ends too early")

    def _list(self) -> _Node:
        items: list[_Node] = []
        while not self._take("]"):
            if items:
                self._expect(",")
            items.append(self._or())
        return lambda scope: [item(scope) for item in items]

    def _name(self, name: str) -> _Node:
        if name in {"true", "false"}:
            return _constant(name == "true")
        if name in self._items:
            return _item(name, self._subscript(name) if self._peek() == ("sign", "[") else None)
        if name in _ROW_MAPPINGS:
            return _property(name, self._subscript(name))
        if name == "event":
            if self._subscript(name) != "$time":
                raise BadExpressionError('event[...] accepts only "$time"')
            return _property(name, "$time")
        return self._any_call() if name == "any" else self._function_call(name)

    def _function_call(self, name: str) -> _Node:
        if name not in _FUNCTIONS:
            raise BadExpressionError(f"unknown name {name!r}")
        self._expect("(")
        argument = self._or()
        if name == "string" and self._take(","):
            default = self._or()
            self._expect(")")
            return lambda scope: _string(default(scope) if (value := argument(scope)) is _UNDEFINED else value)
        self._expect(")")
        function = _FUNCTIONS[name]
        return lambda scope: function(argument(scope))

    def _subscript(self, name: str) -> str:
        self._expect("[")
        kind, quoted = self._peek()
        if kind != "string":
            raise BadExpressionError(f"{name}[...] requires a string")
        self._position += 1
        self._expect("]")
        return _unquote(quoted)

    def _any_call(self) -> _Node:
        self._expect("(")
        kind, name = self._peek()
        if kind != "name":
            raise BadExpressionError("the first argument of any(...) must be a name")
        self._position += 1
        self._expect(",")
        items = self._or()
        self._expect(",")
        self._items.append(name)
        condition = self._or()
        self._items.pop()
        self._expect(")")

        def value(scope: Scope) -> object:
            listed = items(scope)
            if not isinstance(listed, list):
                return _UNDEFINED
            return any(_is_true(condition({**scope, name: item})) for item in listed)

        return value


def _tokenize(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadExpressionError(f"cannot read {text[at : at + 20]!r}")
        tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
        at = match.end()
    return [*tokens, ("end", "")]


def _unquote(text: str) -> str:
    if text[0] == "'":
        text = '"' + text[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'
    try:
        return str(json.loads(text, strict=False))
    except ValueError:
        raise BadExpressionError(f"cannot read the string {text}") from None


def _constant(value: object) -> _Node:
    return lambda _: value


def _property(row: str, name: str) -> _Node:
    def value(scope: Scope) -> object:
        found = scope.get(row, {}).get(name)
        return _UNDEFINED if found is None else found

    return value


def _item(name: str, key: str | None) -> _Node:
    def value(scope: Scope) -> object:
        found = scope[name]
        if key is not None:
            found = found.get(key) if isinstance(found, dict) else None
        return _UNDEFINED if found is None else found

    return value


def _logical_or(left: _Node, right: _Node) -> _Node:
    return lambda scope: _is_true(left(scope)) or _is_true(right(scope))


def _logical_and(left: _Node, right: _Node) -> _Node:
    return lambda scope: _is_true(left(scope)) and _is_true(right(scope))


def _binary(function: Callable[[object, object], object], left: _Node, right: _Node) -> _Node:
    def value(scope: Scope) -> object:
        first, second = left(scope), right(scope)
        return _UNDEFINED if _UNDEFINED in (first, second) else function(first, second)

    return value


def _is_true(value: object) -> bool:
    return value is not _UNDEFINED and bool(value)


def _type_name(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__


def _comparison_function(sign: str) -> Callable[[object, object], object]:
    compare: Callable[[Any, Any], object] = {
        "==": operator.eq,
        "!=": operator.ne,
        ">": operator.gt,
        ">=": operator.ge,
        "<": operator.lt,
        "<=": operator.le,
    }[sign]

    def value(left: object, right: object) -> object:
        # Properties contain dates as ISO 8601 text or as Unix timestamps in seconds.
        if isinstance(left, datetime) or isinstance(right, datetime):
            left, right = _datetime(left), _datetime(right)
        if _type_name(left) != _type_name(right) or left is _UNDEFINED:
            return _UNDEFINED
        try:
            return compare(left, right)
        except TypeError:  # objects have no order
            return _UNDEFINED

    return value


def _contains(left: object, right: object) -> object:
    if isinstance(right, str):
        return left in right if isinstance(left, str) else _UNDEFINED
    if isinstance(right, list):
        return any(_type_name(item) == _type_name(left) and item == left for item in right)
    return _UNDEFINED


def _add(left: object, right: object) -> object:
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    return _numeric_operation(operator.add)(left, right)


def _numeric_operation(function: Callable[[float, float], object]) -> Callable[[object, object], object]:
    def value(left: object, right: object) -> object:
        if _type_name(left) != "number" or _type_name(right) != "number":
            return _UNDEFINED
        try:
            return function(left, right)  # type: ignore[arg-type]
        except (ZeroDivisionError, OverflowError):
            return _UNDEFINED

    return value


def _round_with(function: Callable[[float], int]) -> Callable[[object], object]:
    def value(given: object) -> object:
        if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
            return _UNDEFINED
        return function(given)

    return value


def _number(value: object) -> object:
    if isinstance(value, int | float | str):
        try:
            return float(value) if isinstance(value, str) else value + 0
        except ValueError:
            return _UNDEFINED
    return _UNDEFINED


def _string(value: object) -> object:
    if value is _UNDEFINED or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _datetime(value: object) -> object:
    if isinstance(value, datetime):
        return value
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return _UNDEFINED
    return _UNDEFINED


_FUNCTIONS: dict[str, Callable[[object], object]] = {
    "floor": _round_with(math.floor),
    "ceil": _round_with(math.ceil),
    "round": _round_with(round),
    "boolean": lambda value: _is_true(value) and value != "false",
    "number": _number,
    "string": _string,
    "datetime": _datetime,
    "defined": lambda value: value is not _UNDEFINED,
}
