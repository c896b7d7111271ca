"""`POST /v1/audio/transcriptions`, `/v1/audio/translations` and `GET /v1/models` for clients of OpenAI's API."""

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, BinaryIO

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from speechpipe.cascade.asr import TRANSLATION
from speechpipe.cascade.audio.source import ChannelChoice
from speechpipe.cascade.evaluation import captions
from speechpipe.cascade.request import new_session_id
from speechpipe.control.review.human_only import hand_over
from speechpipe.control.review.service import reviewing_of
from speechpipe.errors import Conflict, InvalidParameter, NotReady, SpeechpipeError
from speechpipe.interfaces.api.access import Body, Role, access, name
from speechpipe.interfaces.api.bodies import BodyPlaces, Stopping
from speechpipe.interfaces.api.errors import error_body
from speechpipe.interfaces.api.openai.form import UploadFields, read_form
from speechpipe.interfaces.api.review import jobs as review_jobs
from speechpipe.interfaces.api.sockets import MOST_USER, USER_HEADER
from speechpipe.serving.assignment import CANARY, CHAMPION_NAMES, MIRRORED, Choice
from speechpipe.serving.automation import Degree
from speechpipe.serving.automation.policy import NOT_FOLLOWED, EffectivePolicy
from speechpipe.serving.engine import Engine
from speechpipe.serving.routing import Assignment
from speechpipe.serving.service import Service
from speechpipe.serving.transcription import documents
from speechpipe.serving.transcription.transcriber import Result, Transcription, TranscriptionRequest
from speechpipe.types import Scalar

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The text, in the requested format.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/plain": {"schema": {"type": "string"}},
            "text/vtt": {"schema": {"type": "string"}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    },
    202: {"description": "A reviewer must answer first; `status_url` is where the answer will be."},
}

SHOWN = ("id", "bundle", "degree", "author", "accounting", "formatting", "warnings")


