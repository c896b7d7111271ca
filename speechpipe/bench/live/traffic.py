"""Paced traffic: uploads and live sessions of many speakers, and people who react to what they read."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from speechpipe.bench.live.dictation import Heard, dictate
from speechpipe.bench.live.voices import Manner, Spoken, Voices
from speechpipe.cascade.evaluation.scores import edit_share

QUERY = "/v1/listen?encoding=linear16&sample_rate=16000&interim_results=true&model=default"
MOST_AT_ONCE = 64
"""Sessions in progress; beyond, the clients wait, as people do before a service that hangs."""

TIMEOUT_S = 120.0
REACTION_S = (0.1, 0.6)
UNKNOWN_WRONG = 0.1
"""The share of wrong words that people see where the manifest has no text."""

AFTER_FAILURE_S = 0.5
CONSUMERS_SHARE = 0.5
"""Share of the sessions that are consumers', if there are enterprises."""


@dataclass(frozen=True)
class Said:
    """One session: unix seconds of its end, recordings spoken, and how it went."""

    at: float
    channel: str
    recordings: int
    wrong: float | None  # word errors divided by words, at most 1; None if it failed or the text is unknown
    answers: int
    without_text: bool
    wait_s: float
    error: str = ""


@dataclass(frozen=True)
class Load:
    """The traffic's pace.

    Attributes:
        rate: sessions a second.
        live: share of the sessions that are live.
        keys: API keys, consumers' first, then one of each enterprise; empty: the server needs none.
    """

    rate: float
    live: float = 0.25
    keys: Sequence[str] = ()


@dataclass
class Traffic:
    """The clients and people of one server. Used on one event loop."""

    url: str
    voices: Voices
    load: Load
    random: np.random.Generator
    failed: int = 0  # calls of `/v1/feedback` that were refused
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(
        self,
        manner: Callable[[], Manner],
        enough: Callable[[Sequence[Said]], bool],
        pause: Callable[[], Awaitable[None]] | None = None,
    ) -> list[Said]:
        """Begin sessions until `enough` of those that have ended; wait for the others; return all, in order of end.

        `pause` is awaited before each session; it may let time pass.
        """
        said: list[Said] = []
        limits = httpx.Limits(max_connections=2 * MOST_AT_ONCE)
        async with httpx.AsyncClient(base_url=self.url, timeout=TIMEOUT_S, limits=limits) as client:
            clock = asyncio.get_running_loop().time
            due = clock()
            while not enough(said):
                if pause is not None:
                    await pause()
                await asyncio.sleep(max(0.0, due - clock()))
                due = max(due, clock() - 1.0) + self._gap_s(manner().faster)
                if len(self._tasks) < MOST_AT_ONCE:
                    task = asyncio.create_task(self._session(client, manner(), said))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            await self.drain()
        return said

    async def drain(self) -> None:
        """Wait until no session is in progress."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _gap_s(self, faster: float) -> float:
        """Return the time to the next session: random, but no pause of more than three times the mean."""
        mean = 1.0 / (self.load.rate * faster)
        return float(min(self.random.exponential(mean), 3 * mean))

    def _headers(self) -> dict[str, str]:
        keys = self.load.keys
        if not keys:
            return {}
        first = len(keys) == 1 or self.random.random() < CONSUMERS_SHARE
        key = keys[0] if first else keys[1 + int(self.random.integers(len(keys) - 1))]
        return {"Authorization": f"Bearer {key}"}

    async def _session(self, client: httpx.AsyncClient, manner: Manner, said: list[Said]) -> None:
        live = self.random.random() < self.load.live
        spoken, headers = self.voices.session(manner, live=live), self._headers()
        if live:
            heard = await dictate(self.url.replace("http", "ws", 1) + QUERY, spoken.pcm, headers)
        else:
            heard = await _upload(client, spoken, headers)
        text = " ".join(answer for _, answer in heard.answers if answer)
        wrong = None if heard.error or spoken.text is None else edit_share(spoken.text, text)
        said.append(
            Said(
                at=time.time(),
                channel="live" if live else "upload",
                recordings=spoken.recordings,
                wrong=wrong,
                answers=len(heard.answers),
                without_text=not text,
                wait_s=heard.wait_s,
                error=heard.error,
            )
        )
        if heard.error:
            await asyncio.sleep(AFTER_FAILURE_S)
        elif heard.session:
            await self._react(client, heard, manner, UNKNOWN_WRONG if wrong is None else wrong, headers)

    async def _react(
        self, client: httpx.AsyncClient, heard: Heard, manner: Manner, wrong: float, headers: dict[str, str]
    ) -> None:
        await asyncio.sleep(float(self.random.uniform(*REACTION_S)))
        about: list[dict[str, str]] = [{"utterance_id": answer} for answer, _ in heard.answers]
        for which in about or [{"session_id": heard.session}]:
            for kind in manner.habits.draw(wrong, self.random):
                with contextlib.suppress(httpx.HTTPError):
                    answer = await client.post("/v1/feedback", json={"kind": kind, **which}, headers=headers)
                    self.failed += answer.is_error


async def _upload(client: httpx.AsyncClient, spoken: Spoken, headers: dict[str, str]) -> Heard:
    begun = time.monotonic()
    files = {"file": ("speech.wav", spoken.wav, "audio/wav")}
    fields = {"model": "default", "response_format": "verbose_json"}
    try:
        answer = await client.post("/v1/audio/transcriptions", files=files, data=fields, headers=headers)
    except httpx.HTTPError as error:
        return Heard(error=f"{type(error).__name__}: {error}", wait_s=time.monotonic() - begun)
    waited = time.monotonic() - begun
    if answer.status_code != httpx.codes.OK:
        return Heard(error=f"{answer.status_code}: {answer.text[:200]}", wait_s=waited)
    details: dict[str, Any] = answer.json()["speechpipe"]
    return Heard(details["id"], [(one["id"], one["text"]) for one in details["segments"]], waited)
