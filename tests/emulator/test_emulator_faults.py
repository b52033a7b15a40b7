from __future__ import annotations

import json
import threading
import time
import zlib
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from http.client import BadStatusLine, IncompleteRead, RemoteDisconnected
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.emulator import FAULT_DESCRIPTIONS, Emulator, Fault, FixedProject, SyntheticProject
from tests.emulator.client import Answered, ask, engage, export

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = date(2024, 3, 1)
PROJECT = SyntheticProject(events_per_day=300, profiles=300)
WHOLE = b"".join(line + b"\n" for line in PROJECT.lines(DAY, DAY, now=datetime(2025, 1, 1, tzinfo=UTC)))
LINES = WHOLE.splitlines(keepends=True)

tested: set[str] = set()


def export_with_fault(name: str, at: float = 0.5, value: object = None, **more: object) -> Answered:
    tested.add(name)
    with Emulator(PROJECT, faults=[Fault("export", 1, name, at, value)]) as emulator:
        answer = export(emulator, DAY, **more)
        # The next request has no fault.
        assert export(emulator, DAY).text == WHOLE
    return answer


def is_well_formed(answer: Answered) -> bool:
    if answer.headers.get("content-encoding") != "gzip":
        return True
    unpacker = zlib.decompressobj(31)
    unpacker.decompress(answer.raw)
    return unpacker.eof and not unpacker.unused_data


# --- the text ---


@pytest.mark.parametrize("text", ["terminated early", "export terminated early", "[terminated early]"])
@pytest.mark.parametrize("at", [0, 0.5, 1])
def test_a_sentinel_ends_a_well_formed_body(text: str, at: float) -> None:
    """A sentinel is the last line, after complete lines, in a well-formed body."""
    answer = export_with_fault(f"sentinel:{text}", at)
    *lines, last = answer.text.splitlines(keepends=True)
    assert is_well_formed(answer)
    assert last == f"{text}\n".encode()
    assert lines == LINES[: len(lines)]
    assert len(lines) == {0: 0, 0.5: len(lines), 1: 300}[at]
    assert at != 0.5 or 100 < len(lines) < 200
    tested.add("sentinel:TEXT")


def test_an_error_line_is_truncated_json() -> None:
    """`error-line` ends a well-formed body with truncated JSON."""
    answer = export_with_fault("error-line")
    assert is_well_formed(answer)
    assert answer.text.endswith(b'}\n{"error":')


def test_an_error_object_is_the_last_line() -> None:
    """`error-object` ends the body with a line that is an error object."""
    answer = export_with_fault("error-object")
    assert "error" in json.loads(answer.text.splitlines()[-1])
    assert answer.text.endswith(b"\n")


@pytest.mark.parametrize("at", [0, 0.5, 1])
def test_half_a_line_ends_a_well_formed_body(at: float) -> None:
    """`half-line` ends a well-formed body within a line."""
    answer = export_with_fault("half-line", at)
    assert is_well_formed(answer)
    assert WHOLE.startswith(answer.text)
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.text[answer.text.rfind(b"\n") + 1 :])


def test_a_bad_line_is_between_valid_lines() -> None:
    """`bad-line` adds a line that is not JSON and keeps all others."""
    lines = export_with_fault("bad-line").text.splitlines(keepends=True)
    assert [line for line in lines if line in set(LINES)] == LINES
    assert [line for line in lines if not line.startswith(b"{")] == [b"this line is no JSON\n"]


def changed_line(name: str) -> bytes:
    lines = export_with_fault(name).text.splitlines(keepends=True)
    assert len(lines) == 300
    (odd,) = (line for line, right in zip(lines, LINES, strict=True) if line != right)
    return odd


def test_other_days_shifts_only_the_times() -> None:
    """`other-days` shifts times by 30 days, or by its value, and changes nothing else."""
    right = [json.loads(line) for line in LINES]
    for value, days in ((None, 30), ("2", 2)):
        moved = [json.loads(line) for line in export_with_fault("other-days", value=value).text.splitlines()]
        for event in moved:
            event["properties"]["time"] += days * 86_400
        assert moved == right


def test_bad_utf8_is_in_one_line() -> None:
    """`bad-utf8` makes one line invalid UTF-8."""
    with pytest.raises(UnicodeDecodeError):
        changed_line("bad-utf8").decode()


def test_a_nul_is_in_one_line() -> None:
    """`nul` adds a NUL to one line."""
    assert "\x00" in json.loads(changed_line("nul"))["properties"]["nul"]


