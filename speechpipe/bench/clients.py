"""Paced live clients in a process of their own: `python -m speechpipe.bench.clients URL SESSIONS SECONDS WARM PCM`.

Each connection sends 100 ms of audio every 100 ms, as a microphone would, from a different position in the recording.
Latency is measured as users experience it: from sending the audio that decided the end of speech to receiving the text,
including the network, the VAD and every queue.
"""

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

STEP_S = 0.1
STEP_BYTES = 3200
STAGGER_S = 0.15
LAST_WORDS_S = 15.0


@dataclass
class Tally:
    """What all clients counted and measured."""

    opened: int = 0
    refused: int = 0
    reasons: list[str] = field(default_factory=list)  # of refusals
    broken: int = 0  # connections that ended without a close message
    finals: int = 0
    texts: list[list[str]] = field(default_factory=list)  # final texts of each session
    lost: int = 0  # gaps in the audio covered by finals, and failed finals
    late_steps: int = 0  # steps that the clients themselves sent late, which would distort the figures
    steps: int = 0
    final_s: list[float] = field(default_factory=list)
    endpoint_to_final_s: list[float] = field(default_factory=list)  # as reported by the server
    partial_lag_s: list[float] = field(default_factory=list)


class Speaker:
    """A client with one connection."""

    def __init__(self, url: str, audio: bytes, steps: int, tally: Tally, measure_from: float) -> None:
        self._url = url
        self._audio = audio
        self._steps = steps
        self._tally = tally
        self._measure_from = measure_from
        self._sent_at: list[float] = []
        self._covered_s = 0.0
        self._texts: list[str] = []
        self.bundle = ""  # the answering bundle, once connected
        self.connected_at = 0.0

    async def run(self) -> None:
        """Connect, send the audio, receive messages, and close."""
        try:
            async with connect(self._url, compression=None, max_size=None, ping_interval=None) as socket:
                self._tally.opened += 1
                self.connected_at = time.monotonic()
                if socket.response is not None:
                    self.bundle = socket.response.headers.get("x-speechpipe-bundle", "")
                listening = asyncio.create_task(self._listen(socket))
                await self._speak(socket)
                await socket.send('{"type": "CloseStream"}')
                await asyncio.wait_for(listening, LAST_WORDS_S)
        except InvalidHandshake as error:
            self._tally.refused += 1
            answer = getattr(error, "response", None)
            self._tally.reasons.append(
                (answer.body or b"").decode(errors="replace") if answer is not None else str(error)
            )
            return
        except (ConnectionClosed, TimeoutError, OSError):
            self._tally.broken += 1
        self._tally.texts.append(self._texts)

    async def _speak(self, socket: ClientConnection) -> None:
        begun = time.monotonic()
        for number in range(self._steps):
            due = begun + (number + 1) * STEP_S
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            self._tally.steps += 1
            self._tally.late_steps += time.monotonic() - due > STEP_S
            start = number * STEP_BYTES % len(self._audio)
            self._sent_at.append(time.monotonic())
            await socket.send(self._audio[start : start + STEP_BYTES])

    async def _listen(self, socket: ClientConnection) -> None:
        async for text in socket:
            message = json.loads(text)
            now = time.monotonic()
            if message["type"] == "Metadata":
                if self._steps * STEP_S - self._covered_s > STEP_S:
                    self._tally.lost += 1
                return
            if message["type"] == "Results":
                self._take(message, now)

    def _take(self, message: dict[str, Any], now: float) -> None:
        until_s, ours = message["start"] + message["duration"], message.get("speechpipe", {})
        measured = now > self._measure_from
        if not message["is_final"]:
            if measured:
                self._tally.partial_lag_s.append(now - self._when(until_s))
            return
        if abs(message["start"] - self._covered_s) > 0.01 or ours.get("null_cause") in (
            "timeout",
            "worker_crash",
            "worker_unavailable",
            "error",
        ):
            self._tally.lost += 1
        self._covered_s = until_s
        if (decided_s := ours.get("decided_at_s")) is None:
            return
        self._tally.finals += 1
        if spoken := message["channel"]["alternatives"][0]["transcript"]:
            self._texts.append(spoken)
        if measured:
            self._tally.final_s.append(now - self._when(decided_s))
            if "endpoint_to_final_s" in ours:
                self._tally.endpoint_to_final_s.append(ours["endpoint_to_final_s"])

    def _when(self, audio_s: float) -> float:
        """Return the monotonic time at which the audio up to `audio_s` had been sent."""
        index = max(0, -(-round(audio_s * 1000) // round(STEP_S * 1000)) - 1)
        return self._sent_at[min(index, len(self._sent_at) - 1)]


async def speak(url: str, sessions: int, seconds: float, warm_s: float, pcm: bytes) -> Tally:
    """Run `sessions` clients for `seconds` after all are connected; measure after another `warm_s`."""
    tally = Tally()
    ready = time.monotonic() + sessions * STAGGER_S
    length = len(pcm) // STEP_BYTES * STEP_BYTES
    tasks = []
    for number in range(sessions):
        offset = number * length // sessions // STEP_BYTES * STEP_BYTES
        turned = pcm[offset:length] + pcm[:offset]
        steps = round((ready + warm_s + seconds - time.monotonic()) / STEP_S)
        speaker = Speaker(url, turned, steps, tally, ready + warm_s)
        tasks.append(asyncio.create_task(speaker.run()))
        await asyncio.sleep(STAGGER_S)
    await asyncio.gather(*tasks)
    return tally


def main() -> None:
    """Read the arguments; print the tally as JSON."""
    url, sessions, seconds, warm_s, path = sys.argv[1:]
    with contextlib.suppress(KeyboardInterrupt):
        tally = asyncio.run(speak(url, int(sessions), float(seconds), float(warm_s), Path(path).read_bytes()))
        sys.stdout.write(json.dumps(asdict(tally)))


if __name__ == "__main__":
    main()
