"""The application: routes, errors, and the service's life tied to the server's."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI

from speechpipe import __version__
from speechpipe.api import (
    automation,
    errors,
    health,
    listen,
    ops,
    pages,
    realtime,
    retrain,
    review_lists,
    reviews,
    rollout,
    upload,
    waiting,
)
from speechpipe.live.hub import Hub
from speechpipe.probing import Probing
from speechpipe.retraining import Retraining
from speechpipe.rollouts import Rollouts
from speechpipe.service import Service

log = logging.getLogger(__name__)


LOOP_BEAT_S = 0.1


def create_app(service: Service, hub: Hub, on_failure: Callable[[BaseException], None]) -> FastAPI:
    """Return the application. The server answers `/livez` at once; `/readyz` says when the models are warm.

    Args:
        service: not yet started; the application starts and closes it.
        hub: its live streams, likewise.
        on_failure: called if the service cannot start.
    """
    probing = Probing(service)
    rollouts = Rollouts(service)
    retraining = Retraining(service, rollouts)

    async def start() -> None:
        try:
            await asyncio.to_thread(service.open, rollouts.restore)
            hub.start()
        except Exception as error:  # noqa: BLE001 - the last handler of the start: the process must end and say why
            on_failure(error)
        else:
            probing.start()
            rollouts.start()
            retraining.start()
            settings = service.settings
            workers = (settings.worker_count, settings.live_worker_count)
            log.info("ready: %s with %d workers for files and %d for live audio", service.champion.id, *workers)

    async def watch_loop() -> None:
        """Measure how late the event loop is: the longest of the last seconds, fading."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(LOOP_BEAT_S)
            late_s = time.monotonic() - before - LOOP_BEAT_S
            hub.loop_lag_s = max(late_s, hub.loop_lag_s * 0.98)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        starting, watching = asyncio.create_task(start()), asyncio.create_task(watch_loop())
        yield
        watching.cancel()
        await asyncio.to_thread(probing.close)
        await asyncio.to_thread(retraining.close)
        await asyncio.to_thread(rollouts.close)
        await asyncio.to_thread(service.close, service.settings.drain_timeout_s)
        await starting

    app = FastAPI(title="speechpipe", version=__version__, lifespan=lifespan, docs_url="/docs", redoc_url=None)
    errors.install(app, service)
    plain = (ops, health, upload, waiting, automation, review_lists, reviews)  # in this order are paths looked up
    for routes in (
        *(module.router(service) for module in plain),
        rollout.router(service, rollouts),
        retrain.router(service, retraining),
        pages.router(),
        listen.router(service, lambda: hub),
        realtime.router(service, lambda: hub),
    ):
        app.include_router(routes)
    return app
