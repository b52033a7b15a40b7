"""Mixpanel's `where` expressions.

    properties["x"]  user["x"]  behaviors["x"]      what the row holds
    event["$time"]                                  when the event happened, in an export
    + - * / %   == != > >= < <=   in                operators, in falling order of precedence
    not  and  or                                    also NOT, AND, OR
    floor round ceil boolean number string          functions of one value
    string(x, "default")                            text, and what stands for a missing value
    any(x, list, condition)                         whether an item of the list, named x, meets the condition
    defined(x)  [1, 2]  datetime("2024-01-15T00:00:00")  true false

Whatever is missing (or null) is undefined, and so is whatever is made of it. Comparing values of unlike types is
undefined, and undefined counts as false: a row without `mp_processing_time_ms` is not matched by a comparison with it,
only by `not defined(properties["mp_processing_time_ms"])`.
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
_ROWS = frozenset({"properties", "user", "behaviors"})


class BadExpressionError(ValueError):
    """The expression is not one Mixpanel could read."""


def compile_where(text: str) -> Predicate:
    """Read an expression and return what decides whether a row matches it.

    Raises:
        BadExpressionError: It cannot be read.
    """
    try:
        node = _Parser(text).whole()
    except RecursionError:
        raise BadExpressionError("nested too deeply") from None
    return lambda scope: _true(node(scope))


class _Parser:
    """A recursive descent, one method for each level of reach."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._items: list[str] = []
        """The names that `any` gives to a list's items, the innermost last."""

    def whole(self) -> _Node:
        node = self._or()
        if self._peek() != ("end", ""):
            raise BadExpressionError(f"unexpected {self._peek()[1]!r}")
        return node

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at]

    def _take(self, *texts: str) -> str | None:
        kind, text = self._peek()
        if kind in {"sign", "name"} and text in texts:
            self._at += 1
            return text
        return None

    def _expect(self, text: str) -> None:
        if self._take(text) is None:
            raise BadExpressionError(f"expected {text!r}, found {self._peek()[1]!r}")

    def _or(self) -> _Node:
        node = self._and()
        while self._take("or", "OR"):
            node = _either(node, self._and())
        return node

    def _and(self) -> _Node:
        node = self._not()
        while self._take("and", "AND"):
            node = _both(node, self._not())
        return node

    def _not(self) -> _Node:
        if self._take("not", "NOT"):
            inner = self._not()
            return lambda scope: not _true(inner(scope))
        return self._comparison()

    def _comparison(self) -> _Node:
        node = self._sum()
        while sign := self._take("==", "!=", ">=", "<=", ">", "<", "in"):
            node = _applied(_member if sign == "in" else _comparing(sign), node, self._sum())
        return node

    def _sum(self) -> _Node:
        node = self._product()
        while sign := self._take("+", "-"):
            node = _applied(_add if sign == "+" else _numeric(operator.sub), node, self._product())
        return node

    def _product(self) -> _Node:
        signs = {"*": operator.mul, "/": operator.truediv, "%": operator.mod}
        node = self._minus()
        while sign := self._take(*signs):
            node = _applied(_numeric(signs[sign]), node, self._minus())
        return node

    def _minus(self) -> _Node:
        if self._take("-"):
            return _applied(_numeric(operator.sub), lambda _: 0, self._minus())
        return self._atom()

    def _atom(self) -> _Node:
        kind, text = self._peek()
        self._at += 1
        if kind == "number":
            return _constant(int(text) if text.isdigit() else float(text))
        if kind == "string":
            return _constant(_unquoted(text))
        if text == "(":
            node = self._or()
            self._expect(")")
            return node
        if text == "[":
            return self._list()
        if kind == "name":
            return self._named(text)
        raise BadExpressionError(f"unexpected {text!r}" if text else "it ends too early")

    def _list(self) -> _Node:
        items: list[_Node] = []
        while not self._take("]"):
            if items:
                self._expect(",")
            items.append(self._or())
        return lambda scope: [item(scope) for item in items]

    def _named(self, name: str) -> _Node:
        if name in {"true", "false"}:
            return _constant(name == "true")
        if name in self._items:
            return _item(name, self._subscript(name) if self._peek() == ("sign", "[") else None)
        if name in _ROWS:
            return _property(name, self._subscript(name))
        if name == "event":
            if self._subscript(name) != "$time":
                raise BadExpressionError('event[...] takes "$time" only')
            return _property(name, "$time")
        return self._any() if name == "any" else self._function(name)

    def _function(self, name: str) -> _Node:
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
            raise BadExpressionError(f"{name}[...] takes a string")
        self._at += 1
        self._expect("]")
        return _unquoted(quoted)

    def _any(self) -> _Node:
        self._expect("(")
        kind, name = self._peek()
        if kind != "name":
            raise BadExpressionError("any(...) takes a name first")
        self._at += 1
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
            return any(_true(condition({**scope, name: item})) for item in listed)

        return value


def _tokens(text: str) -> list[tuple[str, str]]:
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


def _unquoted(text: str) -> str:
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


def _either(left: _Node, right: _Node) -> _Node:
    return lambda scope: _true(left(scope)) or _true(right(scope))


def _both(left: _Node, right: _Node) -> _Node:
    return lambda scope: _true(left(scope)) and _true(right(scope))


def _applied(function: Callable[[object, object], object], left: _Node, right: _Node) -> _Node:
    def value(scope: Scope) -> object:
        first, second = left(scope), right(scope)
        return _UNDEFINED if _UNDEFINED in (first, second) else function(first, second)

    return value


def _true(value: object) -> bool:
    return value is not _UNDEFINED and bool(value)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__


def _comparing(sign: str) -> Callable[[object, object], object]:
    compare: Callable[[Any, Any], object] = {
        "==": operator.eq,
        "!=": operator.ne,
        ">": operator.gt,
        ">=": operator.ge,
        "<": operator.lt,
        "<=": operator.le,
    }[sign]

    def value(left: object, right: object) -> object:
        # A date is compared with a property, and properties hold dates as text or as a number of seconds.
        if isinstance(left, datetime) or isinstance(right, datetime):
            left, right = _datetime(left), _datetime(right)
        if _kind(left) != _kind(right) or left is _UNDEFINED:
            return _UNDEFINED
        try:
            return compare(left, right)
        except TypeError:  # objects have no order
            return _UNDEFINED

    return value


def _member(left: object, right: object) -> object:
    if isinstance(right, str):
        return left in right if isinstance(left, str) else _UNDEFINED
    if isinstance(right, list):
        return any(_kind(item) == _kind(left) and item == left for item in right)
    return _UNDEFINED


def _add(left: object, right: object) -> object:
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    return _numeric(operator.add)(left, right)


def _numeric(function: Callable[[float, float], object]) -> Callable[[object, object], object]:
    def value(left: object, right: object) -> object:
        if _kind(left) != "number" or _kind(right) != "number":
            return _UNDEFINED
        try:
            return function(left, right)  # type: ignore[arg-type]
        except (ZeroDivisionError, OverflowError):
            return _UNDEFINED

    return value


def _rounding(function: Callable[[float], int]) -> Callable[[object], object]:
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
    "floor": _rounding(math.floor),
    "ceil": _rounding(math.ceil),
    "round": _rounding(round),
    "boolean": lambda value: _true(value) and value != "false",
    "number": _number,
    "string": _string,
    "datetime": _datetime,
    "defined": lambda value: value is not _UNDEFINED,
}
