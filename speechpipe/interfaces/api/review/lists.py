"""HTTP routes of all reviews: overview, statistics, export and import."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from speechpipe.control.review import TaskState
from speechpipe.control.review import documents as review_documents
from speechpipe.control.review.exchange import AudioOf, Outcome, exported, imported
from speechpipe.foundation.storage.database import translating_store_errors
from speechpipe.interfaces.api.access import Body, Role, access, also
from speechpipe.interfaces.api.bodies import read_json_list
from speechpipe.interfaces.api.review.tasks import ReviewContext, context_of
from speechpipe.serving.service import Service


def router(service: Service) -> APIRouter:
    """Return the routes, which must be matched before those of one task."""
    routes = APIRouter(prefix="/v1/reviews")
    Mine = Annotated[ReviewContext, Depends(context_of(service))]  # noqa: N806 - a type

    @routes.get("")
    @access(Role.REVIEWER, 503)
    def overview(mine: Mine, most: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
        """Count tasks by state and reason, and list the waiting ones, most urgent first."""
        task_stats = mine.reviewing.operations.task_stats
        with translating_store_errors():
            counts = task_stats.counts(mine.who.tenant)
            listed = task_stats.listed([TaskState.OPEN, TaskState.LEASED], mine.who.tenant, most)
        return {
            "counts": {state: dict(by) for state, by in counts.items()},
            "waiting": [mine.row(task) for task in listed],
        }

    @routes.get("/report")
    @access(Role.REVIEWER, 503)
    def report(mine: Mine, days: Annotated[float, Query(gt=0, le=3660)] = 90.0) -> dict[str, Any]:
        """Return the review statistics of the bundles."""
        policy = mine.reviewing.policy_cache.policy(mine.who.tenant or "")
        since = service.clock() - days * 86_400.0
        found = mine.reviewing.operations.people(since, bound=policy.bound, delta=policy.delta, tenant=mine.who.tenant)
        return review_documents.people(found)

    @routes.get("/export", response_model=None, responses=also("application/x-ndjson"))
    @access(Role.REVIEWER, 503)
    def export(
        request: Request,
        mine: Mine,
        format: Literal["label-studio", "manifest"] = "label-studio",  # noqa: A002
    ) -> Response:
        """Export open and answered reviews for Label Studio (a list), or answered ones as a manifest (JSON lines)."""
        base = str(request.base_url).rstrip("/")
        found = exported(mine.reviewing.operations, format, AudioOf(f"{base}/v1/reviews/", "/audio"), mine.who.tenant)
        with translating_store_errors():
            first = next(found, None)  # errors are raised before the answer begins
        kind = "application/x-ndjson" if format == "manifest" else "application/json"
        return StreamingResponse(_written(first, found, lines=format == "manifest"), media_type=kind)

    importing: list[CapacityLimiter] = []

    @routes.post("/import")
    @access(Role.REVIEWER, 503, body=Body.IMPORT)
    async def take(request: Request, mine: Mine) -> dict[str, Any]:
        """Import answers from a Label Studio export."""
        body = await request.body()
        if not importing:  # created on first use, because a limiter belongs to a running event loop
            importing.append(CapacityLimiter(1))

        def work() -> Outcome:
            return imported(mine.reviewing.operations, read_json_list(body, Body.IMPORT.value.most_values), mine.who)

        outcome = await to_thread.run_sync(work, limiter=importing[0])
        mine.reviewing.counts.update({f"import_{cause}": count for cause, count in outcome.counts.items()})
        return {"counts": dict(outcome.counts), "refused": outcome.refused}

    return routes


def _written(first: dict[str, Any] | None, rest: Iterator[dict[str, Any]], *, lines: bool) -> Iterator[str]:
    if not lines:
        yield "["
    if first is not None:
        yield json.dumps(first) + ("\n" if lines else "")
        for item in rest:
            yield json.dumps(item) + "\n" if lines else ",\n" + json.dumps(item)
    if not lines:
        yield "]\n"
