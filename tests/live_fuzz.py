"""Live streams that are broken in every way, each made from its number; what a client of each is told is counted.

The rule: a stream on which audio was sent never ends as if all were well (close 1000, or silence in Realtime) without a
text, an error or a warning. `benchmarks/fuzz_live.py` runs thousands, `tests/contract/test_live_fuzz.py` some.
"""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlencode

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from speechpipe.types import Samples
from tests.sounds import encoded, encoded_by_ffmpeg, sample

WAIT_S = 120.0
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
RAW16 = {"encoding": "linear16", "sample_rate": 16_000}
DEFECTS = {"internal_error", "live_failed", "decoder_failed", "vad_failed", "asr_failed"}
"""Errors that a client may never cause."""

CLOSES = {1000, 1001, 1007, 1008, 1009, 1011, 1013}
JUNK = (
    "{",
    "[]",
    '{"type": 7}',
    '{"type": "Dance"}',
    "null",
    '{"type":"KeepAlive"}',
    '{"type":"Configure"}',
    "\u2028" * 50,
)


def speech() -> Samples:
    """Return three seconds of digits and silence behind them."""
    return np.concatenate([sample("digits")[:48_000], np.zeros(16_000, np.float32)])


def pcm16(samples: Samples) -> bytes:
    """Return 16-bit little-endian samples."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def _int24(samples: Samples) -> bytes:
    return (samples * (2**23 - 1)).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


@cache
def containers() -> dict[str, bytes]:
    """Return the same speech in every container."""
    audio = speech()
    stereo = np.stack([audio, audio * np.float32(0.5)], axis=1)
    return {
        "wav": encoded(audio),
        "wav-mulaw": encoded(audio, 8000, subtype="ULAW"),
        "wav-stereo": encoded(stereo),
        "flac": encoded_by_ffmpeg(audio, "flac", "flac", 16_000),
        "ogg-opus": encoded_by_ffmpeg(audio, "ogg", "libopus"),
        "webm-opus": encoded_by_ffmpeg(audio, "webm", "libopus"),
        "mkv-aac": encoded_by_ffmpeg(audio, "matroska", "aac"),
        "mp3": encoded_by_ffmpeg(audio, "mp3", "libmp3lame"),
        "aac": encoded_by_ffmpeg(audio, "adts", "aac"),
        "mp4-fragmented": encoded_by_ffmpeg(audio, "mp4", "aac", options=FRAGMENTED),
    }


@cache
def not_live() -> dict[str, bytes]:
    """Return what is read as uploads only."""
    audio = speech()
    return {
        "m4a-index-at-end": encoded_by_ffmpeg(audio, "ipod", "aac"),
        "wav24": encoded(audio, subtype="PCM_24"),
        "wav-float": encoded(audio, subtype="FLOAT"),
        "aiff": encoded(audio, form="AIFF"),
        "caf": encoded(audio, form="CAF"),
        "flac-96k": encoded(audio, 96_000, form="FLAC"),
    }


@cache
def raws() -> dict[str, tuple[bytes, dict[str, object]]]:
    """Return raw speech, each with the right query."""
    audio = speech()
    return {
        "linear16": (pcm16(audio), RAW16),
        "linear16-48k": (encoded_by_ffmpeg(audio, "s16le", "pcm_s16le", 48_000), RAW16 | {"sample_rate": 48_000}),
        "linear16-stereo": (
            pcm16(np.repeat(audio, 2)),
            RAW16 | {"channels": 2},
        ),
        "mulaw": (encoded_by_ffmpeg(audio, "mulaw", "pcm_mulaw", 8000), {"encoding": "mulaw"}),
        "alaw": (encoded_by_ffmpeg(audio, "alaw", "pcm_alaw", 8000), {"encoding": "alaw"}),
    }


@cache
def misread() -> dict[str, bytes]:
    """Return raw speech that is not what `linear16` says."""
    audio = speech()
    return {
        "float32": audio.astype("<f4").tobytes(),
        "int24": _int24(audio),
        "int32": (audio * 2147483000).astype("<i4").tobytes(),
        "big-endian": pcm16(audio)[: len(pcm16(audio)) // 2 * 2][::-1],
        "mulaw": raws()["mulaw"][0],
        "alaw": raws()["alaw"][0],
    }


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """Return `data` with bytes flipped, headers damaged, lengths that lie, pieces cut, repeated or zeroed."""
    out = bytearray(data)
    for _ in range(random.integers(1, 4)):
        size = len(out)
        at = int(random.integers(0, max(1, size)))
        match random.integers(0, 6):
            case 0:
                for place in random.integers(0, size, random.integers(1, 60)):
                    out[place] = random.integers(0, 256)
            case 1:
                for place in random.integers(0, min(size, 200), random.integers(1, 8)):
                    out[place] = random.integers(0, 256)
            case 2:
                place = int(random.integers(0, max(1, min(size, 300) - 4)))
                out[place : place + 4] = random.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80"])
            case 3:
                del out[at : at + int(random.integers(1, 4000))]
            case 4:
                out[at:at] = out[at : at + int(random.integers(1, 4000))]
            case 5:
                length = int(random.integers(1, 4000))
                out[at : at + length] = bytes(min(length, size - at))
        out = out or bytearray(b"\0")
    return bytes(out)


@dataclass(frozen=True)
class Case:
    """One stream: what is asked for, what is sent, and whether it is sound speech that must be heard."""

    kind: str
    query: dict[str, object]
    data: bytes
    junk: bool = False
    realtime: bool = False
    heard: bool = False
    leaves: bool = False  # the client drops the connection in the middle


def case(number: int) -> Case:
    """Return the `number`-th stream."""
    random = np.random.default_rng(number)

    def one(table: dict[str, Any]) -> tuple[str, Any]:
        name = sorted(table)[int(random.integers(0, len(table)))]
        return name, table[name]

    none: dict[str, object] = {}
    data, raw = one(containers())[1], one(raws())[1]
    either = [none, RAW16][int(random.integers(0, 2))]
    kinds: list[Callable[[], Case]] = [
        lambda: Case("container", none, data, heard=True),
        lambda: Case("container, mutated", none, mutated(data, random)),
        lambda: Case("container, cut", none, data[: int(random.integers(1, len(data)))]),
        lambda: Case("container, spliced", none, data[: int(random.integers(1, len(data)))] + one(containers())[1]),
        lambda: Case("container, two", none, data + one(containers())[1], heard=True),
        lambda: Case("container as linear16", RAW16, data, heard=True),
        lambda: Case("container as linear16, mutated", RAW16, mutated(data, random)),
        lambda: Case("container as something else", {"encoding": str(random.choice(["flac", "opus"]))}, data),
        lambda: Case("file that is not live", either, one(not_live())[1]),
        lambda: Case("file that is not live, mutated", none, mutated(one(not_live())[1], random)),
        lambda: Case("raw", raw[1], raw[0], heard=True),
        lambda: Case("raw, mutated", RAW16, mutated(raws()["linear16"][0], random)),
        lambda: Case("raw with junk between", raw[1], raw[0], junk=True, heard=True),
        lambda: Case("raw of another kind", RAW16, one(misread())[1]),
        lambda: Case("random bytes", either, random.bytes(int(random.integers(1, 60_000)))),
        lambda: Case("a few bytes", either, random.bytes(int(random.integers(1, 40)))),
        lambda: Case("realtime", none, raws()["linear16-48k"][0][: 48_000 * 8], realtime=True, heard=True),
        lambda: Case("realtime, mutated", none, mutated(raws()["linear16-48k"][0], random), realtime=True, junk=True),
        lambda: Case("realtime, container", none, data, realtime=True),
        lambda: Case("dropped in the middle", none, mutated(data, random), leaves=True),
    ]
    return kinds[number % len(kinds)]()


@dataclass
class Outcome:
    """What one client was told."""

    kind: str
    code: int | None = None
    texts: int = 0
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    finals: int = 0
    wrong: str = ""

    @property
    def said(self) -> bool:
        """Whether it knows that something was heard, or that nothing was."""
        return bool(self.texts or self.errors or self.warnings)


async def run(url: str, number: int, patience_s: float = WAIT_S) -> Outcome:
    """Be the client of the `number`-th stream; come back when there was no room, for so long."""
    wanted = case(number)
    outcome = Outcome(wanted.kind)
    path, query = ("realtime", {"intent": "transcription"}) if wanted.realtime else ("listen", wanted.query)
    address = f"{url.replace('http', 'ws')}/v1/{path}?{urlencode(query)}"
    try:
        # A server that gets audio faster than it takes it reads pings and closes late: on a busy machine this client
        # would otherwise hang up by itself.
        opened = connect(address, max_size=None, compression=None, ping_interval=None, close_timeout=WAIT_S)
        async with asyncio.timeout(WAIT_S), opened as socket:
            reading = asyncio.create_task(_read(socket, outcome, wanted))
            await _talk(socket, wanted, np.random.default_rng(number))
            await reading
            outcome.code = socket.close_code
    except InvalidStatus as error:
        if error.response.status_code == 503 and patience_s > 0:  # there is no room just now, and it says so
            wait_s = float(error.response.headers["Retry-After"])
            await asyncio.sleep(wait_s)
            return await run(url, number, patience_s - wait_s)
        outcome.code = error.response.status_code
        outcome.errors.append("refused")
    except ConnectionClosed:
        outcome.wrong = "the connection broke"
    except TimeoutError:
        outcome.wrong = f"no end within {WAIT_S:g} s"
    _judge(outcome, wanted)
    return outcome


def _judge(outcome: Outcome, wanted: Case) -> None:
    if outcome.wrong or wanted.leaves:
        return
    if defects := DEFECTS & set(outcome.errors):
        outcome.wrong = f"a defect of the server: {sorted(defects)}"
    elif outcome.code is not None and outcome.code < 4000 and outcome.code not in CLOSES and outcome.code != 400:
        outcome.wrong = f"close {outcome.code}"
    elif outcome.code == 1000 and not outcome.said:
        outcome.wrong = "close 1000 and not a word"
    elif wanted.heard and not outcome.texts:
        outcome.wrong = f"speech was not heard: {outcome.errors} {outcome.warnings}"


async def _talk(socket: ClientConnection, wanted: Case, random: np.random.Generator) -> None:
    data, at = wanted.data, 0
    most = int(random.choice([1500, 3200, 20_000, 10**6]))
    leave_at = int(random.integers(0, len(data) + 1)) if wanted.leaves else None
    try:
        while at < len(data):
            size = int(random.integers(1, most + 1))
            piece, at = data[at : at + size], at + size
            if wanted.junk and random.random() < 0.1:
                await socket.send(str(random.choice(JUNK)))
            if wanted.realtime:
                audio = base64.b64encode(piece).decode()
                await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
            else:
                await socket.send(piece)
            if leave_at is not None and at >= leave_at:
                socket.transport.abort()
                return
        await socket.send(json.dumps({"type": "input_audio_buffer.commit" if wanted.realtime else "CloseStream"}))
    except ConnectionClosed:
        pass  # refused on the way; the reader knows why


async def _read(socket: ClientConnection, outcome: Outcome, wanted: Case) -> None:
    try:
        async for text in socket:
            message = json.loads(text)
            _note(outcome, message)
            if wanted.realtime and _answered(message):
                await socket.close()
    except ConnectionClosed:
        pass


def _answered(message: dict[str, Any]) -> bool:
    ends = ("transcription.completed", "transcription.failed")
    empty = message["type"] == "error" and message["error"]["code"] == "input_audio_buffer_commit_empty"
    return empty or str(message["type"]).endswith(ends)


def _note(outcome: Outcome, message: dict[str, Any]) -> None:
    kind = message["type"]
    if kind == "Results" and message["is_final"]:
        outcome.finals += 1
        outcome.texts += bool(message["channel"]["alternatives"][0]["transcript"])
    elif kind.endswith("transcription.completed"):
        outcome.texts += bool(message["transcript"])
        outcome.errors += [] if message["transcript"] else ["no text"]
    elif kind.endswith("transcription.failed"):
        outcome.errors.append(str(message["error"]["code"]))
    elif kind in ("Error", "error"):
        outcome.errors.append(str(message["variant"] if kind == "Error" else message["error"]["code"]))
    elif kind == "speechpipe.warning":
        outcome.warnings.append(message["warning"]["code"])
    elif kind == "Metadata":
        outcome.warnings += [item["code"] for item in message["speechpipe"]["warnings"]]


async def run_all(url: str, numbers: range, at_once: int) -> list[Outcome]:
    """Run streams, a few at a time."""
    queue, outcomes = iter(numbers), list[Outcome]()

    async def client() -> None:
        for number in queue:
            outcome = await run(url, number)
            if outcome.wrong:
                outcome.wrong = f"stream {number}: {outcome.wrong}"
            outcomes.append(outcome)

    await asyncio.gather(*(client() for _ in range(at_once)))
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    """Return what happened, a line for each kind."""
    lines = [f"{'kind':34} streams  text  error  warning  silent  close codes"]
    for kind in sorted({outcome.kind for outcome in outcomes}):
        of_kind = [outcome for outcome in outcomes if outcome.kind == kind]
        codes = Counter(str(outcome.code) for outcome in of_kind)
        counts = (
            sum(bool(outcome.texts) for outcome in of_kind),
            sum(bool(outcome.errors) for outcome in of_kind),
            sum(bool(outcome.warnings) for outcome in of_kind),
            sum(not outcome.said for outcome in of_kind),
        )
        shown = ", ".join(f"{code}: {count}" for code, count in codes.most_common())
        lines.append(f"{kind:34} {len(of_kind):7} {counts[0]:5} {counts[1]:6} {counts[2]:8} {counts[3]:7}  {shown}")
    return "\n".join(lines)
