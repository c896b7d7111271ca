"""HTTP routes for orchestration and monitoring: liveness, readiness, Prometheus metrics."""

from collections.abc import Callable
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from speechpipe.interfaces.api.access import Role, access
from speechpipe.serving.service import Service


def router(service: Service, unready: Callable[[], list[str]] = list) -> APIRouter:
    """Return the routes. They require no key and reveal no texts. `unready` returns further reasons."""
    routes = APIRouter()
    threads: list[CapacityLimiter] = []

    def own() -> CapacityLimiter:
        # Two threads of their own: requests that wait for a locked store may occupy all shared threads.
        if not threads:  # created on first use, because a limiter belongs to a running event loop
            threads.append(CapacityLimiter(2))
        return threads[0]

    @routes.get("/livez")
    @access(Role.OPEN)
    async def livez() -> dict[str, str]:
        """Answer as long as the event loop runs."""
        return {"status": "alive"}

    @routes.get("/readyz", response_model=None, responses={503: {"description": "Not ready; `reasons` say why."}})
    @access(Role.OPEN)
    async def readyz() -> Response:
        """Answer 200 if a session would be accepted now, else 503 with the reasons.

        Missing workers and failing background tasks are listed too; they do not make the server unready as long as
        it accepts sessions. Only the type of a failure is shown; the log has its text.
        """
        found = await to_thread.run_sync(_state, service, unready(), limiter=own())
        return JSONResponse(found, 200 if found["ready"] else 503)

    @routes.get("/metrics", response_class=PlainTextResponse)
    @access(Role.OPEN)
    async def metrics() -> Response:
        """Return all metrics in Prometheus text format."""
        text = await to_thread.run_sync(service.exposition.text, limiter=own())
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes


def _state(service: Service, more: list[str]) -> dict[str, Any]:
    reasons = [*more, *service.unready_reasons()]
    return {
        "ready": not reasons,
        "reasons": reasons,
        "workers_missing": service.readiness.workers_missing(),
        "background": [
            {"task": status.name, "failing": status.failing, "last_failure": status.last_failure.split(":")[0]}
            for status in service.tasks.statuses()
            if status.failing or status.ended
        ],
    }