def test_a_lone_surrogate_is_in_one_line() -> None:
    """`lone-surrogate` adds an unpaired surrogate to one line."""
    assert json.loads(changed_line("lone-surrogate"))["properties"]["surrogate"] == "a\ud800b"


def test_duplicate_keys_are_in_one_line() -> None:
    """`duplicate-keys` adds a duplicate key to one line."""
    line = changed_line("duplicate-keys")
    assert line.count(b'"twice":') == 2
    assert json.loads(line)["properties"]["twice"] == 2


def test_line_separators_are_in_one_line() -> None:
    """`line-separators` adds unescaped Unicode line separators to one line."""
    line = changed_line("line-separators")
    assert "\u2028b\u2029c\x85".encode() in line
    assert line.count(b"\n") == 1


def test_big_numbers_are_in_one_line() -> None:
    """`big-numbers` adds numbers beyond 64 bits and a double to one line."""
    assert b'"big":1180591620717411303424,"huge":1e400' in changed_line("big-numbers")


def test_time_null_is_in_one_line() -> None:
    """`time-null` sets the time of one line to null."""
    assert json.loads(changed_line("time-null"))["properties"]["time"] is None


def test_long_line_has_5_mb() -> None:
    """`long-line` adds a value of 5 MB to one line."""
    assert len(json.loads(changed_line("long-line"))["properties"]["long"]) == 5_000_000


def test_deep_line_has_a_million_levels() -> None:
    """`deep-line` adds a million nested lists to one line."""
    assert b"[" * 1_000_000 + b"]" * 1_000_000 in changed_line("deep-line")


def test_a_fault_keeps_empty_properties_valid() -> None:
    """A property added to empty properties keeps the line valid JSON."""
    with Emulator(
        FixedProject({DAY: [b'{"event":"a","properties":{}}']}), faults=[Fault("export", 1, "nul")]
    ) as emulator:
        assert export(emulator, DAY).json == {"event": "a", "properties": {"nul": "a\x00b"}}


def test_bom_is_at_the_start() -> None:
    """`bom` puts a byte order mark before the body."""
    assert export_with_fault("bom").text == b"\xef\xbb\xbf" + WHOLE


def test_crlf_ends_every_line() -> None:
    """`crlf` ends every line with CR LF."""
    assert export_with_fault("crlf").text == WHOLE.replace(b"\n", b"\r\n")


def test_blank_lines_are_between_the_lines() -> None:
    """`blank-lines` adds a blank line after every line."""
    assert export_with_fault("blank-lines").text == WHOLE.replace(b"\n", b"\n\n")


def test_no_final_newline_drops_only_the_newline() -> None:
    """`no-final-newline` drops only the last newline."""
    answer = export_with_fault("no-final-newline")
    assert is_well_formed(answer)
    assert answer.text == WHOLE[:-1]


def test_an_endless_line_has_no_newline() -> None:
    """`endless-line` ends the body with a line of the given size, without a newline."""
    text = export_with_fault("endless-line", value=300_000).text
    last = text[text.rfind(b"\n") + 1 :]
    assert 300_000 < len(last) < 300_100


def test_a_bomb_decompresses_to_its_size() -> None:
    """`bomb` is a small gzip body that decompresses to valid lines of the given size."""
    answer = export_with_fault("bomb", at=0, value=20_000_000)
    assert is_well_formed(answer)
    assert len(answer.raw) < 40_000
    assert 20_000_000 < len(answer.text) < 20_200_000
    assert {line[:1] for line in answer.text.splitlines()} == {b"{"}
    json.loads(answer.text.splitlines()[-1])


def test_page_html_is_a_200() -> None:
    """`page-html` is an HTML page with status 200."""
    answer = export_with_fault("page-html")
    assert answer.status == 200
    assert answer.text.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize("at", [0, 0.5, 1])
def test_cut_json_ends_within_a_line(at: float) -> None:
    """`cut-json` ends a well-formed body within a line, wherever it is placed."""
    answer = export_with_fault("cut-json", at)
    assert is_well_formed(answer)
    assert WHOLE.startswith(answer.text)
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.text[answer.text.rfind(b"\n") + 1 :])


def test_cut_json_never_ends_at_a_line_end() -> None:
    """`cut-json` never ends at the end of a line, at any place."""
    lines = [b'{"n":%d}' % number for number in range(3)]
    for at in range(101):
        fault = Fault("export", 1, "cut-json", at / 100)
        with Emulator(FixedProject({DAY: lines}), faults=[fault]) as emulator:
            text = export(emulator, DAY).text
        assert text
        with pytest.raises(json.JSONDecodeError):
            json.loads(text[text.rfind(b"\n") + 1 :])


