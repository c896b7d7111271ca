"""Running the application under uvicorn."""

import logging
import sys

import uvicorn

from speechpipe.api.app import create_app
from speechpipe.config import Settings
from speechpipe.service import build

log = logging.getLogger("speechpipe")


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; running uploads are finished first. Exits with 1 if the models do not load."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    failures: list[BaseException] = []

    def failed(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    app = create_app(build(settings, with_store=True), failed)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        access_log=False,  # requests are in the metrics; a line for each would drown what matters
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout_s)),
        ws="none",
    )
    server = uvicorn.Server(config)
    server.run()
    if failures:
        log.error("could not start: %s", failures[0])
        sys.exit(1)
