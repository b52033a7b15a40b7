from __future__ import annotations

import logging
import pickle

import pytest
from hypothesis import given, strategies as st

from tap_mixpanel_stream.records import BadBody, BadLine, BadProfile, LineTooLong, TruncatedBody

ERRORS = [
    BadLine(3, "not JSON", b"\x00\x1b[31m\r\n\xff\xe2\x80\xa8" + b"x" * 500, is_json=False),
    TruncatedBody(7, b"terminated\nearly"),
    LineTooLong(99),
    BadProfile(0, "nothing", b'{"a":\n1}'),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_record_errors_can_be_pickled(error: BadBody) -> None:
    """A record error keeps its type, attributes and message when it is pickled."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert str(again) == str(error)


@given(st.binary())
def test_a_record_error_is_one_printable_line(line: bytes) -> None:
    """The message for any bytes is one printable line of limited length."""
    for error in (BadLine(1, "not JSON", line, is_json=True), TruncatedBody(1, line), BadProfile(1, "x", line)):
        assert str(error).isprintable()
        assert len(str(error)) < 600


def test_a_record_error_has_place_and_reason(caplog: pytest.LogCaptureFixture) -> None:
    """Line content is shown only with LOGLEVEL=DEBUG; Mixpanel's own text always."""
    error = BadLine(3, "`event` is missing", b'{"a":1}', is_json=True)
    assert str(error) == ("malformed line 3: `event` is missing: 7 bytes; LOGLEVEL=DEBUG shows the beginning")
    with caplog.at_level(logging.DEBUG):
        assert str(error) == "malformed line 3: `event` is missing: '{\"a\":1}'"
    assert "distinct" not in str(TruncatedBody(7, b'{"event":"A","properties":{"distinct_id":"x'))
    assert str(TruncatedBody(7, b"x" * 100)) == f"the response was truncated at line 7: '{'x' * 80}'… (100 bytes)"