@pytest.mark.parametrize("at", [0, 0.5, 1])
def test_short_body_ends_after_a_complete_line(at: float) -> None:
    """`short-body` ends a well-formed body early, after a complete line."""
    answer = export_with_fault("short-body", at)
    assert is_well_formed(answer)
    lines = answer.text.splitlines(keepends=True)
    assert lines == LINES[: len(lines)]
    assert len(lines) < 300


def test_empty_body_is_a_200() -> None:
    """`empty-body` is a 200 with Content-Length 0."""
    answer = export_with_fault("empty-body")
    assert (answer.status, answer.raw, answer.headers["content-length"]) == (200, b"", "0")


def test_content_type_changes_only_the_header() -> None:
    """`content-type` sends a wrong Content-Type with the complete body."""
    answer = export_with_fault("content-type")
    assert answer.headers["content-type"] == "text/html; charset=ISO-8859-1"
    assert answer.text == WHOLE


# --- gzip ---


def test_gzip_cut_has_valid_framing() -> None:
    """`gzip-cut` truncates the gzip data in a body whose chunks are complete."""
    answer = export_with_fault("gzip-cut")
    assert not is_well_formed(answer)
    # A client that does not check gzip's end only sees fewer lines.
    assert 0 < len(answer.text) < len(WHOLE)
    assert WHOLE.startswith(answer.text)


def test_gzip_trailer_has_a_wrong_checksum() -> None:
    """`gzip-trailer` sends a wrong checksum."""
    with pytest.raises(zlib.error, match="incorrect data check"):
        _ = export_with_fault("gzip-trailer").text


def test_gzip_no_trailer_has_all_data() -> None:
    """`gzip-no-trailer` sends all data without the gzip trailer."""
    answer = export_with_fault("gzip-no-trailer")
    assert not is_well_formed(answer)
    assert answer.text == WHOLE


def test_gzip_garbage_follows_the_trailer() -> None:
    """`gzip-garbage` adds bytes after the gzip trailer."""
    answer = export_with_fault("gzip-garbage")
    assert answer.text == WHOLE
    assert answer.raw.endswith(b"garbage after the end")


def test_encoding_is_not_gzip() -> None:
    """`encoding` sends a Content-Encoding that was not requested."""
    assert export_with_fault("encoding").headers["content-encoding"] == "br"


def test_gzip_faults_apply_to_small_bodies() -> None:
    """A gzip fault also applies to a body that would not be compressed."""
    with Emulator(FixedProject({DAY: [b"{}"]}), faults=[Fault("export", 1, "gzip-cut", 0.9)]) as emulator:
        assert not is_well_formed(export(emulator, DAY))


# --- the connection ---


def test_chunk_cut_ends_within_the_chunks() -> None:
    """`chunk-cut` closes the connection before the last chunk."""
    with pytest.raises(IncompleteRead):
        export_with_fault("chunk-cut")


def test_length_short_sends_less_than_the_length() -> None:
    """`length-short` sends fewer bytes than Content-Length."""
    with pytest.raises(IncompleteRead):
        export_with_fault("length-short", 1)


def test_no_framing_has_the_complete_body() -> None:
    """`no-framing` sends the complete body without length and chunks."""
    answer = export_with_fault("no-framing")
    assert answer.text == WHOLE
    assert not {"content-length", "transfer-encoding"} & set(answer.headers)


def test_faults_combine() -> None:
    """Two faults on the same request are combined."""
    faults = [Fault("export", 1, "no-framing"), Fault("export", 1, "half-line")]
    with Emulator(PROJECT, faults=faults) as emulator:
        answer = export(emulator, DAY)
    assert is_well_formed(answer)
    assert not answer.text.endswith(b"\n")
    assert "transfer-encoding" not in answer.headers


def test_reset_resets_the_connection() -> None:
    """`reset` resets the connection within the body."""
    with pytest.raises(ConnectionResetError):
        export_with_fault("reset")


def test_refuse_closes_before_any_header() -> None:
    """`refuse` closes the connection before the status line."""
    with pytest.raises(RemoteDisconnected):
        export_with_fault("refuse")


def test_no_http_is_not_http() -> None:
    """`no-http` sends bytes that are not HTTP."""
    with pytest.raises(BadStatusLine):
        export_with_fault("no-http")


