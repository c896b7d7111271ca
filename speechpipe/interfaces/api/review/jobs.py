"""Uploads that wait for a reviewer: a 202 with the status URL, then the answer."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse, Response

from speechpipe.control.review import documents as review_documents
from speechpipe.control.review.job_repository import DONE, FAILED, Job
from speechpipe.control.review.service import reviewing_of
from speechpipe.errors import NotAnswered
from speechpipe.interfaces.api.access import Role, access, also, name
from speechpipe.interfaces.api.openai.form import UploadFields
from speechpipe.serving.service import Service
from speechpipe.serving.text import TextOptions
from speechpipe.serving.text.formatter import TextFormatter
from speechpipe.serving.transcription.transcriber import TranscriptionRequest

PREFIX = "/v1/audio/transcriptions"
RETRY_AFTER_S = 15

CAUSES = {
    "audio_expired": "its audio was deleted before a reviewer answered",
    "nobody_could": "several reviewers could not understand it",
}


def job(asked: TranscriptionRequest, fields: UploadFields, now: float, callback: str, prefix: str = "") -> Job:
    """Return the job of an upload that a reviewer may have to answer. `prefix`: the path prefix of a proxy."""
    document = {
        "status_url": f"{prefix}{PREFIX}/{asked.id}",
        "format": fields.response_format,
        "degree": asked.terms.degree,
        "bundle": asked.bundle.id,
        "language": asked.bundle.languages[0],
        "spoken": asked.language or "",
        "text": fields.text.document(),
    }
    return Job(asked.id, asked.tenant, now, document, callback)


def response(found: Job, headers: dict[str, str], done: int = 0, of: int = 0) -> Response:
    """Return the 202 answer with the status URL; `done` of `of` parts are answered."""
    body: dict[str, Any] = {"id": found.id, "status": found.state, "status_url": found.document["status_url"]}
    body["speechpipe"] = {"degree": found.document["degree"], "author": None, "answered": done, "parts": of or None}
    more = {"Location": found.document["status_url"], "Retry-After": str(RETRY_AFTER_S)}
    return JSONResponse(body, 202, headers | more)


def _writer(service: Service, found: Job) -> Callable[[str], str]:
    """Return what writes the reviewer's texts as the client of the upload asked."""
    document = found.document
    languages = (str(document["language"]),)
    options = TextOptions.of(document.get("text", {}))
    return TextFormatter(options, languages, document.get("spoken"), service.profanity, found.tenant).text


def router(service: Service) -> APIRouter:
    """Return the route."""
    routes = APIRouter(prefix=PREFIX)

    @routes.get(
        "/{id_}", response_model=None, responses=also("text/plain", "text/vtt") | {202: {"description": "It waits."}}
    )
    @access(Role.CALLER, 404, 410, 503)
    def status(id_: Annotated[str, Path(max_length=64)], tenant: Annotated[str, Depends(name)]) -> Response:
        """Return the text of an upload that waited for a reviewer; 202 while it still does."""
        found, tasks = reviewing_of(service).operations.waiting(id_, tenant)
        if found.state == FAILED:
            raise NotAnswered(f"{id_} has no answer: {CAUSES[found.cause]}", cause=found.cause)
        headers = {"x-request-id": id_, "x-speechpipe-bundle": found.document["bundle"]}
        if found.state != DONE:
            return response(found, headers, sum(task.state.over for task in tasks), len(tasks))
        answer = review_documents.answer(found, tasks, _writer(service, found))
        headers |= {"x-speechpipe-degree": answer["degree"], "x-speechpipe-author": answer["author"]}
        if (text := review_documents.captioned(found, answer)) is not None:
            kind = "text/vtt" if found.document["format"] == "vtt" else "text/plain"
            return Response(text, headers=headers, media_type=kind)
        return JSONResponse(review_documents.transcription(found, answer), headers=headers)

    return routes
