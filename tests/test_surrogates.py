from __future__ import annotations

import json

from hypothesis import given, strategies as st

from tap_mixpanel_stream.surrogates import mask, unmask

PIECES = ["a", "\x7f", r"\ud83d", r"\ude00", r"\\", r"\"", r"\n", "ud83d", r"\u0041", "\x7fhalf-0\x7f", r"\uD83D\uDE00"]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_masked_text_is_valid_and_can_be_unmasked(inner: str) -> None:
    """Masking removes all unpaired surrogates, and unmasking restores the text."""
    text = f'"{inner}"'.encode()
    has_half = any(0xD800 <= ord(character) < 0xE000 for character in json.loads(text))
    result = mask(text)
    assert (result is not None) == has_half
    if result is not None:
        marked, marker = result
        json.loads(marked).encode()  # raises an error if an unpaired surrogate is left
        assert unmask(marked, marker) == text
