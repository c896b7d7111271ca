"""Raw connections to a running server, and the server that most tests of its edge share."""

import json
import socket
import time
from collections.abc import Callable
from typing import Any

from tests.conftest import Server, StartServer
from tests.patience import PATIENCE_S

URL = "/v1/audio/transcriptions"
KEY = {"authorization": "Bearer sesame"}
UPGRADE = (
    b"Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def opened(server: Server, data: bytes = b"G") -> socket.socket:
    """A connection with something sent: until then it may not reach the process."""
    made = socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=PATIENCE_S)
    made.sendall(data)
    return made


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """The status and JSON of what comes until the server closes."""
    data = b""
    with connection:
        while part := connection.recv(65536):
            data += part
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else {}


def head(key: bytes = b"sesame", length: int = 900_000) -> bytes:
    """The head of an upload."""
    return (
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF' % (key, length)
    )


def keyed_server(start_server: StartServer) -> Server:
    """Start a server with keys, few connections and short time limits."""
    return start_server(
        bundle="scripted",
        workers="1",
        live_workers="1",
        api_keys='["sesame", "open"]',
        max_uploads="1",
        upload_min_rate="0",  # half uploads stay as long as a test needs them
        header_timeout_s="2",
        max_connections="40",
        log_level="debug",
    )
