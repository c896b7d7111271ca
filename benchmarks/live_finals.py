"""Live latency with a recognizer that decodes whole segments: finals, stable text, and text that covers the last word.

A real server and websocket. Clips of read speech are sent as a microphone would, with pauses of faint noise between
them, so that each clip's first and last sound are known. Times are those of the client: from sending the samples of a
moment to receiving the message. A text covers the last word when it has as many words as the clip's finals, and ends
with their last word.

python benchmarks/live_finals.py [--bundle default] [--streams 1] [--clips 30] [--setting NAME=VALUE ...] [--record]
"""

import argparse
import asyncio
import json
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
import psutil
from measure import RATE, Board, Recording, add_record, read_speech, wer
from websockets.asyncio.client import ClientConnection, connect

from speechpipe.bench import capacity
from speechpipe.types import Samples

STEP = RATE // 20
"""Samples of a message: 50 ms."""

PAUSE_S = 1.6
NOISE = 1e-3
SOUND_DB = -35.0
"""A clip's sound begins and ends where its level in 10 ms first and last is within this of its loudest."""

LAST_WORDS_S = 20.0
SETTINGS = {"SPEECHPIPE_PORT": "0", "SPEECHPIPE_LIVE_LOAD_LIMIT": "100"}


@dataclass
class Spoken:
    """A clip in the audio of a client; positions in seconds."""

    text: str
    begins_s: float
    ends_s: float
    until_s: float  # the middle of the pause after it


@dataclass
class Heard:
    """A message of the server with a text, and when it came."""

    at: float
    text: str
    start_s: float
    until_s: float
    final: bool
    stable: int
    decided_s: float | None
    endpoint_to_final_s: float | None


@dataclass
class Times:
    """Seconds, of all clips of all clients."""

    endpoint: list[float] = field(default_factory=list)  # decision -> final, as the server says
    received: list[float] = field(default_factory=list)  # the audio of the decision was sent -> final
    final: list[float] = field(default_factory=list)  # last sound -> final
    covered: list[float] = field(default_factory=list)  # last sound -> text that covers the last word
    first: list[float] = field(default_factory=list)  # first sound -> text
    stable: list[float] = field(default_factory=list)  # first sound -> stable text
    texts: list[tuple[str, str]] = field(default_factory=list)
    silent: int = 0  # clips without a final
    stable_words: int = 0  # of the last stable text of each segment
    changed_words: int = 0  # those of them that the final has not at their place


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def sound(samples: Samples) -> tuple[int, int]:
    """Return where the sound of a clip begins and ends, in samples."""
    size = RATE // 100
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    levels = 20 * np.log10(np.sqrt(np.square(frames).mean(axis=1)) + 1e-9)
    loud = np.flatnonzero(levels > levels.max() + SOUND_DB)
    return int(loud[0]) * size, int(loud[-1] + 1) * size


