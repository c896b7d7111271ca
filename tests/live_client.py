"""A plain websocket client for tests, and audio that is cheap to tell apart."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from speechpipe.types import Samples
from tests.conftest import Server
from tests.patience import PATIENCE_S
from tests.sounds import EXPECTED, sample

Message = dict[str, Any]
STEP = 3200  # bytes: a tenth of a second


def pcm(samples: Samples) -> bytes:
    """Return 16-bit PCM."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def spoken(*names: str, gap_s: float = 0.8) -> Samples:
    """Return clips of speech with silence after each."""
    return np.concatenate(
        [part for name in names for part in (sample(name), np.zeros(round(gap_s * 16_000), np.float32))]
    )


CLIPS = [name for name, entry in EXPECTED.items() if entry.get("text")][:6]
TWO = pcm(spoken(*CLIPS[:2]))


class Client:
    """One connection to /v1/listen."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.messages: list[Message] = []

    async def send(self, data: bytes, step: int = STEP) -> None:
        """Send as fast as the server takes it."""
        for start in range(0, len(data), step):
            await self.socket.send(data[start : start + step])

    async def say(self, kind: str) -> None:
        """Send a text message of that type."""
        await self.socket.send(json.dumps({"type": kind}))

    async def until(self, wanted: Callable[[Message], bool]) -> Message:
        """Read on until a message is what is wanted."""
        while True:
            message: Message = json.loads(await asyncio.wait_for(self.socket.recv(), PATIENCE_S))
            self.messages.append(message)
            if wanted(message):
                return message

    async def close(self) -> tuple[int | None, str]:
        """Read to the end; return close code and reason."""
        try:
            while True:
                self.messages.append(json.loads(await asyncio.wait_for(self.socket.recv(), PATIENCE_S)))
        except ConnectionClosed:
            return self.socket.close_code, self.socket.close_reason or ""

    @property
    def finals(self) -> list[Message]:
        """Final results so far."""
        return [message for message in self.messages if message["type"] == "Results" and message["is_final"]]

    @property
    def texts(self) -> list[str]:
        """What was said."""
        return [text for message in self.finals if (text := transcript(message))]


def transcript(message: Message) -> str:
    """Return the text of a Results message."""
    return str(message["channel"]["alternatives"][0]["transcript"])


def of_type(kind: str) -> Callable[[Message], bool]:
    """Whether a message is of that type."""
    return lambda message: message["type"] == kind


@asynccontextmanager
async def listening(server: Server, **query: object) -> AsyncIterator[Client]:
    """Connect; linear16 at 16 kHz unless said otherwise."""
    asked = {"encoding": "linear16", "sample_rate": 16_000} | query
    params = urlencode(
        {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in asked.items()
            if value is not None
        },
        doseq=True,
    )
    url = server.url.replace("http", "ws") + f"/v1/listen?{params}"
    async with connect(url, max_size=None, compression=None, open_timeout=PATIENCE_S, ping_interval=None) as socket:
        yield Client(socket)


async def whole(server: Server, data: bytes, **query: object) -> Client:
    """Send everything, close the stream, read everything."""
    async with listening(server, **query) as client:
        await client.send(data)
        await client.say("CloseStream")
        await client.close()
        return client


def is_final(message: Message) -> bool:
    """Whether this range of time will not change any more."""
    return bool(message["type"] == "Results" and message["is_final"])
