from __future__ import annotations

import json

from hypothesis import given, strategies as st

from tap_mixpanel_stream.surrogates import masked, unmasked

PIECES = ["a", "\x7f", r"\ud83d", r"\ude00", r"\\", r"\"", r"\n", "ud83d", r"\u0041", "\x7fhalf-0\x7f", r"\uD83D\uDE00"]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_what_was_masked_comes_back_as_it_was_and_what_is_masked_has_no_half_pair(inner: str) -> None:
    text = f'"{inner}"'.encode()
    has_half = any(0xD800 <= ord(character) < 0xE000 for character in json.loads(text))
    result = masked(text)
    assert (result is not None) == has_half
    if result is not None:
        marked, mark = result
        json.loads(marked).encode()  # fails where half a pair is left
        assert unmasked(marked, mark) == text
