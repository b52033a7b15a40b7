"""Secrets are sent only to Mixpanel: no log, message, state or error contains them."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Credentials, Emulator, Fault, FixedProject, SyntheticProject
from tap_mixpanel_stream.logging_filters import mask_secrets
from tap_mixpanel_stream.mixpanel.auth import ServiceAccount
from tests.harness import Run, run_tap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CREDENTIALS = Credentials(
    secret="very-s3cret-service", oauth_token="very-s3cret-token", project_secret="very-s3cret-project"
)
WAYS: dict[str, dict[str, str]] = {
    "service account": {
        "service_account_username": CREDENTIALS.username,
        "service_account_secret": CREDENTIALS.secret,
        "project_id": CREDENTIALS.project_id,
    },
    "token": {"oauth_token": CREDENTIALS.oauth_token, "project_id": CREDENTIALS.project_id},
    "project secret": {"api_secret": CREDENTIALS.project_secret},
}
SHOWN_NOWHERE = [
    secret
    for plain in (CREDENTIALS.secret, CREDENTIALS.oauth_token, CREDENTIALS.project_secret)
    for secret in (
        plain,
        base64.b64encode(f"{plain}:".encode()).decode().rstrip("="),
        base64.b64encode(f"{CREDENTIALS.username}:{plain}".encode()).decode().rstrip("="),
    )
]
BASE = {"start_date": "2024-01-01", "end_date": "2024-01-02", "max_retries": 0, "request_timeout": 2}
LOUD = {"LOGLEVEL": "DEBUG"}
# Settings and options that write records by another route.
MODES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "plain": ({}, []),
    "raw": ({"raw": True}, []),
    "mapped": ({"stream_maps": {"events": {"event_name": "event_name"}}}, []),
    "flattened": ({"flattening_enabled": True, "flattening_max_depth": 1}, []),
    "batches": ({}, []),
    "environment": ({}, []),
    "--test": ({}, ["--test"]),
}
STRUCTURED = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"structured": {"()": "singer_sdk.logging.StructuredFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
    "root": {"level": "DEBUG", "handlers": ["stderr"]},
}
# Handlers of named loggers only, which do not propagate to the root logger.
NAMED = STRUCTURED | {
    "loggers": {
        name: {"level": "DEBUG", "handlers": ["stderr"], "propagate": False}
        for name in ("tap-mixpanel-stream", "tap_mixpanel_stream", "urllib3")
    },
    "root": {"level": "DEBUG", "handlers": []},
}
FAULTS = [
    "status:401",
    "status:400-auth",
    "status:500",
    "gzip-cut",
    "redirect",
    "refuse",
    "bad-line",
    "page-html",
]


def urls(emulator: Emulator) -> dict[str, str]:
    return {name: emulator.settings[name] for name in ("data_api_url", "api_url")}


def assert_no_secret(run: Run) -> None:
    output = run.stdout.decode() + "\n".join(run.stderr)
    assert [secret for secret in SHOWN_NOWHERE if secret in output] == []


def small_project() -> SyntheticProject:
    return SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 2), events_per_day=20, profiles=5)


@pytest.mark.parametrize("fault", FAULTS)
def test_no_secret_is_logged_at_debug_level(fault: str) -> None:
    """No fault makes the debug log show a secret."""
    faults = [Fault(kind, None, fault, value="http://127.0.0.1:9/") for kind in ("export", "engage")]
    with Emulator(small_project(), faults=faults, credentials=CREDENTIALS) as emulator:
        run = run_tap(urls(emulator) | WAYS["service account"] | BASE, environment=LOUD)
    assert run.exit_code == 1
    assert_no_secret(run)


@pytest.mark.parametrize("log_config", [None, STRUCTURED, NAMED])
@pytest.mark.parametrize(
    "repeated",
    [
        CREDENTIALS.secret,
        base64.b64encode(f"{CREDENTIALS.username}:{CREDENTIALS.secret}".encode()).decode(),
        "x" * 50 + base64.b64encode(f"{CREDENTIALS.username}:{CREDENTIALS.secret}".encode()).decode(),
    ],
)
def test_no_secret_is_logged_from_a_200_body(repeated: str, log_config: dict[str, Any] | None, tmp_path: Path) -> None:
    """A secret echoed in a 200 body is masked, with any log configuration."""
    line = f'{{"error":"{repeated}"}}'.encode()
    loud = dict(LOUD)
    if log_config:
        (tmp_path / "log.json").write_text(json.dumps(log_config))
        loud["SINGER_SDK_LOG_CONFIG"] = str(tmp_path / "log.json")
    project = FixedProject({dt.date(2024, 1, 1): [line]})
    settings = WAYS["service account"] | BASE | {"max_retries": 1}
    with Emulator(project, credentials=CREDENTIALS) as emulator:
        run = run_tap(urls(emulator) | settings, environment=loud)
        doctor = run_tap(urls(emulator) | settings, "--doctor", environment=loud)
    assert any("truncated" in line and "***" in line for line in run.stderr)
    for each in (run, doctor):
        assert each.exit_code == 1
        assert repeated.lstrip("x")[:12] not in each.stdout.decode() + "\n".join(each.stderr)


FORMS = {
    "as it is": 'se/cr"et+ü<x',
    "in another case": 'SE/CR"ET+Ü<X',
    "quoted": "se%2Fcr%22et%2B%C3%BC%3Cx",
    "quoted in lower case": "se%2fcr%22et%2b%c3%bc%3cx",
    "quoted except for the slash": "se/cr%22et%2B%C3%BC%3Cx",
    "as JSON": 'se/cr\\"et+\\u00fc<x',
    "as HTML": "se/cr&quot;et+ü&lt;x",
    "in base64": base64.b64encode('se/cr"et+ü<x'.encode()).decode(),
    "in the header": base64.b64encode('somebody:se/cr"et+ü<x'.encode()).decode(),
    "the user name": "somebody",
    "a proxy's password": "pr0xy p/w",
    "a proxy's password in its address": "pr0xy%20p%2Fw",
    "a proxy's header": base64.b64encode(b"user:pr0xy p/w").decode(),
}


@pytest.fixture
def handler() -> Iterator[logging.StreamHandler[io.StringIO]]:
    """Yield a handler of a named logger that does not propagate, as a log configuration can set up."""
    logger = logging.getLogger("tests.named")
    handler = logging.StreamHandler(io.StringIO())
    logger.addHandler(handler)
    logger.propagate = False
    yield handler
    logger.removeHandler(handler)
    logger.propagate = True


def fail(message: str) -> None:
    raise LookupError(message)


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_masked_in_every_form(
    form: str, handler: logging.StreamHandler[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret is masked in messages and exceptions, and the text around it is kept."""
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pr0xy%20p%2Fw@127.0.0.1:9")
    mask_secrets(ServiceAccount("somebody", 'se/cr"et+ü<x', "1").secrets)
    logger = logging.getLogger("tests.named")
    logger.warning("before %s after", FORMS[form])
    try:
        fail(FORMS[form])
    except LookupError:
        logger.warning("it failed", exc_info=True)
    output = handler.stream.getvalue()
    assert output.startswith("before *** after\nit failed\nTraceback")
    assert output.endswith("LookupError: ***\n")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_no_secret_is_shown_in_any_mode(way: str, mode: str, tmp_path: Path) -> None:
    """No route writes a secret to stdout, stderr or batch files."""
    storage = {"encoding": {"format": "jsonl", "compression": "none"}, "storage": {"root": tmp_path.as_uri()}}
    extra, options = MODES[mode]
    settings = WAYS[way] | BASE | extra | ({"batch_config": storage} if mode == "batches" else {})
    with Emulator(small_project(), credentials=CREDENTIALS) as emulator:
        if mode == "environment":
            given = {f"TAP_MIXPANEL_STREAM_{name.upper()}": str(value) for name, value in settings.items()}
            run = run_tap(urls(emulator), "--config=ENV", environment=LOUD | given).well()
        else:
            run = run_tap(urls(emulator) | settings, *options, environment=LOUD).well()
        assert len(emulator.requests) >= 2
    assert_no_secret(run)
    files = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert bool(files) == (mode == "batches")
    assert [secret for secret in SHOWN_NOWHERE if secret.encode() in files] == []


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("mode", ["plain", "mapped", "--test"])
def test_no_secret_is_in_a_traceback(mode: str, tmp_path: Path, *, structured: bool) -> None:
    """An unexpected error in the HTTP layer is logged with its place and without secrets."""
    (tmp_path / "sitecustomize.py").write_text(
        "import requests\n"
        "def send(self, request, **options):\n"
        "    assert request.headers['Authorization']\n"
        "    try:\n"
        "        request.nothing\n"
        "    except AttributeError as error:\n"
        "        raise LookupError('a mistake', request.headers['Authorization']) from error\n"
        "requests.Session.send = send\n"
    )
    loud = LOUD | {"PYTHONPATH": str(tmp_path)}
    if structured:
        (tmp_path / "log.json").write_text(json.dumps(STRUCTURED))
        loud["SINGER_SDK_LOG_CONFIG"] = str(tmp_path / "log.json")
    extra, options = MODES[mode]
    with Emulator(small_project(), credentials=CREDENTIALS) as emulator:
        run = run_tap(urls(emulator) | WAYS["service account"] | BASE | extra, *options, environment=loud)
    output = "\n".join(run.stderr)
    assert run.exit_code == 1
    assert re.search(r"unexpected LookupError: \(.{1,2}a mistake.*Basic \*\*\*", output)
    assert "in send" in output or '"function":"send"' in output, "the log has the place"
    assert_no_secret(run)


