from __future__ import annotations

import pytest

from tap_mixpanel_stream.emulator.expressions import BadExpressionError, compile_where

ROW: dict[str, dict[str, object]] = {
    "properties": {
        "n": 5,
        "f": 2.5,
        "text": "abc",
        "digits": "42",
        "yes": True,
        "no": False,
        "list": ["x", 2, True],
        "items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 3}],
        "none": None,
        "object": {"k": 1},
        "date": "2024-01-20T10:00:00",
        "time": 1_705_744_800,  # 2024-01-20T10:00:00Z
        "sp ace $#/": 1,
        "Zürich": 1,
    },
    "user": {"plan": "pro"},
    "event": {"$time": 1_705_744_800.5},
}


@pytest.mark.parametrize(
    "text",
    [
        'properties["n"] == 5',
        'properties["n"] != 6',
        'properties["n"] > 4 and properties["n"] >= 5 and properties["n"] < 6 and properties["n"] <= 5',
        'properties["n"] == 5.0',
        'properties["n"] + properties["f"] * 2 == 10',
        '(properties["n"] + properties["f"]) * 2 == 15',
        'properties["n"] - 1 - 1 == 3',
        'properties["n"] % 2 == 1',
        'properties["n"] / 2 == 2.5',
        '-properties["n"] < -4',
        'properties["text"] + "d" == "abcd"',
        'properties["text"] < "abd"',
        '"bc" in properties["text"]',
        '"x" in properties["list"]',
        '2 in properties["list"]',
        'properties["text"] in ["abc", "def"]',
        'not "y" in properties["list"]',
        'properties["yes"]',
        'properties["yes"] == true and properties["no"] == false',
        "true or false and false",
        "not false and true",
        'defined(properties["n"])',
        'not defined(properties["missing"])',
        'not defined(properties["none"])',
        'floor(properties["f"]) == 2 and ceil(properties["f"]) == 3 and round(2.6) == 3',
        'number(properties["digits"]) + 1 == 43',
        'string(properties["n"]) == "5"',
        'boolean(properties["n"])',
        'properties["date"] >= datetime("2024-01-15T00:00:00")',
        'datetime("2024-01-15T00:00:00") < properties["time"]',
        'properties["time"] == datetime("2024-01-20T10:00:00")',
        'user["plan"] == "pro"',
        "user['plan'] == 'pro'",
        'properties["sp ace $#/"] == 1 and properties["Zürich"] == 1 and properties["Z\\u00fcrich"] == 1',
        'properties["time"] >= 1.7e9',
        'event["$time"] >= datetime("2024-01-20T10:00:00") and event["$time"] < 1705744801',
        'NOT properties["n"] == 6 AND (properties["n"] == 6 OR properties["n"] == 5)',
        'string(properties["missing"], "none") == "none"',
        'string(properties["n"], "none") == "5"',
        'any(x, properties["list"], x == 2)',
        'any(item, properties["items"], item["sku"] == "b" and item["n"] > 2)',
        "any(x, [1, 2], any(y, [2, 3], x == y))",
        'not any(x, properties["list"], x == "z")',
        'not boolean("false") and boolean("true")',
    ],
)
def test_expressions_that_match(text: str) -> None:
    """The expression is true for the row."""
    assert compile_where(text)(ROW)


@pytest.mark.parametrize(
    "text",
    [
        "false",
        'properties["n"] == "5"',
        'properties["n"] != "5"',
        'properties["yes"] == 1',
        'properties["missing"] == 5',
        'properties["missing"] != 5',
        'properties["missing"] < 5 or properties["missing"] >= 5',
        'properties["none"] == 5',
        'properties["text"] > 1',
        'properties["object"] < properties["object"]',
        'properties["missing"] + 1 > 0',
        'properties["n"] + "x" == "5x"',
        'properties["n"] / 0 == 0',
        '1 in properties["n"]',
        '1 in properties["list"]',
        'floor(properties["text"]) == 0',
        'number("x") == 0',
        'datetime("x") > 1',
        'defined(number(properties["missing"]))',
        'defined(string(properties["missing"]))',
        'behaviors["b"] > 0',
        'any(x, properties["items"], x["sku"] == "a" and x["n"] == 3)',
        'any(x, properties["items"], x == 1)',
        'any(x, properties["list"], x["sku"] == "a")',
        'any(x, properties["missing"], true)',
        'any(x, properties["text"], true)',
        'string(properties["missing"], properties["none"]) == "none"',
    ],
)
def test_expressions_that_do_not_match(text: str) -> None:
    """The expression is not true for the row."""
    assert not compile_where(text)(ROW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plan",
        "properties",
        "properties[1]",
        'properties["a"',
        'properties["a"] ==',
        'properties["a"] = 1',
        "1 2",
        "(1",
        "[1 2]",
        "floor 1",
        "nonsense(1)",
        '"unended',
        '"\\x"',
        "1 ; 2",
        "(" * 5000,
        'event["name"] == "a"',
        "event",
        'any("x", [1], true)',
        "any(x, [1])",
        "any(x, [1], x == 1) and x == 1",
        'number("1", 2)',
        'string("1", 2, 3)',
        "True And false",
    ],
)
def test_invalid_expressions_are_rejected(text: str) -> None:
    """An invalid expression is rejected."""
    with pytest.raises(BadExpressionError):
        compile_where(text)
