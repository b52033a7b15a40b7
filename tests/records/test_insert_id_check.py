"""The check for insert ids that many users share."""

from __future__ import annotations

import json

import pytest

from tap_mixpanel_stream.records.insert_id_check import InsertIdCheck


def event(insert_id: object, distinct_id: object) -> bytes:
    properties = {"time": 1, "$insert_id": insert_id, "distinct_id": distinct_id}
    return json.dumps({"event": "A", "properties": properties}).encode()


def report(*samples: list[bytes]) -> str | None:
    """Return the report of a check after samples, one for each window."""
    check = InsertIdCheck()
    for sample in samples:
        check.add(sample)
        if found := check.report():
            return found
    return None


def test_a_constant_id_is_reported_with_numbers() -> None:
    """The report has the events with shared ids, the events sampled and the users of one id."""
    found = report(
        [event("x", f"u{number}") for number in range(10)] + [event(str(number), "u") for number in range(5)]
    )
    assert found is not None
    assert found.startswith("10 of 15 sampled events have an $insert_id")
    assert "up to 10 users with one id" in found


def test_ids_are_compared_across_windows() -> None:
    """An id that occurs once in each window is found."""
    windows = [[event("x", f"u{number}"), event(f"i{number}", "u")] for number in range(10)]
    assert report(*windows[:9]) is None
    assert report(*windows) is not None


@pytest.mark.parametrize(
    "sample",
    [
        [event(f"i{number}", f"u{number % 7}") for number in range(100)],
        [event("x", "u")] * 100,
        [event("x", "u1"), event("x", "u2")] * 50,
        [event("x", f"u{number}") for number in range(9)],
        [event(None, f"u{number}") for number in range(100)],
        [event("", f"u{number}") for number in range(100)],
        [b"", b"[]", b"{", b'{"event":"A"}', b"\xff", b'{"properties":null}', b"[" * 100_000],
    ],
)
def test_unshared_ids_are_not_reported(sample: list[bytes]) -> None:
    """Ids of one user, of a merged pair or of few events, absent ids and malformed lines are fine."""
    assert report(sample) is None


def test_shared_ids_are_reported_once() -> None:
    """After its report the check ignores further samples."""
    check = InsertIdCheck()
    sample = [event("x", f"u{number}") for number in range(20)]
    check.add(sample)
    assert check.report()
    check.add(sample)
    assert check.report() is None


def test_remembered_ids_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first ids are remembered; they are counted in later samples too."""
    monkeypatch.setattr("tap_mixpanel_stream.records.insert_id_check._MAX_IDS", 2)
    ids = ["a", "b", *["late"] * 30]
    assert report([event(name, f"u{number}") for number, name in enumerate(ids)]) is None
    assert report([event(name, f"u{number}") for number, name in enumerate([*ids, *["b"] * 9])]) is not None
