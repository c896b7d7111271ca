"""Uploads and live sessions for `chaos.py`: what was acknowledged, what was refused, what hangs, what is wrong."""

import asyncio
import io
import json
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx
import numpy as np
import soundfile
from chaos_subject import ALONE, FOLLOWED, Subject
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, WebSocketException

BOUND_S = 90.0
"""Whoever asks has an answer, whatever it is, within this time."""

MOST_STATUSES = 200
PAUSE_S = 0.5
QUERY = "/v1/listen?encoding=linear16&sample_rate=16000&model=default"


@dataclass
class Acknowledged:
    """What the server has said that it has. Guarded by the load's lock."""

    sessions: dict[str, float] = field(default_factory=dict)  # answered with 200, and when
    feedback: list[str] = field(default_factory=list)  # 201
    jobs: dict[str, str] = field(default_factory=dict)  # 202: status address by id


class Load:
    """Threads that upload and speak until they are stopped."""

    def __init__(self, subject: Subject, audio: np.ndarray, uploaders: int, speakers: int) -> None:
        self._subject = subject
        self._samples = audio
        self.lock = threading.Lock()
        self.acknowledged = Acknowledged()
        self.counts: Counter[str] = Counter()
        self.hangs: list[str] = []
        self.wrong: list[str] = []
        self._stop = threading.Event()
        buffer = io.BytesIO()
        soundfile.write(buffer, audio, 16_000, format="FLAC")
        self._file = buffer.getvalue()
        self._expected = ""
        self._expected_live = ""
        self._threads = [
            *(threading.Thread(target=self._upload_on, args=(index,), daemon=True) for index in range(uploaders)),
            *(threading.Thread(target=self._speak_on, daemon=True) for _ in range(speakers)),
        ]

    def start(self) -> None:
        """Learn what undisturbed texts are, then go on for ever."""
        with self._client() as client:
            self._expected = self._upload(client, ALONE).json()["text"]
        self._expected_live, code = asyncio.run(self._speak())
        assert self._expected
        assert self._expected_live
        assert code == 1000
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; what hangs is counted."""
        self._stop.set()
        for thread in self._threads:
            thread.join(BOUND_S + 30)
            if thread.is_alive():
                self.hangs.append(f"{thread.name} never ended")

    # ---- uploads ----

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self._subject.url, timeout=BOUND_S, verify=False)

    def _upload(self, client: httpx.Client, key: str) -> httpx.Response:
        return client.post(
            "/v1/audio/transcriptions",
            files={"file": ("a.flac", self._file)},
            data={"model": "default", "response_format": "json"},
            headers={"Authorization": f"Bearer {key}"},
        )

    def _upload_on(self, index: int) -> None:
        key = FOLLOWED if index % 3 == 2 else ALONE
        client = self._client()
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                self._take(client, self._upload(client, key), key)
            except httpx.TimeoutException as error:
                if time.monotonic() - begun > BOUND_S - 5:
                    self.hangs.append(f"upload: {type(error).__name__} after {time.monotonic() - begun:.0f} s")
                    self._subject.process.send_signal(signal.SIGUSR1)  # its threads' stacks go to its log
                self._count("upload: no connection")
            except httpx.HTTPError as error:
                self._count(f"upload: {type(error).__name__}")
            if time.monotonic() - begun < PAUSE_S:
                time.sleep(PAUSE_S)

    def _take(self, client: httpx.Client, answer: httpx.Response, key: str) -> None:
        self._count(f"upload: {answer.status_code}")
        if answer.status_code == 202:
            body = answer.json()
            with self.lock:
                self.acknowledged.jobs[body["id"]] = body["status_url"]
        elif answer.status_code == 200:
            body = answer.json()
            warnings = [notice["code"] for notice in body["speechpipe"]["warnings"]]
            if body["text"] != self._expected and not any(code.startswith("segments_lost") for code in warnings):
                self.wrong.append(f"upload: {body['text']!r}, warnings {warnings}")
            session = body["speechpipe"]["id"]
            with self.lock:
                self.acknowledged.sessions[session] = time.monotonic()
            told = client.post(
                "/v1/feedback",
                json={"kind": "redo", "session_id": session},
                headers={"Authorization": f"Bearer {key}"},
            )
            self._count(f"feedback: {told.status_code}")
            if told.status_code == 201:
                with self.lock:
                    self.acknowledged.feedback.append(told.json()["id"])
        elif answer.status_code == 503 and "retry-after" not in answer.headers:
            self.wrong.append("upload: 503 without Retry-After")
        elif answer.status_code >= 500 and answer.status_code not in (503, 507):
            self.wrong.append(f"upload: {answer.status_code} {answer.text[:200]}")

    def lost_jobs(self) -> list[str]:
        """Return those that were promised and are not known any more."""
        with self.lock:
            jobs = list(self.acknowledged.jobs.items())[-MOST_STATUSES:]
        lost = []
        with self._client() as client:
            for id_, where in jobs:
                answer = client.get(where, headers={"Authorization": f"Bearer {FOLLOWED}"})
                if answer.status_code == 404:
                    lost.append(id_)
        return lost

    # ---- live ----

    async def _speak(self) -> tuple[str, int]:
        """Say everything; return the finals and the close code."""
        data = (self._samples * 32767).astype("<i2").tobytes()
        texts: list[str] = []
        where = self._subject.url.replace("http", "ws") + QUERY
        headers = {"Authorization": f"Token {ALONE}"}
        async with connect(where, compression=None, additional_headers=headers, open_timeout=BOUND_S) as socket:

            async def talk() -> None:
                for start in range(0, len(data), 6400):
                    await socket.send(data[start : start + 6400])
                    await asyncio.sleep(0.1)
                await socket.send('{"type": "CloseStream"}')

            talking = asyncio.create_task(talk())
            async for message in socket:
                found = json.loads(message)
                if found["type"] == "Results" and found["is_final"]:
                    text = found["channel"]["alternatives"][0]["transcript"]
                    texts += [text] if text else []
                    cause = found["speechpipe"].get("null_cause")
                    texts += [f"<{cause}>"] if cause not in (None, "empty") else []
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
            return " ".join(texts), socket.close_code or 1006

    def _speak_on(self) -> None:
        while not self._stop.is_set():
            try:
                text, code = asyncio.run(asyncio.wait_for(self._speak(), BOUND_S))
                self._count(f"live: {code}")
                if code == 1000 and text != self._expected_live and "<" not in text:
                    self.wrong.append(f"live: {text!r} instead of {self._expected_live!r}")
            except TimeoutError:
                self.hangs.append(f"live session: not over after {BOUND_S:g} s")
            except InvalidHandshake:
                self._count("live: refused")
                time.sleep(PAUSE_S)
            except (WebSocketException, OSError, EOFError):
                self._count("live: no connection")
                time.sleep(PAUSE_S)

    def _count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1
