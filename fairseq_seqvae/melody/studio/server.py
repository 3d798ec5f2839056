"""The studio's web server: Python's own, for one user on one machine.

It listens on loopback unless told otherwise. It answers only requests that name this machine as their host, so that no
page of another site can reach it under a name of its own (DNS rebinding), and changes nothing on disk. Files of the
page are read once, at the start: no path that a client sends is ever opened.
"""

import ipaddress
import json
import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from fairseq_seqvae.melody.studio.wire import BusyError

logger = logging.getLogger(__name__)

LARGEST_BODY = 2 * 2**20  # bytes
MOST_CONNECTIONS = 128
SECONDS = 20.0  # that a client may take for the next part of its request
LONGEST_NAME = 200  # of an uploaded file
_JSON = "application/json; charset=utf-8"
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Reply(NamedTuple):
    """An answer: its bytes, their type, and a name if they are to be saved as a file."""

    body: bytes
    content_type: str = _JSON
    file_name: str = ""


class RefusedError(Exception):
    """A request that is not answered: HTTP status and a sentence."""

    def __init__(self, status: HTTPStatus, sentence: str):
        super().__init__(sentence)
        self.status = status


class Upload(NamedTuple):
    """A file that a user gives: its name, as the browser says, and its bytes."""

    name: str
    body: bytes
    options: Mapping[str, str]


def as_json(value: Any) -> Reply:
    """A JSON answer."""
    return Reply(json.dumps(value, separators=(",", ":")).encode())


class Routes(NamedTuple):
    """What the server answers.

    pages:       path -> file of the page
    questions:   path -> function without arguments, for GET
    operations:  path -> function of the JSON of a request, for POST
    uploads:     path -> function of a file, for POST
    """

    pages: Mapping[str, Reply]
    questions: Mapping[str, Callable[[], Reply]]
    operations: Mapping[str, Callable[[Any], Reply]]
    uploads: Mapping[str, Callable[[Upload], Reply]]


class StudioServer(ThreadingHTTPServer):
    """Serves *routes* on *host* and *port* (0: any free one).

    Raises:
        OSError: the port is taken, or the address is not of this machine
    """

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, host: str, port: int, routes: Routes):
        self.routes = routes
        self.own_host = host
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    @property
    def address(self) -> str:
        """The page's address."""
        host = "localhost" if self.own_host in ("", "0.0.0.0", "::") else self.own_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}/"

    @property
    def is_private(self) -> bool:
        """Whether only programs of this machine reach it."""
        return _is_loopback(self.own_host)

    def server_bind(self) -> None:
        """Bind without asking a name server for the name of the machine, as HTTPServer would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.own_host, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread for a connection, up to `MOST_CONNECTIONS`; more are closed."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection, then free its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no error of the server."""
        logger.debug("a connection ended", exc_info=True)

    def is_own_host(self, header: str) -> bool:
        """Whether a Host header names this machine: an address, localhost, or the name that it listens on."""
        try:
            name = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        if name in ("localhost", self.own_host.lower()):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # Elsewhere a page may be open under any address of this machine; names, which others own, are never taken.
        return address.is_loopback or not self.is_private


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Handler(BaseHTTPRequestHandler):
    server: StudioServer
    protocol_version = "HTTP/1.1"
    server_version = "melody-studio"
    sys_version = ""
    timeout = SECONDS

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no HTTP, or a method that nothing takes, as everything else is refused."""
        self._unread = True
        status = HTTPStatus(code)
        self._fail(status, (message or status.phrase)[:200])

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)

    def version_string(self) -> str:
        return self.server_version

    def _answer(self, respond: Callable[[str], Reply]) -> None:
        # Whether a body may be left unread. Its text, which another site can choose, must not become the next request.
        self._unread = any(header in self.headers for header in ("Content-Length", "Transfer-Encoding"))
        try:
            self._check_origin()
            self._send(HTTPStatus.OK, respond(urlsplit(self.path).path))
        except RefusedError as error:
            self._fail(error.status, str(error))
        except BusyError as error:
            self._fail(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except (TimeoutError, ConnectionError):
            self.close_connection = True
        except (ValueError, ImportError, OSError) as error:
            self._fail(HTTPStatus.BAD_REQUEST, str(error))
        except Exception:
            logger.exception("a request failed")
            self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, "the studio made a mistake; its terminal says more")

    def _check_origin(self) -> None:
        if not self.server.is_own_host(self.headers.get("Host", "")):
            raise RefusedError(HTTPStatus.FORBIDDEN, "the request names another host than this studio's address")
        origin = self.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != self.headers.get("Host"):
            raise RefusedError(HTTPStatus.FORBIDDEN, "the request comes from a page of another site")

    def _get(self, path: str) -> Reply:
        routes = self.server.routes
        if path in routes.pages:
            return routes.pages[path]
        if path in routes.questions:
            return routes.questions[path]()
        if path in routes.operations or path in routes.uploads:
            raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} takes POST")
        raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such page")

    def _post(self, path: str) -> Reply:
        routes = self.server.routes
        if path in routes.operations:
            self._require_type("application/json")
            return routes.operations[path](_parse(self._body()))
        if path in routes.uploads:
            # Neither type is one that a form of another site could send.
            self._require_type("application/octet-stream")
            query = parse_qs(urlsplit(self.path).query)
            options = {name: values[-1][:LONGEST_NAME] for name, values in query.items()}
            return routes.uploads[path](Upload(options.pop("name", "file"), self._body(), options))
        known = path in routes.pages or path in routes.questions
        raise RefusedError(
            HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_FOUND,
            f"{path} takes GET" if known else "there is no such operation",
        )

    def _require_type(self, wanted: str) -> None:
        found = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if found != wanted:
            raise RefusedError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the Content-Type must be {wanted} but is {found[:60] or 'missing'}"
            )

    def _body(self) -> bytes:
        said = self.headers.get_all("Content-Length", [])
        text = said[0] if len(said) == 1 else ""
        if not text.isdecimal() or len(text) > 15 or "Transfer-Encoding" in self.headers:
            raise RefusedError(
                HTTPStatus.LENGTH_REQUIRED,
                "the request must say its Content-Length, once, and have no Transfer-Encoding",
            )
        length = int(text)
        if length > LARGEST_BODY:
            raise RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the file has {length / 2**20:.1f} MiB, but at most {LARGEST_BODY / 2**20:g} MiB are taken",
            )
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("the client left")
        self._unread = False
        return body

    def _fail(self, status: HTTPStatus, sentence: str) -> None:
        self._send(status, as_json({"error": sentence}))

    def _send(self, status: HTTPStatus, reply: Reply) -> None:
        self.close_connection = self.close_connection or self._unread
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        if reply.file_name:
            self.send_header("Content-Disposition", f'attachment; filename="{reply.file_name}"')
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)


def _parse(body: bytes) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number of JSON")

    try:
        return json.loads(body, parse_constant=refuse)
    except RecursionError:
        raise ValueError("the request is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("the request is no JSON: it must be UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the request is no JSON: {error}") from None
