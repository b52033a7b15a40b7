"""The HTTP server of the emulator. It listens on the loopback interface only."""

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
from .error_responses import JSON, ErrorResponse, not_authenticated
from .export_endpoint import Export, parse_day
from .incoming_request import UNKNOWN, ReceivedRequest, find_endpoint, parse_body, parse_query
from .plan import Plan
from .rate_limits import LexiconRateLimiter, Quota, RateLimiter, retry_after
from .report_endpoints import event_counts, event_names, insights_report, lexicon
from .response_writer import ConnectionClosedError, EncodedBody, Response, ResponseWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from .faults import Fault
    from .project import Project
    from .rate_limits import Headers

_MAX_REQUEST_BYTES = 16 << 20


class Emulator:
    """A Mixpanel API server on 127.0.0.1 with one project.

    As a context manager, it serves requests inside the `with` block and closes all connections at the end.

    Args:
        project: Contents of the project.
        faults: Faults to inject. Several can apply to the same request.
        quota: Rate limits; None for no limits.
        plan: Mixpanel plan of the project; by default, everything is included.
        now: Clock that returns an aware UTC datetime; None for the system clock. It determines the current day and
            which rows are visible.
        credentials: Valid credentials.
        session_lifetime: Seconds from its last use until an engage session expires.
        max_page_size: Maximum `page_size` of engage. A larger `page_size` in a request is reduced to it, and the
            response contains the reduced value.
        data_views: For each `workspace_id`, the `where` expression that profiles in this data view match.
        funnel_overall: Whether funnel responses contain `$overall`, the sum of all days.
        paging: Deviations of engage from the documented paging.
        gzip_level: Compression level.
        cache_bytes: Size of the cache for compressed exports, in bytes. Benchmarks use it for repeated requests. A
            cached response does not include rows that became visible later.
        port: Port to listen on; 0 for any free port.
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
        session_lifetime: float = 300.0,
        max_page_size: int = 50_000,
        data_views: Mapping[str, str] | None = None,
        funnel_overall: bool = False,
        paging: Paging | None = None,
        gzip_level: int = 6,
        cache_bytes: int = 0,
        port: int = 0,
    ) -> None:
        self.project = project
        self.faults = list(faults)
        self.credentials = credentials or Credentials()
        self.requests: list[ReceivedRequest] = []
        self.funnel_overall = funnel_overall
        self.gzip_level = gzip_level
        self.closing = threading.Event()
        self.engage = Engage(project, session_lifetime, max_page_size, data_views, paging)
        self.cache = _Cache(cache_bytes)
        self.now = now or (lambda: datetime.now(UTC))
        self._quota = quota
        self.plan = plan or Plan()
        # By whether the API is the raw export.
        self._rate_limiters = {
            is_export: RateLimiter(quota, self.credentials.project_id, is_export=is_export)
            for is_export in (True, False)
        }
        self._lexicon_rate_limiter = LexiconRateLimiter(quota, self.credentials.project_id)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server = _Server(self, port)
        # Closing the server takes up to this poll interval in seconds.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True)

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return int(self._server.server_address[1])

    @property
    def data_api_url(self) -> str:
        """The base URL of the export API: `{data_api_url}/export`."""
        return f"http://127.0.0.1:{self.port}/api/2.0"

    @property
    def api_url(self) -> str:
        """The base URL of the query and app APIs: `{api_url}/query/engage`, `{api_url}/app/projects/…`."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def settings(self) -> dict[str, str]:
        """The tap settings for this emulator: its URLs, the project id and the credentials."""
        return {
            "project_id": self.credentials.project_id,
            "service_account_username": self.credentials.username,
            "service_account_secret": self.credentials.secret,
            "data_api_url": self.data_api_url,
            "api_url": self.api_url,
        }

    def start(self) -> Self:
        """Start serving requests."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop serving, close all connections and wait for all threads."""
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

    def record_request(self, method: str, target: str, headers: dict[str, str]) -> ReceivedRequest:
        """Add a request to `requests` and return it."""
        url = urlsplit(target)
        endpoint = find_endpoint(method, url.path)
        with self._lock:
            self._counts[endpoint.kind] += 1
            number = self._counts[endpoint.kind]
            request = ReceivedRequest(endpoint, number, method, url.path, parse_query(url.query), headers)
            self.requests.append(request)
        return request

    def check_credentials(self, request: ReceivedRequest) -> None:
        """Check the credentials of a request.

        Raises:
            ErrorResponse: The credentials are invalid for the project.
        """
        project_id = request.path_project or request.parameters.get("project_id")
        authorization, only_service_accounts = request.headers.get("authorization", ""), request.kind == "schemas"
        self.credentials.check(authorization, project_id, request.api, only_service_accounts=only_service_accounts)

    def check_plan(self, request: ReceivedRequest) -> None:
        """Check that the plan includes a request.

        Raises:
            ErrorResponse: The plan excludes the API or the days.
        """
        today = self.now().astimezone(self.project.zone).date()
        self.plan.check(request.api, request.parameters, today, has_date_range=request.has_date_range)

    def admit(self, request: ReceivedRequest) -> AbstractContextManager[Headers]:
        """Return a context manager that counts the request as running and returns its rate limit headers."""
        if request.kind in {"annotations", "unknown"}:
            # The app API has separate limits. No report of reaching them is known.
            return nullcontext(())
        if request.kind == "schemas":
            return self._lexicon_rate_limiter.request()
        is_later_page = request.kind == "engage" and self.engage.is_later_page(request.parameters)
        is_counted = not is_later_page or (self._quota is not None and self._quota.count_pages)
        return self._rate_limiters[request.kind == "export"].request(is_counted=is_counted)

    def respond(self, request: ReceivedRequest) -> Response:
        """Return the response to an accepted request.

        Raises:
            ErrorResponse: The endpoint does not exist or a parameter is invalid.
        """
        if request.endpoint is UNKNOWN:
            raise ErrorResponse(404, "Not found")
        request.endpoint.check(request.parameters)
        if request.kind == "export":
            now = self.now()
            export = Export.parse(request.parameters, now.astimezone(self.project.zone).date())
            return Response(200, "text/plain", partial(export.blocks, self.project, now), is_streamed=True)
        value = {
            "engage": self._engage,
            "cohorts": self._cohorts,
            "annotations": self._annotations,
            "funnels": self._funnels,
            "event_counts": self._event_counts,
            "schemas": self._lexicon,
            "insights": self._insights,
        }[request.kind](request)
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
        return Response(200, JSON, lambda: iter([body]))

    def _engage(self, request: ReceivedRequest) -> object:
        parameters = request.parameters
        workspace_id = parameters.pop("workspace_id", None)
        parameters.pop("project_id", None)
        response = self.engage.respond(parameters, self.now(), workspace_id)
        for fault in self.faults_for(request):
            if fault.name == "short-page":
                results = cast("list[object]", response["results"])
                response["results"] = results[: int(len(results) * fault.at)]
            if fault.name == "wrong-page":
                response["page"] = int(parameters.get("page", 0)) + 1
            if fault.name == "bare-page":
                response = without_fields(response)
        return response

    def _cohorts(self, request: ReceivedRequest) -> object:  # noqa: ARG002 - the signature of a handler
        return [{"project_id": int(self.credentials.project_id), **cohort} for cohort in self.project.cohorts()]

    def _annotations(self, request: ReceivedRequest) -> object:
        project = {"project_id": int(self.credentials.project_id)}
        if request.path.rstrip("/").endswith("/tags"):
            tags = {
                tag["id"]: tag
                for annotation in self.project.annotations()
                for tag in cast("list[dict[str, object]]", annotation.get("tags", []))
            }
            return [{**tag, **project, "has_annotations": True} for tag in tags.values()]
        # Parameters are dates, or date-times with a T or a space in the middle. The date of an annotation is compared
        # without its UTC offset, which is that of the project.
        first = request.parameters.get("fromDate", "").replace("T", " ")
        last = request.parameters.get("toDate", "9999").replace("T", " ")
        results = [
            {**project, **annotation}
            for annotation in self.project.annotations()
            for date in [str(annotation["date"]).replace("T", " ")[:19]]
            # Both ends are inclusive. A last day without a time matches as a prefix of all times on that day.
            if first <= date and date[: len(last)] <= last
        ]
        return {"status": "ok", "results": results}

    def _funnels(self, request: ReceivedRequest) -> object:
        if request.path.rstrip("/").endswith("/list"):
            return list(self.project.funnels())
        known = {str(funnel["funnel_id"]): cast("int", funnel["funnel_id"]) for funnel in self.project.funnels()}
        parameters = request.parameters
        funnel = known.get(parameters.get("funnel_id", ""))
        if funnel is None:
            raise ErrorResponse(400, "Invalid parameter: funnel_id")
        if parameters.get("unit", "day") != "day":
            raise ErrorResponse(400, "Invalid parameter: unit")
        days = self.project.funnel_days(
            funnel, parse_day(request.parameters, "from_date"), parse_day(request.parameters, "to_date")
        )
        overall: dict[str, object] = {}
        if self.funnel_overall:
            analyses = [cast("Mapping[str, Any]", day).get("analysis", {}) for day in days.values()]
            sums = {key: sum(each.get(key, 0) for each in analyses) for key in ("completion", "starting_amount")}
            overall = {"$overall": {"steps": [], "analysis": {**sums, "steps": 2, "worst": 1}}}
        return {"meta": {"dates": list(days)}, "data": {**days, **overall}}

    def _event_counts(self, request: ReceivedRequest) -> object:
        respond = event_names if request.path.rstrip("/").endswith("/names") else event_counts
        return respond(request.parameters, self.project, self.now())

    def _lexicon(self, request: ReceivedRequest) -> object:  # noqa: ARG002 - the signature of a handler
        return lexicon(self.project)

    def _insights(self, request: ReceivedRequest) -> object:
        return insights_report(request.parameters, self.project, self.now())

    def faults_for(self, request: ReceivedRequest) -> list[Fault]:
        """Return the faults that apply to a request."""
        return [fault for fault in self.faults if fault.matches(request.kind, request.number)]


