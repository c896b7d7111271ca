"""Runs the application under uvicorn."""

import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
import time

import uvicorn
from fastapi import FastAPI

from speechpipe.app import build
from speechpipe.config import Settings, check_state_dir
from speechpipe.errors import BadInput, FetchFailed, InvalidParameter, UnknownName
from speechpipe.foundation.system import bound_heaps
from speechpipe.interfaces.api.app import create_app
from speechpipe.interfaces.api.bodies import Stopping
from speechpipe.interfaces.api.connection_limits import Limits, most_connections
from speechpipe.interfaces.api.connection_registry import Connections
from speechpipe.interfaces.api.connections import protocols
from speechpipe.interfaces.api.hosts import is_loopback
from speechpipe.interfaces.api.listening import open_sockets, url_of
from speechpipe.interfaces.api.websocket_protocol import limited
from speechpipe.monitor.exposition import GaugeRow
from speechpipe.serving.health.service import monitoring_of
from speechpipe.serving.live.budget import ByteBudget
from speechpipe.serving.live.manager import StreamManager
from speechpipe.serving.service import Service

log = logging.getLogger("speechpipe")


MESSAGE_BYTES = {"/v1/listen": 4 * 2**20, "/v1/realtime": 21 * 2**20}
"""The largest message by path; longer ones close the connection with 1009. Realtime: OpenAI's limit of 15 MiB of audio,
in base64, and the event around it. All connections together have a limit of their own (`LIVE_MAX_HELD_BYTES`)."""


SWITCH_S = 0.0005
"""The interpreter's switch interval. Live threads release the interpreter lock for every VAD call, which takes a tenth
of a millisecond; with the default of 5 ms, they would mostly wait to get it back."""

SHORT_KEY = 16
"""Characters of a key that count as short: 96 bits in base64."""

SUPPRESSED_LINES = (
    '%s - "WebSocket',
    "connection ",
    "HTTP response sent",
    "Invalid HTTP request",
    "Invalid UTF-8 sequence",
    "Unsupported upgrade",
    "No supp",
)
"""Log lines of uvicorn and websockets that any client can cause by the thousand; metrics count these events. The first
one also contains the query of a websocket, and so the token that resumes a session."""

VERBOSE_LIBRARIES = ("uvicorn", "websockets", "httpx", "httpcore", "h11", "python_multipart", "asyncio")


LAST_S = 20.0
"""After SIGTERM the process exits at the latest this long after `drain_timeout_s`."""


def _end_at_once() -> None:
    log.critical("not everything could be closed in time; the process exits now. Stacks of all threads:")
    faulthandler.dump_traceback()
    os._exit(1)


class _DrainingServer(uvicorn.Server):
    """A uvicorn server that first lets live sessions get their finals and uploads their answers."""

    def __init__(self, config: uvicorn.Config, streams: StreamManager, stopping: Stopping, settings: Settings) -> None:
        super().__init__(config)
        self._streams = streams
        self._stopping = stopping
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            _greet(self._settings, url_of(self._settings.host, sockets))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        drain_s = self._settings.drain_timeout_s
        until = time.monotonic() + drain_s
        self._stopping.begin()
        watchdog = threading.Timer(drain_s + LAST_S, _end_at_once)
        watchdog.daemon = True
        watchdog.start()
        await asyncio.to_thread(self._streams.close, drain_s)
        self.config.timeout_graceful_shutdown = max(1, round(until - time.monotonic()))
        await super().shutdown(sockets)


def check_address(settings: Settings) -> str:
    """Return the log line about authentication.

    Raises:
        InvalidParameter: without keys, the address can be reached from other machines, and this is not confirmed.
    """
    if settings.api_keys:
        return f"authentication: on ({len(settings.api_keys)} API keys)"
    if is_loopback(settings.host):
        return "authentication: off (loopback only)"
    if settings.insecure:
        return f"authentication: OFF, and {settings.host} can be reached from other machines (SPEECHPIPE_INSECURE)"
    message = (
        f"not started: without API keys, anyone who can reach {settings.host} has full access. "
        "Set SPEECHPIPE_API_KEYS, listen on 127.0.0.1, or set SPEECHPIPE_INSECURE=1 if this is intended"
    )
    raise InvalidParameter(message, param="host")


