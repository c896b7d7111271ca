"""Running the application under uvicorn."""

import asyncio
import logging
import socket
import sys

import uvicorn

from speechpipe.api.app import create_app
from speechpipe.assembly import build
from speechpipe.config import Settings
from speechpipe.live.hub import Hub

log = logging.getLogger("speechpipe")


MAX_MESSAGE_BYTES = 21 * 2**20
"""15 MiB of audio in base64 (OpenAI's limit) and what is around it; longer messages are answered with close 1009."""


SWITCH_S = 0.0005
"""A lane gives up Python's lock for every VAD call of a tenth of a millisecond; with the usual 5 ms until a busy thread
must hand it back, lanes would mostly wait for it."""


class _DrainingServer(uvicorn.Server):
    """Lets live sessions have their finals before connections are closed."""

    def __init__(self, config: uvicorn.Config, hub: Hub, drain_s: float) -> None:
        super().__init__(config)
        self._hub = hub
        self._drain_s = drain_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.to_thread(self._hub.close, self._drain_s)
        await super().shutdown(sockets)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; running uploads are finished first. Exits with 1 if the models do not load."""
    # uvicorn's line for each websocket has the query in it, and so the token that resumes somebody's session.
    logging.getLogger("uvicorn.error").addFilter(lambda record: "WebSocket" not in str(record.msg))
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    failures: list[BaseException] = []

    def failed(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    service = build(settings, live=True)
    hub = Hub(service)
    service.monitoring.add_source(hub.facts)
    app = create_app(service, hub, failed)
    sys.setswitchinterval(SWITCH_S)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        access_log=False,  # requests are in the metrics; a line for each would drown what matters
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout_s)),
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # sound does not compress, and the CPU is the recognizers'
    )
    server = _DrainingServer(config, hub, settings.drain_timeout_s)
    server.run()
    if failures:
        log.error("could not start: %s", failures[0])
        sys.exit(1)
