"""Sounds for tests, made from the committed samples or from nothing."""

import io
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
import soundfile

from speechpipe.types import SAMPLE_RATE_HZ, Samples

SAMPLES = Path(__file__).parents[1] / "audio_samples"
SHARED = Path(__file__).parents[2] / "shared" / "data"
EXPECTED: dict[str, dict[str, Any]] = tomllib.loads((SAMPLES / "expected.toml").read_text())

Value = TypeVar("Value")


class Made(Mapping[str, Value]):
    """Values by name, each made when it is first read, so that the names cost nothing.

    Tests that have the names of files as parameters keep the files so: collecting them encodes no sound.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Value]]) -> None:
        self._makers = {name: cache(make) for name, make in makers.items()}

    def __getitem__(self, name: str) -> Value:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __or__(self, others: "Made[Value]") -> "Made[Value]":
        return Made({name: partial(part.__getitem__, name) for part in (self, others) for name in part})


NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def plain(text: str) -> str:
    """Return the words of a text in lower case, small numbers as words, without punctuation."""
    words = re.findall(r"[a-z0-9']+", text.lower())
    return " ".join(NUMBERS[int(word)] if word.isdecimal() and int(word) < len(NUMBERS) else word for word in words)


def sample(name: str) -> Samples:
    """Return a committed clip: (n,) or (n, channels)."""
    audio: Samples = soundfile.read(SAMPLES / f"{name}.flac", dtype="float32")[0]
    return audio


def tone(seconds: float, hertz: float = 440.0, level: float = 0.3, rate: int = SAMPLE_RATE_HZ) -> Samples:
    """Return a sine."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def bursts(pattern: list[tuple[float, float]], seed: int = 0) -> Samples:
    """Return noise bursts: (seconds, level) after each other; what an energy VAD takes for speech."""
    random = np.random.default_rng(seed)
    parts = [random.normal(0, max(level, 1e-9), round(s * SAMPLE_RATE_HZ)) for s, level in pattern]
    return np.clip(np.concatenate(parts), -1, 1).astype(np.float32)


def encoded(audio: Samples, rate: int = SAMPLE_RATE_HZ, form: str = "WAV", subtype: str | None = None) -> bytes:
    """Return the bytes of a file that libsndfile writes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, rate, format=form, subtype=subtype)
    return buffer.getvalue()


def encoded_by_ffmpeg(
    audio: Samples,
    container: str,
    codec: str,
    rate: int = 48_000,
    layout: str = "mono",
    options: dict[str, str] | None = None,
) -> bytes:
    """Return the bytes of a file that FFmpeg's libraries write (`ipod` is m4a, `adts` is aac, `mulaw` is bare bytes).

    `audio` is 16 kHz, one channel; every channel of `layout` gets it. `options` go to the container's writer.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options or {}) as output:
        stream: Any = output.add_stream(codec, rate=rate, layout=layout)
        if not codec.startswith("pcm_") and codec != "flac":
            stream.bit_rate = 64_000 * stream.codec_context.channels
        planes = np.broadcast_to(audio, (stream.codec_context.channels, len(audio)))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format="fltp", layout=layout)
        frame.sample_rate = SAMPLE_RATE_HZ
        frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
        stream.codec_context.open()  # only now it is known how many samples a frame of this codec has
        resampler = av.AudioResampler(
            format=stream.codec_context.format, layout=layout, rate=rate, frame_size=stream.codec_context.frame_size
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return buffer.getvalue()
