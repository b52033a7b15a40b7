"""The local Mixpanel: its routes over HTTP, on the loopback interface only."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections import Counter, OrderedDict
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from .body_faults import HTML
from .credentials import Credentials
from .engage_endpoint import SESSION_EXPIRED, Engage, Paging, without_fields
from .error_responses import JSON, Refusal, not_authenticated
from .export_endpoint import Export, read_day
from .incoming_request import UNKNOWN, SeenRequest, find_endpoint, read_body, read_url
from .plan import Plan
from .rate_limits import Account, LexiconAccount, Quota, retry_after
from .report_endpoints import event_counts, event_names, insights_report, lexicon
from .response_writer import EncodedBody, HungUpError, Response, ResponseWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from .faults import Fault
    from .project import Project
    from .rate_limits import Headers

_LARGEST_QUESTION = 16 << 20


class Emulator:
    """A Mixpanel with one project, on 127.0.0.1.

    A context manager: it serves from entering to leaving. Leaving ends every connection, also one that is silent.

    Args:
        project: What the project holds.
        faults: What goes wrong, and when. Several may strike one request.
        quota: Mixpanel's limits; None for none.
        plan: What the project's plan includes; everything by default.
        now: The clock, giving aware UTC; None for the real one. It decides what "today" is and which rows are visible.
        credentials: Who may ask.
        session_seconds: How long an engage session lives after its last use.
        largest_page: The largest page that engage gives; a larger wish is lowered without a word but `page_size`.
        data_views: By `workspace_id`, the expression that a profile must match to be seen through that data view.
        funnel_overall: Whether a funnel's response has `$overall`, the sum of its days.
        paging: How the pages of engage differ from the documented ones.
        level: The gzip level.
        cache_bytes: How many bytes of compressed exports to keep for identical requests, as benchmarks make: such a
            body is sent again as it was, whatever has become visible since.
        port: The port; 0 for any free one.
    """

    def __init__(
        self,
        project: Project,
        *,
        faults: Iterable[Fault] = (),
        quota: Quota | None = None,
        plan: Plan | None = None,
        now: Callable[[], datetime] | None = None,
        credentials: Credentials | None = None,
        session_seconds: float = 300.0,
        largest_page: int = 50_000,
        data_views: Mapping[str, str] | None = None,
        funnel_overall: bool = False,
        paging: Paging | None = None,
        level: int = 6,
        cache_bytes: int = 0,
        port: int = 0,
    ) -> None:
        self.project = project
        self.faults = list(faults)
        self.credentials = credentials or Credentials()
        self.requests: list[SeenRequest] = []
        self.funnel_overall = funnel_overall
        self.level = level
        self.closing = threading.Event()
        self.engage = Engage(project, session_seconds, largest_page, data_views, paging)
        self.cache = _Cache(cache_bytes)
        self.now = now or (lambda: datetime.now(UTC))
        self._quota = quota
        self.plan = plan or Plan()
        self._accounts = {
            export: Account(quota, self.credentials.project_id, export=export) for export in (True, False)
        }
        self._lexicon_account = LexiconAccount(quota, self.credentials.project_id)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server = _Server(self, port)
        # The interval is how long closing takes at most.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    @property
    def data_api_url(self) -> str:
        """The raw export API: `{data_api_url}/export`."""
        return f"http://127.0.0.1:{self.port}/api/2.0"

    @property
    def api_url(self) -> str:
        """What the query and app APIs hang under: `{api_url}/query/engage`, `{api_url}/app/projects/…`."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def settings(self) -> dict[str, str]:
        """The tap's settings that reach this emulator."""
        return {
            "project_id": self.credentials.project_id,
            "service_account_username": self.credentials.username,
            "service_account_secret": self.credentials.secret,
            "data_api_url": self.data_api_url,
            "api_url": self.api_url,
        }

    def start(self) -> Self:
        """Serve."""
        self._thread.start()
        return self

    def close(self) -> None:
        """End every connection and wait for every thread."""
        self.closing.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def see(self, method: str, target: str, headers: dict[str, str]) -> SeenRequest:
        """Write down a request."""
        url = urlsplit(target)
        endpoint = find_endpoint(method, url.path)
        with self._lock:
            self._counts[endpoint.kind] += 1
            number = self._counts[endpoint.kind]
            seen = SeenRequest(endpoint, number, method, url.path, read_url(url.query), headers)
            self.requests.append(seen)
        return seen

    def check_credentials(self, seen: SeenRequest) -> None:
        """Let a request through, or raise.

        Raises:
            Refusal: Its credentials do not open the project that it names.
        """
        project_id = seen.path_project or seen.parameters.get("project_id")
        authorization, only_service_accounts = seen.headers.get("authorization", ""), seen.kind == "schemas"
        self.credentials.check(authorization, project_id, seen.api, only_service_accounts=only_service_accounts)

    def check_plan(self, seen: SeenRequest) -> None:
        """Let a request through, or raise.

        Raises:
            Refusal: The project's plan does not include what it asks for.
        """
        today = self.now().astimezone(self.project.zone).date()
        self.plan.check(seen.api, seen.parameters, today, has_days=seen.has_days)

    def place(self, seen: SeenRequest) -> AbstractContextManager[Headers]:
        """Return a place for the request among the running ones, with headers for its response."""
        if seen.kind in {"annotations", "unknown"}:
            # The app API has limits of its own, which nobody was seen to meet.
            return nullcontext(())
        if seen.kind == "schemas":
            return self._lexicon_account.request()
        later = seen.kind == "engage" and self.engage.is_page(seen.parameters)
        counted = not later or (self._quota is not None and self._quota.count_pages)
        return self._accounts[seen.kind == "export"].request(counted=counted)

    def respond(self, seen: SeenRequest) -> Response:
        """Return the response of a request that was let in.

        Raises:
            Refusal: It asks for something that does not exist.
        """
        if seen.endpoint is UNKNOWN:
            raise Refusal(404, "Not found")
        seen.endpoint.check(seen.parameters)
        if seen.kind == "export":
            now = self.now()
            export = Export.read(seen.parameters, now.astimezone(self.project.zone).date())
            return Response(200, "text/plain", partial(export.blocks, self.project, now), streamed=True)
        value = {
            "engage": self._engage,
            "cohorts": self._cohorts,
            "annotations": self._annotations,
            "funnels": self._funnels,
            "event_counts": self._event_counts,
            "schemas": self._lexicon,
            "insights": self._insights,
        }[seen.kind](seen)
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
        return Response(200, JSON, lambda: iter([body]))

    def _engage(self, seen: SeenRequest) -> object:
        parameters = seen.parameters
        workspace_id = parameters.pop("workspace_id", None)
        parameters.pop("project_id", None)
        response = self.engage.respond(parameters, self.now(), workspace_id)
        for fault in self.faults_of(seen):
            if fault.name == "short-page":
                results = cast("list[object]", response["results"])
                response["results"] = results[: int(len(results) * fault.at)]
            if fault.name == "wrong-page":
                response["page"] = int(parameters.get("page", 0)) + 1
            if fault.name == "bare-page":
                response = without_fields(response)
        return response

    def _cohorts(self, seen: SeenRequest) -> object:  # noqa: ARG002 - the signature of a handler
        return [{"project_id": int(self.credentials.project_id), **cohort} for cohort in self.project.cohorts()]

    def _annotations(self, seen: SeenRequest) -> object:
        own = {"project_id": int(self.credentials.project_id)}
        if seen.path.rstrip("/").endswith("/tags"):
            tags = {
                tag["id"]: tag
                for annotation in self.project.annotations()
                for tag in cast("list[dict[str, object]]", annotation.get("tags", []))
            }
            return [{**tag, **own, "has_annotations": True} for tag in tags.values()]
        # Days, or instants with a T or a space between. An annotation's date is compared without its offset, which is
        # the project's.
        first = seen.parameters.get("fromDate", "").replace("T", " ")
        last = seen.parameters.get("toDate", "9999").replace("T", " ")
        results = [
            {**own, **annotation}
            for annotation in self.project.annotations()
            for date in [str(annotation["date"]).replace("T", " ")[:19]]
            # Both ends are inclusive; a day is the beginning of each of its instants' texts.
            if first <= date and date[: len(last)] <= last
        ]
        return {"status": "ok", "results": results}

    def _funnels(self, seen: SeenRequest) -> object:
        if seen.path.rstrip("/").endswith("/list"):
            return list(self.project.funnels())
        known = {str(funnel["funnel_id"]): cast("int", funnel["funnel_id"]) for funnel in self.project.funnels()}
        parameters = seen.parameters
        funnel = known.get(parameters.get("funnel_id", ""))
        if funnel is None:
            raise Refusal(400, "Invalid parameter: funnel_id")
        if parameters.get("unit", "day") != "day":
            raise Refusal(400, "Invalid parameter: unit")
        days = self.project.funnel_days(
            funnel, read_day(seen.parameters, "from_date"), read_day(seen.parameters, "to_date")
        )
        overall: dict[str, object] = {}
        if self.funnel_overall:
            analyses = [cast("Mapping[str, Any]", day).get("analysis", {}) for day in days.values()]
            sums = {key: sum(each.get(key, 0) for each in analyses) for key in ("completion", "starting_amount")}
            overall = {"$overall": {"steps": [], "analysis": {**sums, "steps": 2, "worst": 1}}}
        return {"meta": {"dates": list(days)}, "data": {**days, **overall}}

    def _event_counts(self, seen: SeenRequest) -> object:
        answer = event_names if seen.path.rstrip("/").endswith("/names") else event_counts
        return answer(seen.parameters, self.project, self.now())

    def _lexicon(self, seen: SeenRequest) -> object:  # noqa: ARG002 - an answer's signature
        return lexicon(self.project)

    def _insights(self, seen: SeenRequest) -> object:
        return insights_report(seen.parameters, self.project, self.now())

    def faults_of(self, seen: SeenRequest) -> list[Fault]:
        """Return what goes wrong with a request."""
        return [fault for fault in self.faults if fault.strikes(seen.kind, seen.number)]


