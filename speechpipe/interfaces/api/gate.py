"""The inner middleware: checks key, content type and length before the body is read, then reads documents.

A pure ASGI middleware inside `edge.py`. Upload routes (`form.py`) and websockets read their own bodies.
"""

from collections.abc import Sequence

from anyio import CapacityLimiter, to_thread
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from speechpipe.errors import ClientGone, UnknownName, WrongContentType
from speechpipe.interfaces.api.access import Access, Body, BodyRule, Operation, allowed, at_path, identify
from speechpipe.interfaces.api.bodies import (
    BodyPlaces,
    Pace,
    Stopping,
    check_text,
    read_json,
    read_whole,
    replayed,
    too_large,
)
from speechpipe.serving.service import Service

MOST_PATH = 512
"""The longest path in characters; all names and ids are far shorter."""


class Gate:
    """The middleware; raises the error of a refused request before its body is read.

    Args:
        app: the next ASGI application.
        service: for its keys and settings.
        operations: the routes with their access rules.
        uploads: places for uploads, which the route holds; refusing an upload here takes half the time.
        stopping: whether the server is stopping.
    """

    def __init__(
        self, app: ASGIApp, service: Service, operations: Sequence[Operation], uploads: BodyPlaces, stopping: Stopping
    ) -> None:
        self._app = app
        self._uploads = uploads
        self._settings = service.settings
        self._operations = operations
        self._stopping = stopping
        keyed = bool(service.settings.api_keys)
        self._arrivals = {kind: BodyPlaces(kind.value.most_at_once, shared=keyed) for kind in Body}
        self._limiter: CapacityLimiter | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the request, read a document body, and call the application.

        Raises:
            SpeechpipeError: the request is refused.
            HTTPException: the path does not support the method.
        """
        if scope["type"] in ("http", "websocket"):
            check_address(scope)
        if scope["type"] == "http":
            declared = self._declared(scope)
            headers = Headers(scope=scope)
            who = identify(declared.role, headers.get("authorization"), self._settings)
            scope.setdefault("state", {})["who"] = who
            rule = declared.body.value
            if declared.body is Body.UPLOAD:
                self._uploads.check(who.name)
            if rule.kind == "document":
                with self._arrivals[declared.body].place(who.name):
                    receive = await self._document(rule, headers, receive)
        await self._app(scope, receive, send)

    def _declared(self, scope: Scope) -> Access:
        found = at_path(self._operations, route_path(scope))
        if not found:
            raise no_such_path()
        fitting = [item.access for item in found if scope["method"] in item.methods]
        if not fitting:
            raise HTTPException(405, "this path does not support the method", {"allow": allowed(found)})
        return fitting[0]

    async def _document(self, rule: BodyRule, headers: Headers, receive: Receive) -> Receive:
        """Read and check a document; return a `receive` that gives it to the route."""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in rule.types:
            wanted = " or ".join(rule.types)
            raise WrongContentType(f"send the body as {wanted}" + (f", not {kind[:80]!r}" if kind else ""))
        length = headers.get("content-length", "")
        if length.isdigit() and int(length[:20]) > rule.most_bytes:
            raise too_large(rule.most_bytes)
        pace = Pace(rule.most_bytes, self._settings.body_timeout_s, stopping=self._stopping)
        body = await read_whole(pace.paced(receive))
        if body is None:
            raise ClientGone("the client disconnected before the body was complete")
        if kind == "application/json" and rule is not Body.IMPORT.value:
            await to_thread.run_sync(read_json, body, rule.most_values, limiter=self._threads)
        return replayed(body, receive)

    @property
    def _threads(self) -> CapacityLimiter:
        # Created on first use, because a limiter belongs to a running event loop. Documents only wait for each other.
        if self._limiter is None:
            self._limiter = CapacityLimiter(2)
        return self._limiter


def route_path(scope: Scope) -> str:
    """Return the path without the prefix of a proxy that does not remove it."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "")
    return path.removeprefix(prefix) if prefix and f"{path}/".startswith(f"{prefix}/") else path


def no_such_path() -> UnknownName:
    """Return the error of a path without a route."""
    return UnknownName("there is nothing at this path", cause="not_found")


def check_address(scope: Scope) -> None:
    """Check path and query.

    Raises:
        UnknownName: the path is longer than that of any route.
        InvalidParameter: path or query has a character that cannot be stored.
    """
    path: str = scope["path"]
    if len(path) > MOST_PATH:
        raise no_such_path()
    check_text(path)
    if b"%00" in scope["query_string"] or b"\0" in scope["query_string"]:
        check_text("\0")
