"""The FastAPI application: its routes, error handlers and middleware, and its lifespan, which runs the service."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI

from speechpipe import __version__
from speechpipe.app import training_operations
from speechpipe.cascade.catalog.first_use import Lines
from speechpipe.control.rollout.service import RolloutService
from speechpipe.control.training.service import TrainingService
from speechpipe.errors import FetchFailed
from speechpipe.interfaces.api import docs, errors, pages
from speechpipe.interfaces.api.access import operations_of
from speechpipe.interfaces.api.admin import automation, health, hotwords, ops, retrain, rollout, runbook
from speechpipe.interfaces.api.bodies import BodyPlaces, Stopping
from speechpipe.interfaces.api.deepgram import listen
from speechpipe.interfaces.api.edge import Edge
from speechpipe.interfaces.api.gate import Gate
from speechpipe.interfaces.api.openai import realtime, transcriptions
from speechpipe.interfaces.api.review import jobs as review_jobs
from speechpipe.interfaces.api.review import lists as review_lists
from speechpipe.interfaces.api.review import tasks as review_tasks
from speechpipe.monitor.exposition import GaugeRow
from speechpipe.serving.health.prober import Prober
from speechpipe.serving.live.manager import StreamManager
from speechpipe.serving.service import Service

log = logging.getLogger(__name__)


LOOP_BEAT_S = 0.1
"""The interval at which the lag of the event loop is measured."""


def create_app(
    service: Service,
    streams: StreamManager,
    on_failure: Callable[[BaseException], None],
    stopping: Stopping | None = None,
) -> FastAPI:
    """Return the application. It answers `/livez` at once, and `/readyz` with 200 when the models are loaded.

    Args:
        service: not yet started; the application starts and closes it.
        streams: the live streams of the service; started and closed likewise.
        on_failure: called if the service cannot start.
        stopping: set when the server begins to shut down.

    Raises:
        InvalidParameter: the probes or the retraining policy cannot be read.
    """
    stopping = Stopping() if stopping is None else stopping
    probing = Prober(service)
    rollouts = RolloutService(service)
    retraining = TrainingService(service, rollouts, lambda act: training_operations(service, act))
    app = FastAPI(
        title="speechpipe",
        version=__version__,
        lifespan=_lifespan(service, streams, on_failure, (probing, rollouts, retraining), stopping),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    errors.install(app, service)
    settings = service.settings
    arrivals = BodyPlaces(settings.max_uploads_arriving or 4 * settings.max_uploads, shared=bool(settings.api_keys))
    # Paths are matched in this order.
    routers = [
        ops.router(service, lambda: unready(arrivals, stopping)),
        health.router(service),
        transcriptions.router(service, arrivals, stopping),
        *(module.router(service) for module in (review_jobs, automation, hotwords, review_lists, review_tasks)),
        rollout.router(service, rollouts),
        retrain.router(service, retraining),
        pages.router(),
        runbook.router(),
        docs.router(app),
    ]
    operations = operations_of(routers)
    service.exposition.add_gauges(
        [GaugeRow("uploads_arriving", "Uploads whose bodies are arriving.", lambda: [((), float(arrivals.arriving))])]
    )
    for router in (*routers, listen.router(service, lambda: streams), realtime.router(service, lambda: streams)):
        app.include_router(router)
    docs.install(app, operations)
    app.add_middleware(Gate, service=service, operations=operations, uploads=arrivals, stopping=stopping)
    app.add_middleware(Edge, service=service, operations=operations, stopping=stopping)  # outermost: added last
    return app


def unready(arrivals: BodyPlaces, stopping: Stopping) -> list[str]:
    """Return why no upload would be accepted now, in addition to the service's own reasons."""
    reasons = ["shutting down"] if stopping else []
    return [*reasons, "the limit of arriving uploads is reached"] if arrivals.full else reasons


class _Fetching(Lines):
    """Logs what is fetched at the start, and ends it when the server shuts down."""

    def __init__(self, stopping: Stopping) -> None:
        super().__init__(log.info)
        self._stopping = stopping

    def stopped(self) -> bool:
        return bool(self._stopping)


def _lifespan(
    service: Service,
    streams: StreamManager,
    on_failure: Callable[[BaseException], None],
    parts: tuple[Prober, RolloutService, TrainingService],
    stopping: Stopping,
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return the lifespan, which starts and closes the service, within `drain_timeout_s` of SIGTERM."""
    probing, rollouts, retraining = parts

    def close_service() -> None:
        since = stopping.since if stopping.since is not None else time.monotonic()
        service.close(max(0.0, since + service.settings.drain_timeout_s - time.monotonic()))

    async def start() -> None:
        try:
            await asyncio.to_thread(service.fetch_weights, _Fetching(stopping))
            await asyncio.to_thread(service.open, rollouts.restore)
            streams.start()
        except Exception as error:  # noqa: BLE001 - any failure of the start must end the process with its message
            if not (stopping and isinstance(error, FetchFailed)):  # not a failure: it was told to stop
                on_failure(error)
        else:
            probing.start()
            rollouts.start()
            retraining.start()
            settings = service.settings
            workers = (settings.worker_count, settings.live_worker_count)
            log.info("ready: %s with %d workers for files and %d for live audio", service.engine.champion.id, *workers)

    async def watch_loop() -> None:
        """Measure the lag of the event loop: the largest of the last seconds, decaying."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(LOOP_BEAT_S)
            streams.note_loop_lag(time.monotonic() - before - LOOP_BEAT_S)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        starting, watching = asyncio.create_task(start()), asyncio.create_task(watch_loop())
        yield
        watching.cancel()
        for close in (probing.close, retraining.close, rollouts.close, close_service):
            try:
                await asyncio.to_thread(close)
            except Exception:  # the other parts must be closed too
                log.exception("a part of the server could not be closed cleanly")
        await starting

    return lifespan
