"""The application: routes, errors, and the service's life tied to the server's."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI

from speechpipe import __version__
from speechpipe.api import errors, ops, upload
from speechpipe.service import Service

log = logging.getLogger(__name__)


def create_app(service: Service, on_failure: Callable[[BaseException], None]) -> FastAPI:
    """Return the application. The server answers `/livez` at once; `/readyz` says when the models are warm.

    Args:
        service: not yet started; the application starts and closes it.
        on_failure: called if the service cannot start.
    """

    async def start() -> None:
        try:
            await asyncio.to_thread(service.open)
        except Exception as error:  # noqa: BLE001 - the last handler of the start: the process must end and say why
            on_failure(error)
        else:
            log.info("ready: %s with %d workers", service.champion.id, service.settings.worker_count)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(start())
        yield
        await asyncio.to_thread(service.close, service.settings.drain_timeout_s)
        await starting

    app = FastAPI(title="speechpipe", version=__version__, lifespan=lifespan, docs_url="/docs", redoc_url=None)
    errors.install(app, service)
    app.include_router(ops.router(service))
    app.include_router(upload.router(service))
    return app