def _greet(settings: Settings, url: str) -> None:
    """Log the URLs of the server. The models are loading meanwhile; `/readyz` tells when they are loaded."""
    log.info("running on %s (Ctrl-C stops it)", url)
    for what, path in (("dashboard", "/"), ("speak", "/live"), ("review", "/review"), ("API", "/docs")):
        log.info("%-9s %s%s", what, url, path)
    log.info("%s", check_address(settings))
    if short := sum(len(key) < SHORT_KEY for key in settings.api_keys):
        log.warning("%d of the API keys are shorter than %d characters and can be guessed", short, SHORT_KEY)
    log.info("loading %s ...", ", ".join(settings.preloaded_bundles))


def run(settings: Settings) -> None:
    """Serve until SIGTERM, SIGHUP or SIGINT; running uploads are finished first.

    Exits with 1 if the models cannot be loaded, with 2 if weights are missing and cannot be fetched.

    Raises:
        BadInput: the address needs API keys or is not available, the state directory is not writable, or a bundle
            is unknown, or the probes or the retraining policy cannot be read.
    """
    bound_heaps()
    _drain_on_hangup()
    check_address(settings)
    os.umask(0o077)  # recordings are readable by the server's user only
    check_state_dir(settings)
    sockets = open_sockets(settings.host, settings.port)
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    quiet_libraries()
    failures: list[BaseException] = []

    def failed(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    stopping = Stopping()
    try:
        service = build(settings, live=True)
        streams = StreamManager(service)
        monitoring_of(service).add_source(streams.facts)
        app = create_app(service, streams, failed, stopping)
    except UnknownName as error:
        raise BadInput(f"SPEECHPIPE_BUNDLE, SPEECHPIPE_PRELOAD or --bundle: {error.message}") from error
    except InvalidParameter as error:
        raise BadInput(f"SPEECHPIPE_{(error.param or '').upper()}: {error.message}") from error
    sys.setswitchinterval(SWITCH_S)
    server = _DrainingServer(_configured(app, service, streams.budget), streams, stopping, settings)
    server.run(sockets)
    if failures:
        log.error("could not start: %s", failures[0])
        sys.exit(2 if isinstance(failures[0], FetchFailed | BadInput) else 1)


def _drain_on_hangup() -> None:
    """Treat SIGHUP, which a closed terminal sends, as SIGTERM. Where it is ignored (`nohup`), it stays ignored."""
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def quiet_libraries() -> None:
    """Keep secrets that clients send out of the log: at `debug`, libraries log whole request heads."""
    logging.getLogger("uvicorn.error").addFilter(lambda record: not str(record.msg).startswith(SUPPRESSED_LINES))
    logging.getLogger("alembic").setLevel(logging.WARNING)  # ten lines at each start
    for name in VERBOSE_LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger().level))


def _configured(app: FastAPI, service: Service, budget: ByteBudget) -> uvicorn.Config:
    settings = service.settings
    most, lingering = most_connections(settings)
    per_address = settings.max_connections_per_address
    limits = Limits(most, lingering, per_address, settings.header_timeout_s, settings.send_timeout_s)
    connections = Connections(limits, service.refusals.add_cause)
    service.exposition.add_gauges(
        [
            GaugeRow("connections_open", "Connections of clients.", lambda: [((), float(len(connections)))]),
            GaugeRow("connections_limit", "Connections that may be open.", lambda: [((), float(most))]),
        ]
    )
    bounded = limited(budget, MESSAGE_BYTES, lambda: service.refusals.add_cause("message_memory"))
    http, sockets = protocols(connections, bounded)
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level="info" if settings.log_level.lower() == "debug" else settings.log_level,
        access_log=False,  # requests are counted in the metrics
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout_s)),
        http=http,
        ws=sockets,
        ws_max_size=max(MESSAGE_BYTES.values()),
        ws_ping_timeout=None,  # clients that send too fast answer pings late; LIVE_IDLE_TIMEOUT_S applies instead
        ws_per_message_deflate=False,  # audio does not compress, and the CPU is needed by the recognizers
    )
