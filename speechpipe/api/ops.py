"""For whoever runs the server: is it alive, is it ready, what does it count."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from speechpipe.service import Service


def router(service: Service) -> APIRouter:
    """Return the routes; none of them asks for a key, none reveals what was said."""
    routes = APIRouter()

    @routes.get("/livez")
    async def livez() -> dict[str, str]:
        """Answer as long as the event loop turns."""
        return {"status": "alive"}

    @routes.get("/readyz")
    def readyz() -> Response:
        """Answer 200 when a session would be taken now, 503 with reasons otherwise."""
        reasons = service.unready_reasons()
        return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    @routes.get("/metrics")
    def metrics() -> Response:
        """Show everything that is counted, for Prometheus."""
        return Response(service.exposition.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes
