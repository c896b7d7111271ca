"""For whoever runs the server: is it alive, is it ready, what does it count."""

from collections.abc import Callable
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from speechpipe.interfaces.api.access import Role, access
from speechpipe.serving.engine import Service


def router(service: Service, unready: Callable[[], list[str]] = list) -> APIRouter:
    """Return the routes; none of them asks for a key, none reveals what was said. `unready`: more reasons."""
    routes = APIRouter()
    threads: list[CapacityLimiter] = []

    def own() -> CapacityLimiter:
        # Threads of their own: requests that wait for a locked store hold all those that routes share.
        if not threads:  # belongs to a running event loop
            threads.append(CapacityLimiter(2))
        return threads[0]

    @routes.get("/livez")
    @access(Role.OPEN)
    async def livez() -> dict[str, str]:
        """Answer as long as the event loop turns."""
        return {"status": "alive"}

    @routes.get("/readyz", response_model=None, responses={503: {"description": "Not ready; `reasons` say why."}})
    @access(Role.OPEN)
    async def readyz() -> Response:
        """Answer 200 when a session would be taken now, 503 with reasons otherwise.

        Also says which workers are missing and which background tasks fail now: neither makes the server unready as
        long as sessions are taken. Of a failure only its type is shown here; the log has the rest.
        """
        found = await to_thread.run_sync(_state, service, unready(), limiter=own())
        return JSONResponse(found, 200 if found["ready"] else 503)

    @routes.get("/metrics", response_class=PlainTextResponse)
    @access(Role.OPEN)
    async def metrics() -> Response:
        """Show everything that is counted, for Prometheus."""
        text = await to_thread.run_sync(service.exposition.text, limiter=own())
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes


def _state(service: Service, more: list[str]) -> dict[str, Any]:
    reasons = [*more, *service.unready_reasons()]
    return {
        "ready": not reasons,
        "reasons": reasons,
        "workers_missing": service.workers_missing(),
        "background": [
            {"task": status.name, "failing": status.failing, "last_failure": status.last_failure.split(":")[0]}
            for status in service.tasks.statuses()
            if status.failing or status.ended
        ],
    }