class EventStream(StreamingResponse):
    """Server-sent events that release the file and the admission however they end, even if they were never sent."""

    def __init__(self, upload: "Upload", events: AsyncIterator[str], held: contextlib.AsyncExitStack) -> None:
        unbuffered = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(events, headers=upload.headers | unbuffered, media_type="text/event-stream")
        self._upload = upload
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, then release file and admission."""
        async with self._held, self._upload.noticing_hangup():
            await super().__call__(scope, receive, send)


class Upload:
    """An upload in progress. `work`, `open` and event iteration run on a thread, everything else on the event loop."""

    def __init__(
        self, service: Service, request: Request, fields: UploadFields, tenant: str, *, translate: bool
    ) -> None:
        self._service = service
        self._request = request
        self._fields = fields
        self._gone = threading.Event()
        session_id = new_session_id()
        user = request.headers.get(USER_HEADER, "")[:MOST_USER]
        pin = service.engine.pin(tenant, user, session_id)
        choice = pin.choose(fields.model, fields.changes)
        if translate:
            choice = translating(service.engine, pin, choice, fields.changes)
        terms = service.terms(tenant, choice.bundle)
        self.asked = TranscriptionRequest(
            bundle=choice.bundle,
            choice=ChannelChoice(fields.channel, fields.multichannel, fields.track),
            language=fields.language,
            prompt=fields.prompt,
            hotwords=fields.terms,
            listed=service.hotwords(tenant),
            translate=translate,
            temperature=fields.temperature,
            tenant=tenant,
            max_s=service.settings.max_audio_s,
            id=session_id,
            arm=choice.arm,
            route=choice.route,
            terms=untouched(terms) if translate else terms,
        )
        self._formatter = service.formatter(fields.text, self.asked)
        callback = reviewing_of(service).callbacks.checked(fields.callback) if fields.callback else ""
        self.job = review_jobs.job(self.asked, fields, service.clock(), callback, request.scope.get("root_path", ""))

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every answer."""
        return {
            "x-request-id": self.asked.id,
            "x-speechpipe-bundle": self.asked.bundle.id,
            "x-speechpipe-degree": self.asked.terms.degree,
            "x-speechpipe-author": documents.AUTHOR,
        }

    def open(self, file: BinaryIO) -> Transcription:
        """Open the audio. Blocks: runs on a thread."""
        return Transcription(self._service, file, self.asked, self._gone.is_set)

    def work(self, file: BinaryIO) -> Result | None:
        """Transcribe the upload. Blocks: runs on a thread. Returns None if a reviewer must answer first."""
        if self.asked.terms.degree is Degree.HUMAN_ONLY:
            hand_over(self._service, file, self.asked, self.job)
            return None
        transcription = self.open(file)
        for _ in transcription.run():
            pass
        result = transcription.result
        return None if self._review(transcription, result) else result.written(self._formatter)

    def _review(self, transcription: Transcription, result: Result) -> bool:
        """Give the result to the review service; return whether the client must wait for a reviewer.

        Raises:
            StoreUnavailable: a reviewer must answer, and the task cannot be stored.
        """
        if not self.asked.terms.followed:
            return False
        reviewing = reviewing_of(self._service)
        sessions = transcription.completed(result)
        return reviewing.take(sessions, self.asked.terms, self.job, shadowed=MIRRORED in self.asked.route)

    @contextlib.asynccontextmanager
    async def noticing_hangup(self) -> AsyncIterator[None]:
        """While inside, signal the work to stop when the client disconnects."""

        async def watch() -> None:
            while (await self._request.receive())["type"] != "http.disconnect":
                pass
            self._gone.set()

        watcher = asyncio.create_task(watch())
        try:
            yield
        finally:
            watcher.cancel()

    def response(self, result: Result | None) -> Response:
        """Return the answer in the requested format, or the status URL."""
        fields = self._fields
        if result is None:
            return review_jobs.response(self.job, {**self.headers, "x-speechpipe-author": ""})
        headers = self.headers
        if result.notices:
            # Formats without a place for warnings carry them in a header, as ASCII JSON.
            headers["x-speechpipe-warnings"] = json.dumps([documents.notice(item) for item in result.notices])
        if fields.response_format == "text":
            return PlainTextResponse(result.text + "\n", headers=headers)
        if fields.response_format in ("srt", "vtt"):
            write: Callable[..., str] = captions.srt if fields.response_format == "srt" else captions.vtt
            text = write(captions.cues(utterance for _, utterance in result.utterances))
            kind = "text/vtt" if fields.response_format == "vtt" else "text/plain"
            return PlainTextResponse(text, headers=headers, media_type=kind)
        if fields.response_format == "verbose_json":
            granularities = frozenset(fields.timestamp_granularities or ["segment"])
            return JSONResponse(documents.verbose(result, _language(result), granularities), headers=headers)
        return JSONResponse(self._json(result), headers=headers)

    def _done(self, result: Result) -> dict[str, Any]:
        """Return the last event of a stream."""
        done: dict[str, Any] = {"type": "transcript.text.done", "text": result.text, "usage": documents.usage(result)}
        if self._fields.include:
            done["logprobs"] = documents.logprobs(result)
        warnings = [documents.notice(item) for item in result.notices]
        said = {"warnings": warnings, "degree": result.terms.degree, "author": documents.AUTHOR}
        said |= documents.written_as(result.text_options)
        return done | {"speechpipe": said}

    def _json(self, result: Result) -> dict[str, Any]:
        document: dict[str, Any] = {"text": result.text, "usage": documents.usage(result)}
        if self._fields.include:
            document["logprobs"] = documents.logprobs(result)
        details = documents.details(result)
        return document | {"speechpipe": {key: details[key] for key in SHOWN if key in details}}

    async def events(self, transcription: Transcription, limiter: CapacityLimiter) -> AsyncIterator[str]:
        """Yield server-sent events: a delta for each utterance, then the whole text."""
        utterances = transcription.run()
        spoken = False
        try:
            while (item := await to_thread.run_sync(next, utterances, None, limiter=limiter)) is not None:
                text = self._formatter.utterance(item[1]).transcript.text
                if text:
                    yield _event({"type": "transcript.text.delta", "delta": f" {text}" if spoken else text})
                    spoken = True
            result = transcription.result
            await to_thread.run_sync(self._review, transcription, result, limiter=limiter)
            yield _event(self._done(result.written(self._formatter)))
        except SpeechpipeError as error:
            self._service.refuse(error)
            yield _event(error_body(error))
        finally:
            utterances.close()

    def replayed(self, result: Result) -> Response:
        """Return the events of a result that was complete before any of it could be delivered."""
        texts = [utterance.transcript.text for _, utterance in result.utterances if utterance.transcript.text]
        deltas = [f" {text}" if number else text for number, text in enumerate(texts)]
        events = [_event({"type": "transcript.text.delta", "delta": delta}) for delta in deltas]
        events.append(_event(self._done(result)))
        return Response("".join(events), headers=self.headers, media_type="text/event-stream")


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def _language(result: Result) -> str:
    """Return the language of the text; of a bundle that knows several, the one that most utterances are in."""
    heard = Counter(one.transcript.language for _, one in result.utterances if one.transcript.language)
    known = result.bundle.languages[0]
    code = "en" if result.translated else heard.most_common(1)[0][0] if heard and known == "*" else known
    return {"en": "english"}.get(code, code)


def translating(engine: Engine, pin: Assignment, choice: Choice, changes: Mapping[str, Scalar]) -> Choice:
    """Return the choice for a translation: `choice`, or the champion where only a candidate cannot translate.

    Shadow gets no copy: its bundle may not translate, and texts in two languages cannot be compared.

    Raises:
        InvalidParameter: the bundle cannot translate; the message names some that can.
    """
    if TRANSLATION not in choice.bundle.asr.takes and choice.arm == CANARY:
        choice = pin.choose(engine.champion.id, changes)
    if TRANSLATION in choice.bundle.asr.takes:
        return replace(choice, route={name: value for name, value in choice.route.items() if name != MIRRORED})
    bundles = [engine.catalogue.bundle(name) for name in engine.catalogue.names]
    able = [one.name for one in bundles if TRANSLATION in one.asr.takes and not engine.catalogue.missing(one)]
    others = f"; {', '.join(able)} can" if able else "; speechpipe models pull multilingual fetches one that can"
    message = f"the model {choice.bundle.name!r} cannot translate{others}"
    raise InvalidParameter(message, param="model", cause="translation_not_supported")