def test_trickle_takes_its_time() -> None:
    """`trickle` sends the complete body over the given time."""
    begun = time.monotonic()
    assert export_with_fault("trickle", value=0.5).text == WHOLE
    assert time.monotonic() - begun > 0.5


def test_a_stall_pauses_and_continues() -> None:
    """`stall` pauses for the given time within the body and then continues."""
    begun = time.monotonic()
    assert export_with_fault("stall", value=0.3).text == WHOLE
    assert time.monotonic() - begun > 0.3


def test_a_stall_happens_once() -> None:
    """A stall at the end of a block pauses once."""
    begun = time.monotonic()
    with Emulator(FixedProject({DAY: [b"x" * 99] * 256}), faults=[Fault("export", 1, "stall", value=0.5)]) as emulator:
        plain = {"Accept-Encoding": "identity"}
        answer = ask(emulator, f"{emulator.data_api_url}/export", {"from_date": DAY, "to_date": DAY}, headers=plain)
    assert len(answer.raw) == 25_600
    assert 0.5 < time.monotonic() - begun < 1


@pytest.mark.parametrize("name", ["stall", "silence"])
def test_a_silent_connection_ends_with_the_emulator(name: str) -> None:
    """A silent connection lasts until the emulator is closed."""
    tested.add(name)
    before = threading.active_count()
    with Emulator(PROJECT, faults=[Fault("export", None, name)]) as emulator:
        url, query = f"{emulator.data_api_url}/export", {"from_date": DAY, "to_date": DAY}
        with pytest.raises(TimeoutError):
            ask(emulator, url, query, timeout=0.2)
        begun = time.monotonic()
    assert time.monotonic() - begun < 1
    assert threading.active_count() == before


def test_silence_delays_the_response() -> None:
    """`silence` with a value delays the complete response."""
    begun = time.monotonic()
    assert export_with_fault("silence", value="0.2").text == WHOLE
    assert time.monotonic() - begun > 0.2


# --- the status ---


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("status:400", "Invalid parameter"),
        ("status:400-auth", "Unable to authenticate request"),
        ("status:400-to-date", "to_date cannot be later than today"),
        ("status:400-timeout", "Timeout Error."),
        ("status:401", "Invalid credentials"),
        ("status:402", "Your plan does not allow API calls."),
        ("status:403", "No access"),
        ("status:403-history", "Date range exceeds 90 days into the past"),
        ("status:404", "Not found"),
        ("status:404-datagroup", "Missing Datagroup"),
        ("status:429", "61/60 queries running in the last hour"),
        ("status:429-concurrent", "too many export requests in progress for this project"),
        ("status:429-load", "Query rate limit exceeded for project_id: 2526451 For more information, "),
    ],
)
def test_each_status_has_mixpanels_text(name: str, text: str) -> None:
    """Each 4xx has Mixpanel's text and no Retry-After."""
    answer = export_with_fault(name)
    assert answer.status == int(name[7:10])
    assert text in answer.text.decode()
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("status:414", "text/html"),
        ("status:500", "text/plain"),
        ("status:502", "text/html"),
        ("status:503", "text/plain"),
        ("status:504", "text/html"),
    ],
)
def test_server_errors_are_not_json(name: str, kind: str) -> None:
    """414 and 5xx are HTML or plain text."""
    answer = export_with_fault(name)
    assert answer.status == int(name[7:])
    assert answer.headers["content-type"] == kind
    with pytest.raises(json.JSONDecodeError):
        _ = answer.json


def test_retry_after_has_two_formats() -> None:
    """Retry-After is in seconds or a date, as configured."""
    assert export_with_fault("status:429", value="seconds").headers["retry-after"] == "1"
    date_form = export_with_fault("status:429", value="date").headers["retry-after"]
    assert 0 < (parsedate_to_datetime(date_form) - datetime.now(UTC)).total_seconds() <= 3


def test_redirect_has_its_target() -> None:
    """`redirect` is a 302 with the given Location."""
    answer = export_with_fault("redirect", value="http://127.0.0.1:9/elsewhere")
    assert (answer.status, answer.headers["location"]) == (302, "http://127.0.0.1:9/elsewhere")


# --- engage ---


def page_with_fault(name: str, **more: object) -> Answered:
    tested.add(name)
    with Emulator(PROJECT, faults=[Fault("engage", 2, name)]) as emulator:
        session = engage(emulator, page_size=100).json["session_id"]
        return engage(emulator, page_size=100, page=1, session_id=session, **more)


