"""Hypothesis strategies for event lines: any order and spelling, with misleading keys and strings."""

from __future__ import annotations

import json

from hypothesis import strategies as st

LOOKALIKES = [
    *(
        "time",
        "distinct_id",
        "$insert_id",
        "$distinct_id_before_identity",
        "$mp_api_timestamp_ms",
        "mp_processing_time_ms",
        "event",
        "properties",
    ),
    *(
        ',"$insert_id":"y',
        '","$insert_id":"y',
        "x,",
        ',"',
        '"',
        "\\",
        '\\"',
        '"}}',
        '},"event":"X',
        "}",
        "{",
        "[",
        "]}",
        "",
    ),
    *('"time":1705328400,', "\u2028", "\u0000", "\n", "\r", "é", "漢", "😀", "a b", "$city", "\x7f", "/"),
]
texts = st.one_of(st.sampled_from(LOOKALIKES), st.lists(st.sampled_from(LOOKALIKES), max_size=3).map("".join))


def escaped(text: str) -> str:
    """Return a JSON string with every character escaped."""
    pairs = text.encode("utf-16-be").hex()
    return '"' + "".join(f"\\u{pairs[at : at + 4]}" for at in range(0, len(pairs), 4)) + '"'


def spellings(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from([json.dumps(text, ensure_ascii=False)] * 3 + [json.dumps(text), escaped(text)])


strings = texts.flatmap(spellings)
numbers = st.sampled_from(
    ["0", "-0", "1", "1.0", "1.50", "1e400", "-1E-7", str(2**70), "0.1", "1705328400", "100000000000000000000.5"]
)
scalars = st.one_of(strings, strings, numbers, st.sampled_from(["null", "true", "false", '""', "{}", "[]"]))
spaces = st.sampled_from([""] * 12 + [" ", "\t", "\r", "  "])


def containers(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.lists(st.tuples(strings, values).map(":".join), max_size=3)
    return st.one_of(
        st.lists(values, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        members.map(lambda pairs: f"{{{','.join(pairs)}}}"),
    )


values = st.recursive(scalars, containers, max_leaves=6)
times = st.one_of(
    st.integers(10**9, 4 * 10**9).map(str),
    st.integers(10**9, 4 * 10**9).map(lambda second: f"{second}000"),
    st.integers(10**12, 4 * 10**12).map(str),
    st.integers(10**9, 4 * 10**9).map(lambda second: f'"{second}"'),
    st.sampled_from(["1705328400.25", "0", "-1", "null", '"x"', "01705328400", "1667091600", "1648346400"]),
)
ids = st.one_of(st.sampled_from(['"u1"', '"i-2"']), strings, scalars)


@st.composite
def properties_texts(draw: st.DrawFn) -> str:
    """Properties, mostly with time and distinct_id first and the insert id anywhere."""
    own = [("time", draw(times)), ("distinct_id", draw(ids)), ("$insert_id", draw(ids))]
    others = [(draw(texts), draw(values)) for _ in range(draw(st.integers(0, 5)))]
    order = draw(st.sampled_from(["usual", "usual", "usual", "id first", "shuffled", "none", "twice"]))
    if order == "shuffled":
        members = draw(st.permutations(own + others))
    else:
        first = own[1::-1] if order == "id first" else own[:2]
        members = first + others
        for _ in range({"none": 0, "twice": 2}.get(order, 1)):
            members.insert(draw(st.integers(2, len(members))), own[2])
    if draw(st.integers(0, 9)) == 0:
        members.insert(draw(st.integers(0, len(members))), draw(st.sampled_from([*own, ("time", draw(times))])))
    spelled = st.sampled_from([json.dumps] * 15 + [escaped])
    space = draw(st.sampled_from([st.just("")] * 4 + [spaces]))
    text = ",".join(
        f"{draw(space)}{draw(spelled)(key)}{draw(space)}:{draw(space)}{value}{draw(space)}" for key, value in members
    )
    return f"{{{text}}}"


@st.composite
def event_lines(draw: st.DrawFn) -> bytes:
    event = f'"event":{draw(st.one_of(st.just(chr(34) + "A B" + chr(34)), strings))}'
    properties = f'"properties":{draw(properties_texts())}'
    members = [event, properties] if draw(st.integers(0, 3)) else [properties, event]
    if draw(st.integers(0, 9)) == 0:
        extra = draw(
            st.sampled_from(
                ['"dataset":"d"', '"labels":[{"a":1}]', event, '"event":null', '"properties":null', '"p":{}']
            )
        )
        members.insert(draw(st.integers(0, 2)), extra)
    space = draw(spaces)
    return f"{space}{{{','.join(members)}}}{draw(spaces)}".encode()


STRUCTURE = [
    b",",
    b":",
    b"{",
    b"}",
    b'"',
    b"[",
    b"]",
    b"\\",
    b" ",
    b"\r",
    b"\t",
    b"\x00",
    b"\xff",
    b"0",
    b"",
    b",,",
    b"}}",
]


@st.composite
def corrupted_lines(draw: st.DrawFn) -> bytes:
    """An event with a piece inserted, removed or doubled; mostly not a valid event."""
    line = draw(event_lines())
    for _ in range(draw(st.integers(1, 2))):
        start = draw(st.integers(0, len(line)))
        end = min(len(line), start + draw(st.integers(0, 3)))
        line = line[:start] + draw(st.sampled_from([*STRUCTURE, line[start:end] * 2])) + line[end:]
    return line
