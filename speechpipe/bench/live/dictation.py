"""One live session over the websocket `/v1/listen`: audio at the pace of a microphone, and the final texts."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

STEP_S = 0.1
STEP_BYTES = 3200
LAST_WORDS_S = 60.0


@dataclass
class Heard:
    """What the service answered to one session, by whatever interface.

    Attributes:
        session: its id; empty if it was refused.
        answers: (id, text) of each utterance, in order.
        wait_s: seconds that the client waited: for the answer to an upload, or the longest from endpoint to final.
        error: why it failed; empty if it did not.
    """

    session: str = ""
    answers: list[tuple[str, str]] = field(default_factory=list)
    wait_s: float = 0.0
    error: str = ""


async def dictate(url: str, pcm: bytes, headers: Mapping[str, str]) -> Heard:
    """Send 16-bit samples at 16 kHz in real time; return what was heard. Does not raise for a failed connection."""
    heard = Heard()
    try:
        async with connect(
            url, additional_headers=dict(headers), compression=None, max_size=None, ping_interval=None, open_timeout=30
        ) as socket:
            if socket.response is not None:
                heard.session = socket.response.headers.get("dg-request-id", "")
            listening = asyncio.create_task(_listen(socket, heard))
            try:
                await _speak(socket, pcm)
                await asyncio.wait_for(listening, LAST_WORDS_S)
            finally:
                listening.cancel()
    except (ConnectionClosed, InvalidHandshake, TimeoutError, OSError) as error:
        heard.error = f"{type(error).__name__}: {error}"
    return heard


async def _speak(socket: ClientConnection, pcm: bytes) -> None:
    clock = asyncio.get_running_loop().time
    begun = clock()
    for number, start in enumerate(range(0, len(pcm), STEP_BYTES), 1):
        await asyncio.sleep(max(0.0, begun + number * STEP_S - clock()))
        await socket.send(pcm[start : start + STEP_BYTES])
    await socket.send('{"type": "CloseStream"}')


async def _listen(socket: ClientConnection, heard: Heard) -> None:
    async for text in socket:
        message: dict[str, Any] = json.loads(text)
        if message["type"] == "Error":
            heard.error = f"{message.get('variant')}: {message.get('description')}"
        if message["type"] == "Metadata":
            return
        ours = message.get("speechpipe", {})
        if message["type"] == "Results" and message["is_final"] and "id" in ours:
            heard.answers.append((ours["id"], message["channel"]["alternatives"][0]["transcript"]))
            heard.wait_s = max(heard.wait_s, float(ours.get("endpoint_to_final_s", 0.0)))