@pytest.mark.parametrize("way", WAYS)
def test_a_rejected_secret_is_not_shown(way: str) -> None:
    """Rejected credentials are one error, are not retried and not shown."""
    with Emulator(SyntheticProject()) as emulator:
        run = run_tap(urls(emulator) | WAYS[way] | BASE, environment=LOUD)
        requested = len(emulator.requests)
    assert run.exit_code == 1
    assert requested <= 2, "rejected credentials are not retried"
    assert len(run.errors) == 1
    assert "credentials were rejected" in run.errors[0]
    assert_no_secret(run)


def test_credentials_do_not_follow_a_redirect() -> None:
    """The target of a redirect gets no request."""
    with Emulator(SyntheticProject()) as elsewhere:
        redirect = Fault("export", None, "redirect", value=f"{elsewhere.data_api_url}/export")
        with Emulator(SyntheticProject(), faults=[redirect], credentials=CREDENTIALS) as emulator:
            run = run_tap(emulator.settings | BASE)
        assert elsewhere.requests == []
    assert run.exit_code == 1
    assert "the tap sends credentials to no other host" in run.errors[0]


@pytest.mark.parametrize("option", [["--about"], ["--about", "--format=json"], ["--discover"]])
def test_about_and_discovery_show_no_secret(option: list[str]) -> None:
    """--about and --discover show no secret."""
    settings: dict[str, Any] = WAYS["service account"] | BASE
    assert_no_secret(run_tap(settings, *option, environment=LOUD))