class _Cache:
    """A cache of encoded bodies. When it is full, the oldest body is removed."""

    def __init__(self, size: int) -> None:
        self._free = self.capacity = size
        self._bodies: OrderedDict[tuple[object, ...], EncodedBody] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[object, ...]) -> EncodedBody | None:
        with self._lock:
            return self._bodies.get(key)

    def store(self, key: tuple[object, ...], body: EncodedBody) -> None:
        with self._lock:
            if key in self._bodies:
                return
            self._bodies[key] = body
            self._free -= body.size
            while self._free < 0:
                self._free += self._bodies.popitem(last=False)[1].size


class _Server(socketserver.TCPServer):
    """A server with one thread per connection. Closing it ends all threads."""

    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, emulator: Emulator, port: int) -> None:
        self.emulator = emulator
        self._connections: dict[threading.Thread, socket.socket] = {}
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self._serve, args=(request, client_address), daemon=True)
        # Remove finished threads here instead of at the end of `_serve`: `server_close` must be able to join every
        # thread until it has ended.
        self._connections = {each: connection for each, connection in self._connections.items() if each.is_alive()}
        self._connections[thread] = request
        thread.start()

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # the client or the emulator closed the connection
        except Exception:  # noqa: BLE001 - print bugs in the emulator, but keep serving
            self.handle_error(request, client_address)
        request.close()

    def server_close(self) -> None:
        super().server_close()
        for connection in self._connections.values():
            # Wakes a thread that is blocked on the socket.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._connections:
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Reads requests and sends responses."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def version_string(self) -> str:
        """Return the `Server` header, which identifies the emulator."""
        return "tap-mixpanel-emulator"

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the `Date` header, from the emulator's clock."""
        return super().date_time_string(self.server.emulator.now().timestamp() if timestamp is None else timestamp)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - overrides the method
        """Log nothing. `Emulator.requests` records all requests."""

    def _respond(self) -> None:
        emulator = self.server.emulator
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(min(size, _MAX_REQUEST_BYTES))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = emulator.record_request(self.command, self.path, headers)
        writer = ResponseWriter(
            connection=self.connection,
            send_head=partial(self._send_head, request),
            accepts_gzip="gzip" in headers.get("accept-encoding", ""),
            accepts_chunks=self.request_version != "HTTP/1.0",
            gzip_level=emulator.gzip_level,
            closing=emulator.closing,
            close_after_response=self._close_after_response,
        )
        faults = emulator.faults_for(request)
        request.faults = tuple(fault.name for fault in faults)
        try:
            request.form = parse_body(body, headers.get("content-type", ""))
            self._answer(emulator, request, writer, faults)
        except ConnectionClosedError:
            self.close_connection = True
        except ErrorResponse as error:
            writer.send(_error_response(error, request), [])

    def _answer(
        self, emulator: Emulator, request: ReceivedRequest, writer: ResponseWriter, faults: list[Fault]
    ) -> None:
        for fault in faults:
            if fault.name == "refuse":
                raise ConnectionClosedError
            if fault.name == "no-http":
                self.connection.sendall(b"this is no HTTP\r\n\r\n")
                raise ConnectionClosedError
            if fault.name == "silence":
                writer.pause(fault.seconds())
            if fault.name == "session-expired":
                emulator.engage.expire(request.parameters.get("session_id", ""))
                raise ErrorResponse(400, SESSION_EXPIRED)
            status = _status_response(fault, request, emulator.credentials.project_id)
            if status is not None:
                writer.send(status, [])
                return
        emulator.check_credentials(request)
        emulator.check_plan(request)
        with emulator.admit(request) as headers:
            response = replace(emulator.respond(request), headers=headers)
            if not emulator.cache.capacity or faults or not response.is_streamed:
                writer.send(response, faults)
                return
            key = (writer.accepts_gzip, *sorted(request.parameters.items()))
            encoded = emulator.cache.get(key)
            if encoded is None:
                writer.send(response, faults, partial(emulator.cache.store, key), emulator.cache.capacity)
            else:
                writer.send_encoded(response, encoded)

    def _send_head(self, request: ReceivedRequest, status: int, headers: list[tuple[str, str]]) -> None:
        request.status = status
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def _close_after_response(self) -> None:
        self.close_connection = True


def _error_response(error: ErrorResponse, request: ReceivedRequest) -> Response:
    body = error.body(request.api, request.path)
    return Response(error.status, error.content_type, lambda: iter([body]), headers=error.headers)


def _status_response(fault: Fault, request: ReceivedRequest, project_id: str) -> Response | None:
    """Return the response of a fault that replaces the whole response; None for other faults."""
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
        return _error_response(not_authenticated("data"), request)
    if status in texts:
        form = fault.value if fault.value in {"seconds", "date"} else None
        return _error_response(ErrorResponse(number, texts[status], retry_after(cast("Any", form), 1)), request)
    body = {500: b"Internal Server Error\n", 503: b"Service Unavailable\n"}.get(number, HTML)
    return Response(number, "text/html" if body is HTML else "text/plain", lambda: iter([body]))
