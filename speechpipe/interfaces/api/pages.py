"""HTTP routes of the web pages and their static files, with a strict content-security policy."""

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from speechpipe.errors import UnknownName
from speechpipe.interfaces.api.access import Role, access
from speechpipe.interfaces.web.render import STATIC

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; worker-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=()",
    "Cache-Control": "no-cache",
}
TYPES = {".js": "text/javascript", ".css": "text/css"}


def router() -> APIRouter:
    """Return the routes. The pages ask their users for keys where the API requires them."""
    routes = APIRouter(include_in_schema=False)
    parts = {path.name: path for path in STATIC.iterdir() if path.suffix in TYPES}

    @routes.get("/live")
    @access(Role.OPEN)
    def live() -> Response:
        return FileResponse(STATIC / "live.html", headers=HEADERS, media_type="text/html")

    @routes.get("/review")
    @access(Role.OPEN)
    def review() -> Response:
        headers = {**HEADERS, "Content-Security-Policy": f"{POLICY}; media-src blob:"}
        return FileResponse(STATIC / "review.html", headers=headers, media_type="text/html")

    @routes.get("/live/{name}")
    @access(Role.OPEN)
    def part(name: str) -> Response:
        if (path := parts.get(name)) is None:
            raise UnknownName("there is no such file here", cause="not_found")
        return FileResponse(path, headers=HEADERS, media_type=TYPES[path.suffix])

    return routes
