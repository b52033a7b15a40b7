from __future__ import annotations

from datetime import date

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject, Project, SyntheticProject
from tests.emulator.client import Answered, ask

FIXED = FixedProject(
    cohorts=[{"id": 5, "name": "Some", "count": 2, "members": ["a", "b"]}],
    annotations=[
        {"id": 1, "date": "2024-01-01 12:00:00", "description": "one"},
        {"id": 2, "date": "2024-02-01T12:00:00+01:00", "description": "two", "tags": [{"id": 7, "name": "release"}]},
    ],
    funnels=[{"funnel_id": 7, "name": "Signup", "days": {"2024-01-01": {"steps": [1]}, "2024-01-03": {"steps": [2]}}}],
)


def cohorts(project: Project, form: dict[str, str] | None = None) -> Answered:
    with Emulator(project) as emulator:
        return ask(emulator, f"{emulator.api_url}/query/cohorts/list", form=form)


def annotations_between(**query: str) -> list[int]:
    with Emulator(FIXED) as emulator:
        answer = ask(emulator, f"{emulator.api_url}/app/projects/2526451/annotations", query).json
    assert answer["status"] == "ok"
    return [each["id"] for each in answer["results"]]


def funnels(project: Project, path: str = "funnels", **query: str) -> Answered:
    with Emulator(project) as emulator:
        return ask(emulator, f"{emulator.api_url}/query/{path}", query)


def test_the_cohort_list_has_no_members() -> None:
    """The list of cohorts has the project's id and no members, by GET and POST."""
    assert cohorts(FIXED).json == [{"project_id": 2526451, "id": 5, "name": "Some", "count": 2}]
    assert cohorts(FIXED, form={}).json == cohorts(FIXED).json


def test_synthetic_cohorts_count_their_members() -> None:
    """`count` of a synthetic cohort is the number of its members."""
    project = SyntheticProject(profiles=300)
    for cohort in cohorts(project).json:
        assert cohort["count"] == len(project.cohort_members(cohort["id"]) or ())
    assert project.cohort_members(1) is None


def test_annotations_are_filtered_by_date() -> None:
    """`fromDate` and `toDate` filter annotations, both inclusive."""
    assert annotations_between() == [1, 2]
    assert annotations_between(fromDate="2024-01-01", toDate="2024-01-01") == [1]
    assert annotations_between(fromDate="2024-01-02", toDate="2024-02-01") == [2]
    assert annotations_between(fromDate="2024-01-01T12:00:00", toDate="2024-02-01 11:59:59") == [1]


def test_annotation_dates_have_an_offset() -> None:
    """A synthetic annotation has the project's offset in its date, and `tags` only if it has any."""
    with Emulator(SyntheticProject(zone="America/New_York")) as emulator:
        answer = ask(emulator, f"{emulator.api_url}/app/projects/2526451/annotations").json
    assert {"id", "project_id", "date", "description", "user"} == set(answer["results"][0])
    assert answer["results"][1]["tags"] == [{"id": 1, "name": "release"}]
    assert answer["results"][0]["date"] == "2024-01-01T12:00:00-05:00"


def test_annotation_tags_are_listed() -> None:
    """The app API lists the tags of annotations under `annotations/tags`."""
    with Emulator(FIXED) as emulator:
        answer = ask(emulator, f"{emulator.api_url}/app/projects/2526451/annotations/tags").json
    assert answer == [{"id": 7, "name": "release", "project_id": 2526451, "has_annotations": True}]


def test_funnels_are_listed() -> None:
    """The list of funnels has ids and names."""
    assert funnels(FIXED, "funnels/list").json == [{"funnel_id": 7, "name": "Signup"}]


@pytest.mark.parametrize("overall", [False, True])
def test_a_funnel_has_overall_if_configured(overall: bool) -> None:
    """A funnel response has its days, and `$overall` only if the emulator is configured so."""
    days = {"funnel_id": "7", "from_date": "2024-01-01", "to_date": "2024-01-02", "unit": "day"}
    with Emulator(FIXED, funnel_overall=overall) as emulator:
        answer = ask(emulator, f"{emulator.api_url}/query/funnels", days).json
    assert set(answer["data"]) == {"2024-01-01"} | ({"$overall"} if overall else set())
    assert answer["data"]["2024-01-01"] == {"steps": [1]}
    assert answer["meta"]["dates"] == ["2024-01-01"]


def test_a_synthetic_step_has_all_keys() -> None:
    """A step has the ten keys that Mixpanel sends."""
    answer = funnels(SyntheticProject(), funnel_id="7509", from_date="2024-01-01", to_date="2024-01-01").json
    for step in answer["data"]["2024-01-01"]["steps"]:
        keys = "count goal step_label event custom_event custom_event_id avg_time avg_time_from_start"
        assert list(step) == [*keys.split(), "step_conv_ratio", "overall_conv_ratio"]


def test_a_synthetic_funnel_is_reproducible() -> None:
    """A synthetic funnel has every day of the project and is the same each time."""
    project = SyntheticProject(last_day=date(2024, 1, 5))
    answers = [funnels(project, funnel_id="7509", from_date="2023-12-30", to_date="2024-02-01").json for _ in range(2)]
    assert answers[0] == answers[1]
    assert [*answers[0]["data"]] == [f"2024-01-0{day}" for day in range(1, 6)]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"funnel_id": "8", "from_date": "2024-01-01", "to_date": "2024-01-01"}, "funnel_id"),
        ({"funnel_id": "7", "to_date": "2024-01-01"}, "from_date"),
        ({"funnel_id": "7", "from_date": "2024-01-01", "to_date": "2024-01-01", "unit": "eon"}, "unit"),
    ],
)
def test_an_invalid_funnel_parameter_is_rejected(query: dict[str, str], text: str) -> None:
    """A missing or invalid parameter gets a 400 that names it."""
    answer = funnels(FIXED, **query)
    assert answer.status == 400
    assert text in answer.error