def test_session_expired_is_a_400() -> None:
    """`session-expired` is a 400 for an uncached query."""
    answer = page_with_fault("session-expired")
    assert (answer.status, answer.error) == (400, "request for page in uncached query for params")


def test_short_page_has_the_full_total() -> None:
    """`short-page` has half of the results, with the page size and total of all."""
    page = page_with_fault("short-page").json
    assert (len(page["results"]), page["page_size"], page["total"]) == (50, 100, 300)


def test_bare_page_omits_the_session_keys() -> None:
    """`bare-page` has no page size, total and session id."""
    page = page_with_fault("bare-page").json
    assert page.keys() == {"page", "status", "results"}


def test_wrong_page_is_another_page() -> None:
    """`wrong-page` returns another page than requested."""
    page = page_with_fault("wrong-page").json
    assert (page["page"], len(page["results"])) == (2, 100)


def test_cut_json_of_a_page_is_well_formed() -> None:
    """`cut-json` truncates a page's JSON in a well-formed body."""
    answer = page_with_fault("cut-json")
    assert is_well_formed(answer)
    with pytest.raises(json.JSONDecodeError):
        _ = answer.json


def test_empty_object_is_an_empty_page() -> None:
    """`empty-object` returns an empty JSON object."""
    assert page_with_fault("empty-object").json == {}


def test_page_html_replaces_a_page() -> None:
    """`page-html` returns an HTML page instead of profiles."""
    assert page_with_fault("page-html").text.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("name", "error"),
    [("chunk-cut", IncompleteRead), ("length-short", IncompleteRead), ("reset", ConnectionResetError)],
)
def test_connection_faults_apply_to_profiles(name: str, error: type[Exception]) -> None:
    """Connection faults also apply to profiles."""
    with pytest.raises(error):
        page_with_fault(name)


# --- which request ---


@pytest.mark.parametrize(
    ("number", "statuses"),
    [(2, [200, 500, 200]), (None, [500, 500, 500]), ({1, 3}, [500, 200, 500]), ((2, 3), [200, 500, 500])],
)
def test_a_fault_applies_to_its_requests(number: int | set[int] | None, statuses: list[int]) -> None:
    """A fault applies only to the requests with its kind and numbers."""
    with Emulator(FixedProject(), faults=[Fault("export", number, "status:500")]) as emulator:
        assert [export(emulator, DAY).status for _ in range(3)] == statuses
        assert engage(emulator).status == 200
        assert [len(seen.faults) for seen in emulator.requests] == [*(status != 200 for status in statuses), 0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("export:3:gzip-cut", Fault("export", frozenset({3}), "gzip-cut")),
        ("export:*:sentinel:terminated early", Fault("export", None, "sentinel:terminated early")),
        ("engage:1,2:status:429=date", Fault("engage", frozenset({1, 2}), "status:429", value="date")),
        ("export:1:stall=2.5@0.3", Fault("export", frozenset({1}), "stall", 0.3, "2.5")),
        ("cohorts:1:redirect=http://a@b/?c=d", Fault("cohorts", frozenset({1}), "redirect", value="http://a@b/?c=d")),
    ],
)
def test_a_fault_is_read_from_the_command_line(text: str, fault: Fault) -> None:
    """A fault is parsed from its command-line form."""
    assert Fault.parse(text) == fault


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fault("exports", 1, "stall"),
        lambda: Fault("export", 1, "stal"),
        lambda: Fault("export", 1, "stall", at=2),
        lambda: Fault("export", 1, "redirect"),
        lambda: Fault("export", 1, "short-page"),
        lambda: Fault("engage", 1, "crlf"),
        lambda: Fault.parse("export"),
        lambda: Fault.parse("export:x:stall"),
        lambda: Fault.parse("export:1:stall@7"),
    ],
)
def test_an_invalid_fault_is_rejected(make: Callable[[], Fault]) -> None:
    """An unknown, incomplete or inapplicable fault is rejected."""
    with pytest.raises(ValueError, match=r"."):
        make()


def test_every_fault_is_tested_here(request: pytest.FixtureRequest) -> None:
    """Every fault of the emulator is used by a test in this file."""
    if request.config.getoption("keyword") or len(request.session.items) < len(FAULT_DESCRIPTIONS):
        pytest.skip("only when the whole file runs")
    missing = set(FAULT_DESCRIPTIONS) - tested
    assert sorted(missing) == []
