"""`/openapi.json`, and `/docs`, which shows it with Swagger UI; all files are served from here."""

from collections.abc import Sequence
from importlib import resources
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from speechpipe.errors import UnknownName
from speechpipe.interfaces.api.access import Operation, Role, access
from speechpipe.interfaces.api.openapi import completed
from speechpipe.interfaces.api.pages import HEADERS, TYPES
from speechpipe.interfaces.web.render import STATIC

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI writes style attributes. It needs no inline scripts."""

ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css")


def router(app: FastAPI) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(include_in_schema=False)
    folder = resources.files("fastapi_offline") / "static"

    @routes.get("/openapi.json")
    @access(Role.OPEN)
    def document(request: Request) -> Response:
        prefix = request.scope.get("root_path", "")
        return JSONResponse(app.openapi() | ({"servers": [{"url": prefix}]} if prefix else {}))

    @routes.get("/docs")
    @access(Role.OPEN)
    def page() -> Response:
        headers = {**HEADERS, "Content-Security-Policy": POLICY}
        return FileResponse(STATIC / "docs.html", headers=headers, media_type="text/html")

    @routes.get("/docs/{name}")
    @access(Role.OPEN)
    def asset(name: str) -> Response:
        if name not in ASSETS:
            raise UnknownName("there is no such file here", cause="not_found")
        with resources.as_file(folder / name) as path:
            return FileResponse(path, headers=HEADERS, media_type=TYPES[path.suffix])

    return routes


def install(app: FastAPI, operations: Sequence[Operation]) -> None:
    """Make `app.openapi` return the document completed with access rules and every status."""
    bare = app.openapi
    made: list[dict[str, Any]] = []

    def whole() -> dict[str, Any]:
        if not made:
            made.append(completed(bare(), operations))
        return made[0]

    app.openapi = whole  # type: ignore[method-assign]
