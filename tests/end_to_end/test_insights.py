"""Saved Insights reports, read from the emulator by the installed command."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject
from tests.harness import Run, catalog_of, run_tap

# The report in Mixpanel's documentation.
LOGINS = {
    "computed_at": "2020-09-21T16:35:41.252314+00:00",
    "date_range": {"from_date": "2020-08-31T00:00:00-07:00", "to_date": "2020-09-12T23:59:59.999000-07:00"},
    "headers": ["$event"],
    "series": {
        "Logged in": {"2020-08-31T00:00:00-07:00": 9852, "2020-09-07T00:00:00-07:00": 4325},
        "Viewed page": {"2020-08-31T00:00:00-07:00": 10246},
    },
}


@cache
def catalog() -> dict[str, Any]:
    return catalog_of("insights")


def reports(*numbers: int) -> dict[str, Any]:
    return {"insights_reports": [{"name": f"Report {number}", "bookmark_id": number} for number in numbers]}


def read(*answers: dict[str, Any], **more: Any) -> Run:
    """Run with reports that have these responses, numbered from 1."""
    numbered = dict(enumerate(answers, 1))
    with Emulator(FixedProject(insights=numbered), faults=more.pop("faults", ())) as emulator:
        return run_tap(emulator.settings | reports(*numbered) | more, catalog=catalog())


def cells(run: Run) -> list[tuple[Any, ...]]:
    names = ("report_id", "date", "dimensions", "value")
    return [tuple(record[name] for name in names) for record in run.records("insights")]


def test_each_cell_of_a_report_is_a_record() -> None:
    """The nested series become records with a date, the segments by header, and a key."""
    run = read(LOGINS).well()
    first = run.records("insights")[0]
    assert len(first.pop("cell_id")) == 32
    assert first == {
        "report_id": 1,
        "report_name": "Report 1",
        "date": "2020-08-31T00:00:00-07:00",
        "dimensions": {"$event": "Logged in"},
        "value": 9852,
        "other": {},
    }
    assert cells(run)[1:] == [
        (1, "2020-09-07T00:00:00-07:00", {"$event": "Logged in"}, 4325),
        (1, "2020-08-31T00:00:00-07:00", {"$event": "Viewed page"}, 10246),
    ]


@pytest.mark.parametrize(
    ("headers", "series", "expected"),
    [
        (
            ["$metric", "$city"],
            {"Visits": {"$overall": {"2024-01-01": 3}, "Zürich": {"2024-01-01": 1.5}}},
            [
                ("2024-01-01", {"$metric": "Visits", "$city": "$overall"}, 3),
                ("2024-01-01", {"$metric": "Visits", "$city": "Zürich"}, 1.5),
            ],
        ),
        (["$metric"], {"Visits": {"all": 7}}, [(None, {"$metric": "Visits"}, 7)]),
        (["$metric"], {"Visits": 7}, [(None, {"$metric": "Visits"}, 7)]),
        # A segment that looks like a date, or is named "all".
        (["day"], {"2024-01-01": 7}, [(None, {"day": "2024-01-01"}, 7)]),
        (["who"], {"all": 7}, [(None, {"who": "all"}, 7)]),
        # Levels without a header of their own.
        (["a"], {"x": {"y": {"2024-01-01": 7}}}, [("2024-01-01", {"a": "x", "level_2": "y"}, 7)]),
        (["a", "a"], {"x": {"y": {"all": 7}}}, [(None, {"a": "x", "level_2": "y"}, 7)]),
        (["a"], {"x": {"2024-01-01T05:00:00-08:00": None}}, [("2024-01-01T05:00:00-08:00", {"a": "x"}, None)]),
        (["a"], {}, []),
        (["a"], {"x": {}}, []),
    ],
)
def test_series_of_any_depth_are_flattened(headers: list[str], series: Any, expected: list[Any]) -> None:
    """Each number has its date, if any, and all segments that lead to it."""
    run = read({"headers": headers, "series": series}).well()
    assert cells(run) == [(1, *cell) for cell in expected]


def test_a_cell_keeps_its_key() -> None:
    """The key depends only on date and dimensions, so a new number updates the record."""
    before = {record["cell_id"] for record in read(LOGINS).records("insights")}
    changed = {
        **LOGINS,
        "series": {name: dict.fromkeys(days, 1) for name, days in reversed(LOGINS["series"].items())},  # type: ignore[attr-defined]
    }
    after = {record["cell_id"] for record in read(changed).records("insights")}
    assert before == after
    assert len(before) == 3


def test_a_value_that_is_not_a_number_goes_to_other() -> None:
    """A value that is not a number is null in its column and kept under `other`."""
    run = read({"headers": ["a"], "series": {"x": {"all": [1, 2]}, "y": {"all": "n/a"}}}).well()
    assert [(record["value"], record["other"]) for record in run.records("insights")] == [
        (None, {"value": [1, 2]}),
        (None, {"value": "n/a"}),
    ]


@pytest.mark.parametrize("status", ["status:400", "status:403", "status:404"])
def test_a_rejected_report_is_skipped(status: str) -> None:
    """A report that Mixpanel rejects while it returns others is skipped with a warning."""
    for number, others in ((1, [2, 3]), (3, [1, 2])):
        run = read(LOGINS, LOGINS, LOGINS, faults=[Fault("insights", number, status)]).well()
        assert sorted({record["report_id"] for record in run.records("insights")}) == others
        [problem] = run.problems
        assert f"insights, report {number}: HTTP {status[-3:]}" in problem
        assert problem.endswith("Skipping this report")


def test_only_rejected_reports_fail_the_stream() -> None:
    """If Mixpanel rejects every report, the stream fails and names the setting."""
    with Emulator(FixedProject()) as emulator:
        run = run_tap(emulator.settings | reports(77), catalog=catalog())
    assert run.exit_code == 1
    [error] = run.errors
    assert error.startswith("insights, report 77: HTTP 400")
    assert "insights_reports" in error


@pytest.mark.parametrize("statuses", [("403",), ("403", "404"), ("404", "403"), ("404-datagroup",)])
def test_private_and_deleted_reports_fail_the_stream(statuses: tuple[str, ...]) -> None:
    """If every report is private or deleted, the stream fails, in any order."""
    faults = [Fault("insights", number, f"status:{status}") for number, status in enumerate(statuses, 1)]
    run = read(*[LOGINS] * len(statuses), faults=faults)
    assert run.exit_code == 1
    [error] = run.errors
    assert error.startswith(f"insights, report 1: HTTP {statuses[0][:3]}")
    assert "without access" not in run.stderr[-1]


@pytest.mark.parametrize("name", ["cut-json", "empty-body", "empty-object", "gzip-cut", "page-html", "status:503"])
def test_a_malformed_report_fails_the_stream(name: str) -> None:
    """A malformed report fails the stream after the others are read."""
    run = read(LOGINS, LOGINS, LOGINS, faults=[Fault("insights", 2, name)], max_retries=0)
    assert run.exit_code == 1
    [error] = run.errors
    assert error.startswith("insights, report 2: ")
    assert sorted({record["report_id"] for record in run.records("insights")}) == [1, 3]


def test_no_reports_are_a_warning() -> None:
    """Without `insights_reports` the stream is empty with a warning, and nothing is requested."""
    with Emulator(FixedProject()) as emulator:
        run = run_tap(emulator.settings, catalog=catalog()).well()
        assert emulator.requests == []
    [problem] = run.problems
    assert problem.endswith("insights_reports is not set: there is no report to read")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (reports(1, 2, 1), "insights_reports: bookmark_id 1 is listed twice"),
        ({"insights_reports": [{"name": "x"}]}, "insights_reports"),
        ({"insights_reports": [{"name": "x", "bookmark_id": "12"}]}, "insights_reports"),
        ({"insights_reports": [{"name": "x", "bookmark_id": 1, "title": ""}]}, "insights_reports"),
    ],
)
def test_an_invalid_report_setting_is_rejected(setting: dict[str, Any], words: str) -> None:
    """Invalid reports are rejected before any request."""
    with Emulator(FixedProject()) as emulator:
        run = run_tap(emulator.settings | setting, catalog=catalog())
        assert emulator.requests == []
    assert run.exit_code == 1
    assert words in run.errors[0]
