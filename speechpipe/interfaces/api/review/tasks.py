"""HTTP routes of one review task: claim, audio, draft of the answer, answer."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from speechpipe.control.review import TaskState
from speechpipe.control.review import documents as review_documents
from speechpipe.control.review.service import ReviewService, reviewing_of
from speechpipe.control.review.task_repository import Reviewer
from speechpipe.control.review.tasks import Task
from speechpipe.interfaces.api import auth
from speechpipe.interfaces.api.access import Body, Role, access, also
from speechpipe.serving.service import Service

MOST_STEP_S = 3600.0

Id = Annotated[str, Path(max_length=64)]
Seconds = Annotated[float, Field(ge=0, le=MOST_STEP_S, allow_inf_nan=False)]


class ReviewContext:
    """The reviewer of a request with the review service."""

    def __init__(self, reviewing: ReviewService, who: Reviewer) -> None:
        self.reviewing = reviewing
        self.who = who

    def task(self, id_: str) -> Task:
        """Return a task that this reviewer may see; see `ReviewOperations.task` for errors."""
        return self.reviewing.operations.task(id_, self.who)

    def shown(self, task: Task) -> dict[str, Any]:
        """Return a task as the reviewer sees it."""
        return review_documents.task(task, self.reviewing.policy_cache.policy(task.tenant).doubt)

    def row(self, task: Task) -> dict[str, Any]:
        """Return a task as a row of a list; `audio_here`: whether this server has its audio."""
        return review_documents.row(task) | {"audio_here": self.reviewing.audio.path(task.id) is not None}


def context_of(service: Service) -> Callable[..., ReviewContext]:
    """Return the dependency that gives routes the context."""

    def context(request: Request) -> ReviewContext:
        return ReviewContext(reviewing_of(service), request.state.who)

    return context


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Claim(_Body):
    """The reviewer's display name."""

    reviewer: str = Field("", max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")


class Held(_Body):
    """The lease of a task."""

    lease: str = Field(min_length=1, max_length=64)
    step_s: Seconds = 0.0  # working time since the last request


class Renewal(Held):
    """A renewal, with the draft of the answer if there is one."""

    segments: list[Any] | None = None


class Submission(Held):
    """The answer."""

    segments: list[Any]


class Skip(Held):
    """The reason for skipping."""

    reason: str = Field(max_length=32)
    note: str = Field("", max_length=500)


def router(service: Service) -> APIRouter:
    """Return the routes. An API key gives access to its own tenant's tasks, a reviewer's key to all."""
    routes = APIRouter(prefix="/v1/reviews")

    Mine = Annotated[ReviewContext, Depends(context_of(service))]  # noqa: N806 - a type

    _claim_route(routes, service)

    @routes.get("/{id_}")
    @access(Role.REVIEWER, 404, 409, 503)
    def task(id_: Id, lease: Annotated[str, Query(max_length=64)], mine: Mine) -> dict[str, Any]:
        """Return a task to the holder of its lease."""
        return mine.shown(mine.reviewing.operations.held(id_, mine.who, lease))

    @routes.post("/{id_}/renew")
    @access(Role.REVIEWER, 404, 409, 503, body=Body.ANSWER)
    def renew(id_: Id, body: Renewal, mine: Mine) -> dict[str, Any]:
        """Extend a lease, and store the draft of the answer."""
        until = mine.reviewing.operations.renew(id_, mine.who, body.lease, body.segments, body.step_s)
        return {"leased_until": until}

    @routes.post("/{id_}/release")
    @access(Role.REVIEWER, 404, 409, 503, body=Body.JSON)
    def release(id_: Id, body: Held, mine: Mine) -> dict[str, Any]:
        """Return a task to the queue."""
        mine.reviewing.operations.release(id_, mine.who, body.lease)
        return {"state": TaskState.OPEN}

    @routes.post("/{id_}/skip")
    @access(Role.REVIEWER, 404, 409, 503, body=Body.JSON)
    def skip(id_: Id, body: Skip, mine: Mine) -> dict[str, Any]:
        """Skip a task that the reviewer cannot do."""
        found = mine.reviewing.operations.skip(id_, mine.who, body.lease, body.reason, body.note)
        mine.reviewing.counts[f"skipped_{body.reason}"] += 1
        if found.state.over:
            mine.reviewing.callbacks.wake()
        return {"state": found.state}

    @routes.post("/{id_}/submit")
    @access(Role.REVIEWER, 404, 409, 503, body=Body.ANSWER)
    def submit(id_: Id, body: Submission, mine: Mine) -> dict[str, Any]:
        """Submit the answer to a task; it is stored before this responds. Repeating it has no effect."""
        done = mine.reviewing.operations.submit(id_, mine.who, body.lease, body.segments, body.step_s)
        compared = done.compared.get("units", ())
        edits, words = (sum(unit[name] for unit in compared) for name in ("edits", "words"))
        return {"state": done.state, "edits": edits, "words": words, "work_s": done.work_s}

    _audio_route(routes, service)
    return routes


def _claim_route(routes: APIRouter, service: Service) -> None:
    @routes.post("/claim", response_model=None, responses={204: {"description": "There is no task."}})
    @access(Role.REVIEWER, 503, body=Body.JSON)
    def claim(body: Claim, request: Request) -> Any:
        """Lease the most urgent task whose audio is on this server; 204 if there is none."""
        mine = ReviewContext(
            reviewing_of(service),
            auth.reviewer(request.headers.get("authorization"), service.settings, body.reviewer.strip()),
        )
        found = mine.reviewing.claim(mine.who)
        return Response(status_code=204) if found is None else mine.shown(found)


def _audio_route(routes: APIRouter, service: Service) -> None:
    Mine = Annotated[ReviewContext, Depends(context_of(service))]  # noqa: N806 - a type

    @routes.get("/{id_}/audio", response_class=FileResponse, response_model=None, responses=also("audio/flac"))
    @access(Role.REVIEWER, 404, 503)
    def audio(id_: Id, mine: Mine) -> Response:
        """Return the audio of a task: FLAC, 16 kHz, mono."""
        path = mine.reviewing.audio_of(mine.task(id_))
        headers = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
        return FileResponse(path, media_type="audio/flac", headers=headers)
