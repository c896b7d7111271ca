"""The outermost middleware: checks host and origin, and sends every answer with its security headers.

A pure ASGI middleware around `gate.py` and the routes. Exceptions raised inside become answers in the route's format
(`errors.py`) only here; the server below never sees one.
"""

import asyncio
import contextlib
import logging
import re
import traceback
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from speechpipe.errors import Forbidden, NotReady, SpeechpipeError
from speechpipe.interfaces.api import errors
from speechpipe.interfaces.api.access import READING, Operation, allowed, at_path
from speechpipe.interfaces.api.bodies import Stopping
from speechpipe.interfaces.api.gate import no_such_path, route_path
from speechpipe.interfaces.api.hosts import Hosts, Origins, in_origin_form
from speechpipe.interfaces.api.turns import Turns
from speechpipe.serving.service import Service

log = logging.getLogger(__name__)

SECURITY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of every answer; pages have a policy of their own."""

KEEP_READING = 64 * 1024
"""If more bytes of a body than this are unread, the connection is closed instead of discarding them."""

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_ANY_VALUE = "*"


class Edge:
    """The middleware.

    Args:
        app: the next ASGI application.
        service: for its settings and its count of refusals.
        operations: the routes with their access rules.
        stopping: whether the server is stopping.
    """

    def __init__(self, app: ASGIApp, service: Service, operations: Sequence[Operation], stopping: Stopping) -> None:
        self._app = app
        self._service = service
        self._operations = operations
        self._stopping = stopping
        self._hosts = Hosts(service.settings)
        self._origins = Origins(service.settings.allowed_origins)
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or serve one websocket; no exception leaves this method."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope = in_origin_form(scope)
        headers = Headers(scope=scope)
        scope = dict(scope, root_path=self._prefix(headers))
        answer = _Answer(scope, receive, send, self._cors(headers))
        try:
            if _has_body(scope):
                await self._turns.turn()
            self._check(scope, headers)
            if scope.get("method") == "OPTIONS":
                await self._options(headers, scope)(scope, answer.receive, answer.send)
                return
            if scope.get("method") == "HEAD":
                scope["method"] = "GET"  # the server omits the body, because it knows the method
            await self._app(scope, answer.receive, answer.send)
        except SpeechpipeError as error:
            await answer.fail(error, self._service)
            # The error and the frames of its traceback refer to each other, and the frames hold the body: without this,
            # megabytes would stay in memory until the garbage collector runs.
            traceback.clear_frames(error.__traceback__)
        except HTTPException as error:
            await answer.give(errors.frameworks(error, self._service))
        except (WebSocketDisconnect, ConnectionError):
            pass  # the client has gone
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            await answer.fail(NotReady("the server shut down before the request was done"), self._service)
        except Exception as error:  # noqa: BLE001 - the last handler of a request
            found = errors.unforeseen(error)
            errors.log_unforeseen(found, error, f"{scope.get('method', 'websocket')} {scope['path'][:200]!r}")
            await answer.fail(found, self._service)
            traceback.clear_frames(error.__traceback__)

    def _prefix(self, headers: Headers) -> str:
        given = headers.get("x-forwarded-prefix", "").rstrip("/")
        return given if len(given) <= 256 and _PREFIX.fullmatch(given) else self._service.settings.root_path

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Check the host name, and whether the page that sent the request may do so.

        Raises:
            BadInput, Misdirected, Forbidden: the request is refused.
        """
        self._hosts.check(headers.get("host"))
        if scope["type"] == "websocket" or scope["method"] not in READING:
            self._origins.check(headers)

    def _cors(self, headers: Headers) -> dict[str, str]:
        """Return the headers that let a page of an allowed origin read the answer."""
        origin = headers.get("origin")
        if origin is None or not self._origins.allows(origin):
            return {}
        return {"access-control-allow-origin": origin, "access-control-expose-headers": _ANY_VALUE, "vary": "Origin"}

    def _options(self, headers: Headers, scope: Scope) -> Response:
        """Return the allowed methods at a path; for a preflight, whether the page may use them.

        Raises:
            UnknownName: there is no route at the path.
            Forbidden: the page's origin is not allowed.
        """
        if scope["path"] == "*":  # RFC 9110, 9.3.7: the server as a whole
            return Response(status_code=204, headers={"allow": allowed(self._operations)})
        found = at_path(self._operations, route_path(scope))
        if not found:
            raise no_such_path()
        allow = allowed(found)
        if "access-control-request-method" not in headers:
            return Response(status_code=204, headers={"allow": allow})
        if not self._cors(headers):
            raise Forbidden("pages of this origin may not do this; see SPEECHPIPE_ALLOWED_ORIGINS")
        said = {
            "access-control-allow-methods": allow,
            "access-control-allow-headers": headers.get("access-control-request-headers", "")[:1000],
            "access-control-max-age": "600",
        }
        return Response(status_code=204, headers=said | {"allow": allow})


class _Answer:
    """An answer in progress: its common headers, whether it has begun, and whether the body was read."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, cors: dict[str, str]) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._cors = cors
        self._begun = False
        self._read = not _has_body(scope)

    async def receive(self) -> Message:
        """Receive a message, and note the end of the body."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._read = True
        return message

    async def send(self, message: Message) -> None:
        """Send a message with the common headers."""
        self._begun = self._begun or message["type"] != "websocket.close"
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            for name, value in SECURITY.items():
                headers.setdefault(name, value)
            for name, value in self._cors.items():
                headers[name] = value
            if not self._read:
                headers["connection"] = "close"
            message = {**message, "headers": headers.raw}
        await self._send(message)

    async def fail(self, error: SpeechpipeError, service: Service) -> None:
        """Answer with an error, and count it."""
        service.refuse(error)
        await self.give(errors.response(error, route_path(self._scope)))

    async def give(self, response: Response) -> None:
        """Send an answer; if one has already begun, abort it."""
        if not self._begun:
            await response(self._scope, self.receive, self.send)
        elif self._scope["type"] == "websocket":
            with contextlib.suppress(RuntimeError, OSError):  # it may be closed already
                await self._send({"type": "websocket.close", "code": 1011, "reason": "internal error"})
        # Otherwise the server notices the incomplete answer and closes the connection.


def _has_body(scope: Scope) -> bool:
    """Whether a body follows that is too long to discard."""
    if scope["type"] != "http":
        return False
    headers = Headers(scope=scope)
    length = headers.get("content-length", "0")
    return "transfer-encoding" in headers or not length.isdigit() or len(length) > 20 or int(length) > KEEP_READING