class _Cache:
    """Compressed bodies, the oldest given up first."""

    def __init__(self, size: int) -> None:
        self._left = self.room = size
        self._bodies: OrderedDict[tuple[object, ...], EncodedBody] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[object, ...]) -> EncodedBody | None:
        with self._lock:
            return self._bodies.get(key)

    def keep(self, key: tuple[object, ...], body: EncodedBody) -> None:
        with self._lock:
            if key in self._bodies:
                return
            self._bodies[key] = body
            self._left -= body.size
            while self._left < 0:
                self._left += self._bodies.popitem(last=False)[1].size


class _Server(socketserver.TCPServer):
    """One thread a connection, all of them known, so that closing can end them."""

    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, emulator: Emulator, port: int) -> None:
        self.emulator = emulator
        self._connections: dict[threading.Thread, socket.socket] = {}
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self._serve, args=(request, client_address), daemon=True)
        # Threads that are over go when another comes, not by themselves: closing has to wait for each to its very end.
        self._connections = {each: own for each, own in self._connections.items() if each.is_alive()}
        self._connections[thread] = request
        thread.start()

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # the client went away, or we hung up
        except Exception:  # noqa: BLE001 - a mistake of the emulator is to be seen, not to end it
            self.handle_error(request, client_address)
        request.close()

    def server_close(self) -> None:
        super().server_close()
        for connection in self._connections.values():
            # Wakes the thread from whatever it reads or writes.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._connections:
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Reads a request and sends the response."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def version_string(self) -> str:
        """Name the emulator in the header `Server`: nobody shall take it for Mixpanel."""
        return "tap-mixpanel-emulator"

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Date responses by the emulator's clock."""
        return super().date_time_string(self.server.emulator.now().timestamp() if timestamp is None else timestamp)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing: `Emulator.requests` knows it all."""

    def _respond(self) -> None:
        emulator = self.server.emulator
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(min(size, _LARGEST_QUESTION))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = emulator.see(self.command, self.path, headers)
        writer = ResponseWriter(
            connection=self.connection,
            send_head=partial(self._send_head, seen),
            takes_gzip="gzip" in headers.get("accept-encoding", ""),
            takes_chunks=self.request_version != "HTTP/1.0",
            level=emulator.level,
            closing=emulator.closing,
            hang_up=self._hang_up,
        )
        faults = emulator.faults_of(seen)
        seen.faults = tuple(fault.name for fault in faults)
        try:
            seen.form = read_body(body, headers.get("content-type", ""))
            self._unless_stopped(emulator, seen, writer, faults)
        except HungUpError:
            self.close_connection = True
        except Refusal as refusal:
            writer.send(_refused(refusal, seen), [])

    def _unless_stopped(
        self, emulator: Emulator, seen: SeenRequest, writer: ResponseWriter, faults: list[Fault]
    ) -> None:
        for fault in faults:
            if fault.name == "refuse":
                raise HungUpError
            if fault.name == "no-http":
                self.connection.sendall(b"this is no HTTP\r\n\r\n")
                raise HungUpError
            if fault.name == "silence":
                writer.pause(fault.seconds())
            if fault.name == "session-expired":
                emulator.engage.forget(seen.parameters.get("session_id", ""))
                raise Refusal(400, SESSION_EXPIRED)
            status = _status_response(fault, seen, emulator.credentials.project_id)
            if status is not None:
                writer.send(status, [])
                return
        emulator.check_credentials(seen)
        emulator.check_plan(seen)
        with emulator.place(seen) as headers:
            response = replace(emulator.respond(seen), headers=headers)
            if not emulator.cache.room or faults or not response.streamed:
                writer.send(response, faults)
                return
            key = (writer.takes_gzip, *sorted(seen.parameters.items()))
            coded = emulator.cache.get(key)
            if coded is None:
                writer.send(response, faults, partial(emulator.cache.keep, key), emulator.cache.room)
            else:
                writer.send_kept(response, coded)

    def _send_head(self, seen: SeenRequest, status: int, headers: list[tuple[str, str]]) -> None:
        seen.status = status
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def _hang_up(self) -> None:
        self.close_connection = True


def _refused(refusal: Refusal, seen: SeenRequest) -> Response:
    body = refusal.body(seen.api, seen.path)
    return Response(refusal.status, refusal.content_type, lambda: iter([body]), headers=refusal.headers)


def _status_response(fault: Fault, seen: SeenRequest, project_id: str) -> Response | None:
    """Return the response of a fault that is only a status."""
    if fault.name == "redirect":
        return Response(302, "text/html", lambda: iter([b""]), headers=(("Location", str(fault.value)),))
    name, _, status = fault.name.partition(":")
    if name != "status":
        return None
    exceeded = f"Query rate limit exceeded for project_id: {project_id}"
    texts = {
        "400": "Invalid parameter: where",
        "400-to-date": "to_date cannot be later than today",
        "400-timeout": "Timeout Error.",
        "401": "Invalid credentials. Check the service account's name and secret.",
        "402": "Your plan does not allow API calls. Upgrade at mixpanel.com/pricing",
        "403": f"No access to project {project_id}",
        "403-history": "Date range exceeds 90 days into the past",
        "404": "Not found",
        "404-datagroup": "Missing Datagroup",
        "429": (
            f"{exceeded}. 1/5 queries running concurrently and 61/60 queries running in the last hour. "
            "Please try again later."
        ),
        "429-concurrent": "too many export requests in progress for this project",
        "429-load": f"{exceeded} For more information, please see https://docs.mixpanel.com/reference/rate-limits",
    }
    number = int(status[:3])
    if status == "400-auth":
        return _refused(not_authenticated("data"), seen)
    if status in texts:
        form = fault.value if fault.value in {"seconds", "date"} else None
        return _refused(Refusal(number, texts[status], retry_after(cast("Any", form), 1)), seen)
    body = {500: b"Internal Server Error\n", 503: b"Service Unavailable\n"}.get(number, HTML)
    return Response(number, "text/html" if body is HTML else "text/plain", lambda: iter([body]))