def played(clips: list[Recording]) -> tuple[Samples, list[Spoken]]:
    """Return the clips one after the other with pauses before and after each."""
    pause = round(PAUSE_S * RATE)
    parts: list[Samples] = [np.zeros(pause, np.float32)]
    spoken, at = [], pause
    for clip in clips:
        begins, ends = sound(clip.samples)
        times = (at + begins, at + ends, at + len(clip.samples) + pause // 2)
        spoken.append(Spoken(clip.text, *(position / RATE for position in times)))
        parts += [clip.samples, np.zeros(pause, np.float32)]
        at += len(clip.samples) + pause
    audio = np.concatenate(parts)
    return audio + np.random.default_rng(3).normal(0, NOISE, len(audio)).astype(np.float32), spoken


class Client:
    """Sends its audio in real time and keeps what it hears."""

    def __init__(self, url: str, audio: Samples) -> None:
        self._url = url
        self.audio = audio
        self._pcm = (np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes()
        self.sent_at: list[float] = []
        self.heard: list[Heard] = []

    async def run(self) -> None:
        async with connect(self._url, compression=None, max_size=None, ping_interval=None) as socket:
            listening = asyncio.create_task(self._listen(socket))
            begun = time.monotonic()
            for number, start in enumerate(range(0, len(self._pcm), 2 * STEP)):
                await asyncio.sleep(max(0.0, begun + (number + 1) * STEP / RATE - time.monotonic()))
                self.sent_at.append(time.monotonic())
                await socket.send(self._pcm[start : start + 2 * STEP])
            await socket.send('{"type": "CloseStream"}')
            await asyncio.wait_for(listening, LAST_WORDS_S)

    async def _listen(self, socket: ClientConnection) -> None:
        async for message in socket:
            self._take(json.loads(message), time.monotonic())

    def _take(self, message: dict[str, Any], now: float) -> None:
        if message["type"] != "Results" or not message["channel"]["alternatives"][0]["transcript"]:
            return
        ours, start = message.get("speechpipe", {}), message["start"]
        self.heard.append(
            Heard(
                at=now,
                text=message["channel"]["alternatives"][0]["transcript"],
                start_s=start,
                until_s=start + message["duration"],
                final=message["is_final"],
                stable=ours.get("stable", 0),
                decided_s=ours.get("decided_at_s"),
                endpoint_to_final_s=ours.get("endpoint_to_final_s"),
            )
        )

    def when(self, audio_s: float) -> float:
        """Return when the audio up to a position had been sent."""
        number = max(0, -(-round(audio_s * RATE) // STEP) - 1)
        return self.sent_at[min(number, len(self.sent_at) - 1)]


def judge(client: Client, spoken: list[Spoken], times: Times) -> None:
    """Add the times of one client's clips."""
    before_s = 0.0
    for clip in spoken:
        # The decision on a clip's last segment falls into the pause after it.
        of_clip = [
            one for one in client.heard if before_s < (one.decided_s or one.until_s) <= clip.until_s + PAUSE_S / 2
        ]
        before_s = clip.until_s + PAUSE_S / 2
        finals = [one for one in of_clip if one.final]
        if not finals:
            times.silent += 1
            continue
        begins, ends = client.when(clip.begins_s), client.when(clip.ends_s)
        last = finals[-1]
        times.texts.append((clip.text, " ".join(one.text for one in finals)))
        for one in finals:
            if one.decided_s is not None and one.endpoint_to_final_s is not None:
                times.endpoint.append(one.endpoint_to_final_s)
                times.received.append(one.at - client.when(one.decided_s))
        times.final.append(last.at - ends)
        of_last = [one for one in of_clip if finals[:-1] == [] or one.at > finals[-2].at]
        covering = [one.at for one in of_last if covers(one.text, last.text)]
        if covering:
            times.covered.append(min(covering) - ends)
        for before, final in zip([None, *finals], finals, strict=False):
            settled = [
                one for one in of_clip if one.stable and one.at <= final.at and (not before or one.at > before.at)
            ]
            shown = words(settled[-1].text[: settled[-1].stable]) if settled else []
            kept = sum(one == other for one, other in zip(shown, words(final.text), strict=False))
            times.stable_words += len(shown)
            times.changed_words += len(shown) - kept
        times.first.append(min(one.at for one in of_clip) - begins)
        times.stable.append(min(one.at for one in of_clip if one.stable or one.final) - begins)


def covers(text: str, final: str) -> bool:
    got, whole = words(text), words(final)
    return len(got) >= len(whole) and got[-1:] == whole[-1:]


def metric(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def processes(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def used_s(pid: int) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes(pid))


async def speak(url: str, clips: list[Recording], streams: int) -> tuple[Times, float]:
    """Run the clients; return their times and the seconds of audio that they sent."""
    times, audio_s = Times(), 0.0
    parts = [clips[number::streams] for number in range(streams)]
    prepared = [played(part) for part in parts if part]
    clients = [Client(url, audio) for audio, _ in prepared]
    await asyncio.gather(*(client.run() for client in clients))
    for client, (audio, spoken) in zip(clients, prepared, strict=True):
        judge(client, spoken, times)
        audio_s += len(audio) / RATE
    return times, audio_s


def at(values: list[float], share: float) -> float:
    return capacity.percentile(values, share)


def report(times: Times, board: Board, streams: int) -> None:
    """Add the rows of the times; they are asked of one stream on idle cores."""
    one = streams == 1
    p50, p95 = at(times.endpoint, 0.5), at(times.endpoint, 0.95)
    rows = [
        ("endpoint decision to final, p50; p95", "<= 60; <= 250 ms", times.endpoint, p50 <= 0.06 and p95 <= 0.25),
        ("the same as the client sees it", "reported", times.received, None),
        ("last sound to final", "reported", times.final, None),
        (
            "last sound to a text that covers the last word",
            "p50 <= 0.2 s",
            times.covered,
            at(times.covered, 0.5) <= 0.2,
        ),
        ("first sound to text", "reported", times.first, None),
        ("first sound to stable text", "p50 <= 1.0 s", times.stable, at(times.stable, 0.5) <= 1.0),
    ]
    for what, asked, values, good in rows:
        measured = f"{1000 * at(values, 0.5):.0f}; {1000 * at(values, 0.95):.0f} ms ({len(values)})"
        board.add(f"{streams} streams: {what}", asked if one else "reported", measured, good if one else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--streams", type=int, nargs="+", default=[1])
    parser.add_argument("--clips", type=int, default=30)
    parser.add_argument("--setting", action="append", default=[], help="of the server, such as LIVE_WORKERS=1")
    parser.add_argument("--texts", type=Path, help="write the texts and what was heard there, as JSON")
    add_record(parser)
    asked = parser.parse_args()
    clips = read_speech()
    clips = [clips[number % len(clips)] for number in range(asked.clips)]
    settings = SETTINGS | {"SPEECHPIPE_BUNDLE": asked.bundle}
    settings |= {f"SPEECHPIPE_{name}": value for name, _, value in (pair.partition("=") for pair in asked.setting)}
    board = Board(f"Live finals, bundle {asked.bundle}")
    with capacity.served([sys.executable, "-m", "speechpipe", "serve"], **settings) as (url, process):
        where = f"{url.replace('http', 'ws')}{capacity.QUERY}{asked.bundle}"
        asyncio.run(speak(where, clips[:2], 1))  # what is loaded lazily is loaded
        for streams in asked.streams:
            cpu_s = used_s(process.pid)
            times, audio_s = asyncio.run(speak(where, clips, streams))
            report(times, board, streams)
            cost = (used_s(process.pid) - cpu_s) / audio_s
            rss = sum(one.memory_info().rss for one in processes(process.pid)) / 2**20
            board.add(f"{streams} streams: CPU seconds per second of audio", "reported", f"{cost:.3f}")
            board.add(f"{streams} streams: memory of server and workers", "reported", f"{rss:.0f} MiB")
            share = times.changed_words / max(times.stable_words, 1)
            board.add(
                f"{streams} streams: stable words that the final has not at their place",
                "reported",
                f"{share:.1%} ({times.changed_words} of {times.stable_words})",
            )
            board.add(
                f"{streams} streams: word error rate; clips without text",
                "reported",
                f"{wer(times.texts):.3f}; {times.silent}",
            )
        made, used = (metric(url, f"speechpipe_asr_speculations{kind}_total") for kind in ("", "_used"))
        finals = metric(url, "speechpipe_asr_transcripts_total")
        board.add(
            "speculative decodes of all finals: made; used", "reported", f"{made:.0f}; {used:.0f} of {finals:.0f}"
        )
        spare, all_s = (metric(url, f"speechpipe_asr_{kind}cpu_seconds_total") for kind in ("spare_", ""))
        board.add("share of the recognizer's CPU time on idle capacity", "reported", f"{spare / max(all_s, 1e-9):.2f}")
        if asked.texts:
            asked.texts.write_text(json.dumps({"texts": times.texts, "times": vars(times)}, indent=1))
        print(f"median final after the last sound {median(times.final):.2f} s")
    board.show()


if __name__ == "__main__":
    main()
