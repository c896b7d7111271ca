"""The server that a tutorial gives: FastAPI, Silero's own VADIterator (ONNX), one PocketSphinx decoder per connection,
decoding on a thread when speech has ended. Written fairly: the same models and decoder settings, the same segment
parameters, nothing heavy on the event loop. It speaks just enough of our protocol for the same clients to measure it.

    python benchmarks/peer_server.py AUDIO...      # searches its capacity, side by side with ours
"""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pocketsphinx import Decoder

from speechpipe.bench import capacity
from speechpipe.bench.recordings import joined

RATE = 16_000
FRAME = 512
SETTINGS = {"fwdflat": False, "maxhmmpf": 3000, "topn": 2, "maxwpf": 10, "loglevel": "FATAL"}


class Listener:
    def __init__(self) -> None:
        from silero_vad import VADIterator, load_silero_vad

        self.vad = VADIterator(load_silero_vad(onnx=True), 0.5, RATE, min_silence_duration_ms=500, speech_pad_ms=300)
        self.decoder = Decoder(**SETTINGS)
        self.audio = np.zeros(0, np.float32)
        self.scored = 0
        self.start: int | None = None
        self.committed_s = 0.0

    def take(self, data: bytes) -> list[dict[str, object]]:
        """VAD and, when speech has ended, the decode; on a thread."""
        self.audio = np.concatenate([self.audio, np.frombuffer(data, "<i2").astype(np.float32) / 32768])
        messages = []
        while self.scored + FRAME <= len(self.audio):
            event = self.vad(self.audio[self.scored : self.scored + FRAME]) or {}
            self.scored += FRAME
            if "start" in event:
                self.start = max(0, int(event["start"]))
            if "end" in event and self.start is not None:
                messages.append(self.final(self.start, min(int(event["end"]), self.scored)))
                self.start = None
        return messages

    def final(self, start: int, end: int) -> dict[str, object]:
        pcm = (self.audio[start:end] * 32767).astype("<i2").tobytes()
        self.decoder.start_utt()
        self.decoder.process_raw(pcm, full_utt=True)
        self.decoder.end_utt()
        hypothesis = self.decoder.hyp()
        return self.result(hypothesis.hypstr if hypothesis else "", end / RATE, {"decided_at_s": self.scored / RATE})

    def result(self, text: str, until_s: float, ours: dict[str, object]) -> dict[str, object]:
        start, self.committed_s = self.committed_s, until_s
        alternatives = [{"transcript": text}]
        message = {"type": "Results", "is_final": True, "start": start, "duration": until_s - start}
        return message | {"channel": {"alternatives": alternatives}, "speechpipe": ours}


def application() -> FastAPI:
    app = FastAPI()

    @app.websocket("/v1/listen")
    async def listen(socket: WebSocket) -> None:
        await socket.accept()
        listener = await asyncio.to_thread(Listener)
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                if message.get("bytes") is None:
                    break
                for result in await asyncio.to_thread(listener.take, message["bytes"]):
                    await socket.send_text(json.dumps(result))
            if listener.start is not None:
                result = await asyncio.to_thread(listener.final, listener.start, len(listener.audio))
                await socket.send_text(json.dumps(result))
            await socket.send_text(json.dumps(listener.result("", len(listener.audio) / RATE, {})))
            await socket.send_text('{"type": "Metadata"}')
            await socket.close()
        except WebSocketDisconnect:
            return

    return app


def main() -> None:
    if sys.argv[1] == "--serve":
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        print("peer ready", flush=True)
        uvicorn.run(application(), port=port, ws="websockets-sansio", ws_per_message_deflate=False)
        return
    samples = joined([Path(name) for name in sys.argv[1:]])
    limit = capacity.limit_of_all_cores("embedded", samples)
    print(f"physical limit: {limit.sessions:.1f} sessions")
    ours = [sys.executable, "-m", "speechpipe", "serve"]
    peer = [sys.executable, str(Path(__file__).resolve()), "--serve"]
    variables = {
        "SPEECHPIPE_PORT": "0",
        "SPEECHPIPE_BUNDLE": "embedded",
        "SPEECHPIPE_WORKERS": "1",
        "SPEECHPIPE_LIVE_LOAD_LIMIT": "100",
    }
    variables["SPEECHPIPE_LIVE_WARM_STREAMS"] = str(round(limit.sessions / 2) + 2)
    variables["PYTHONPATH"] = str(Path(__file__).resolve().parents[1]) + os.pathsep + os.environ.get("PYTHONPATH", "")
    with tempfile.NamedTemporaryFile(suffix=".pcm") as file:
        Path(file.name).write_bytes((samples * 32767).astype("<i2").tobytes())
        for name, command, first in (("peer", peer, 3), ("ours", ours, int(0.7 * limit.sessions))):
            with capacity.served(command, **variables) as (url, _):
                where = url.replace("http", "ws") + capacity.QUERY + "embedded"

                def attempt(sessions: int, where: str = where, name: str = name) -> capacity.Point:
                    tally, stolen = capacity.trial(where, sessions, 20.0, 5.0, Path(file.name))
                    found = capacity.point(sessions, tally, stolen, 0.3)
                    times = f"p50 {1000 * found.final_p50_s:.0f} p95 {1000 * found.final_p95_s:.0f} ms"
                    print(f"{name}: {sessions} sessions: {times}, {found.lost} lost", flush=True)
                    return found

                points = capacity.search(attempt, first, 60)
            print(f"{name}: {max((point.sessions for point in points if point.held), default=0)} sessions held")


if __name__ == "__main__":
    main()