def untouched(terms: EffectivePolicy) -> EffectivePolicy:
    """Return the terms of a translation: no person reviews it, because reviewers write what was said.

    Raises:
        Conflict: this tenant's texts must be reviewed.
    """
    if terms.degree is not Degree.FULL:
        message = f"translations are not reviewed, but this tenant is at {terms.degree}: ask for a transcription"
        raise Conflict(message, cause="person_required")
    return NOT_FOLLOWED


class Uploads:
    """Answers uploads. `arrivals`: places for arriving bodies; `stopping`: whether the server is stopping."""

    def __init__(self, service: Service, arrivals: BodyPlaces, stopping: Stopping) -> None:
        self._service = service
        self._arrivals = arrivals
        self._stopping = stopping
        self._limiter: CapacityLimiter | None = None

    @property
    def _threads(self) -> CapacityLimiter:
        # Created on first use, because a limiter belongs to a running event loop. One thread for each admitted upload.
        if self._limiter is None:
            self._limiter = CapacityLimiter(self._service.settings.max_uploads)
        return self._limiter

    async def answer(self, request: Request, tenant: str, *, translate: bool = False) -> Response:
        """Read an upload, transcribe or translate it, and return the answer."""
        if self._stopping:
            raise NotReady("the server is shutting down")
        service, limiter = self._service, self._threads
        service.admission.check(tenant)
        async with contextlib.AsyncExitStack() as held:
            with self._arrivals.place(tenant):
                file, fields = await read_form(request, service.settings, self._stopping)
            held.push_async_callback(file.close)
            if fields.model not in CHAMPION_NAMES and not service.engine.catalogue.knows(fields.model):
                await to_thread.run_sync(service.engine.catalogue.look_again)  # its card may have been added since
            upload = Upload(service, request, fields, tenant, translate=translate)
            held.enter_context(service.admission.admitted(tenant))
            if fields.stream and upload.asked.terms.degree is Degree.FULL:
                transcription = await to_thread.run_sync(upload.open, file.file, limiter=limiter)
                held.callback(transcription.close)
                response: Response = EventStream(upload, upload.events(transcription, limiter), held.pop_all())
            else:
                async with upload.noticing_hangup():
                    result = await to_thread.run_sync(upload.work, file.file, limiter=limiter)
                response = upload.response(result) if result is None or not fields.stream else upload.replayed(result)
        return response


def router(service: Service, arrivals: BodyPlaces, stopping: Stopping) -> APIRouter:
    """Return the routes. The arguments are those of `Uploads`."""
    routes = APIRouter(prefix="/v1")
    uploads = Uploads(service, arrivals, stopping)

    @routes.post("/audio/transcriptions", response_model=None, responses=ANSWERS)
    @access(Role.CALLER, body=Body.UPLOAD)
    async def transcriptions(request: Request, tenant: Annotated[str, Depends(name)]) -> Response:
        """Transcribe an uploaded file."""
        return await uploads.answer(request, tenant)

    @routes.post("/audio/translations", response_model=None, responses={200: ANSWERS[200]})
    @access(Role.CALLER, 409, body=Body.UPLOAD)
    async def translations(request: Request, tenant: Annotated[str, Depends(name)]) -> Response:
        """Translate an uploaded file into English text. The fields are those of a transcription."""
        return await uploads.answer(request, tenant, translate=True)

    @routes.get("/models")
    @access(Role.CALLER)
    def models() -> dict[str, Any]:
        """List the bundles. The first two names are aliases of the champion."""
        catalogue = service.engine.catalogue
        here = [item for item in catalogue.names if not catalogue.missing(catalogue.bundle(item))]
        names = [*CHAMPION_NAMES, *(item for item in here if item not in CHAMPION_NAMES)]
        return {"object": "list", "data": [_model(service, item) for item in names]}

    @routes.get("/models/{id_}")
    @access(Role.CALLER, 404)
    def model(id_: Annotated[str, Path(max_length=128)]) -> dict[str, Any]:
        """Describe one bundle."""
        return _model(service, id_)

    return routes


def _model(service: Service, name: str) -> dict[str, Any]:
    bundle = service.engine.bundle(name)
    created = int(service.engine.catalogue.card_of(bundle).path.stat().st_mtime)
    owned = {"id": name, "object": "model", "created": created, "owned_by": "speechpipe"}
    measured = documents.figures(service.engine.catalogue.figures(bundle))
    more = {"description": bundle.description, "takes": sorted(bundle.asr.takes), "figures": measured}
    return owned | {"speechpipe": documents.bundle(bundle) | more}
