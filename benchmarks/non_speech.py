"""Sounds without speech, recorded and made: noise, hum, music, a telephone's keys, breaths, near silence."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from measure import RATE, SHARED

from speechpipe.types import Samples


def shaped(draw: np.random.Generator, samples: int, weight: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Samples:
    """Return noise whose spectrum is weighted by a function of the frequency in Hz."""
    spectrum = np.fft.rfft(draw.normal(0, 1, samples))
    hertz = np.fft.rfftfreq(samples, 1 / RATE).astype(np.float32)
    made: Samples = np.fft.irfft(spectrum * weight(hertz), samples).astype(np.float32)
    return made


def music(draw: np.random.Generator, samples: int) -> Samples:
    """Return plucked notes of a scale, with overtones and a beat."""
    made = np.zeros(samples, np.float32)
    beat = int(draw.uniform(0.25, 0.6) * RATE)
    for at in range(0, samples - beat, beat):
        for _ in range(draw.integers(1, 4)):
            length = min(samples - at, beat * int(draw.integers(1, 4)))
            t = np.arange(length) / RATE
            hertz = draw.choice([110.0, 164.8, 220.0]) * 2 ** (draw.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
            tones = sum(np.sin(2 * np.pi * hertz * k * t) / k**1.3 for k in range(1, 8))
            made[at : at + length] += np.exp(-t * draw.uniform(1, 6)) * tones
    return made


def tones(draw: np.random.Generator, samples: int) -> Samples:
    """Return the pairs of tones of a telephone's keys."""
    made = np.zeros(samples, np.float32)
    at = RATE // 10
    while at < samples:
        length = min(samples - at, int(draw.uniform(0.06, 0.25) * RATE))
        t = np.arange(length) / RATE
        for hertz in (draw.choice([697, 770, 852, 941]), draw.choice([1209, 1336, 1477, 1633])):
            made[at : at + length] += np.sin(2 * np.pi * hertz * t)
        at += length + int(draw.uniform(0.04, 0.3) * RATE)
    return made


def band(low: float, high: float) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    """Return the weights of frequencies of which only those between two are heard."""
    return lambda hertz: ((hertz > low) & (hertz < high)) * 1.0


def excerpts(recorded: Samples) -> Callable[[np.random.Generator, int], Samples]:
    """Return a function that takes stretches from a recording, which is repeated if it is shorter."""

    def excerpt(draw: np.random.Generator, samples: int) -> Samples:
        repeated = np.resize(recorded, max(samples, len(recorded)))
        return np.roll(repeated, -int(draw.integers(len(recorded))))[:samples]

    return excerpt


def breaths(draw: np.random.Generator, samples: int) -> Samples:
    """Return noise of the mouth that swells and fades."""
    made = 0.01 * draw.normal(0, 1, samples).astype(np.float32)
    at = 0
    while at < samples - RATE // 4:
        length = min(samples - at, int(draw.uniform(0.4, 1.4) * RATE))
        low = draw.uniform(200, 800)
        noise = shaped(draw, length, band(low, low + draw.uniform(800, 3500)))
        made[at : at + length] += noise * np.sin(np.pi * np.arange(length) / length)
        at += length + int(draw.uniform(0.3, 2) * RATE)
    return made


def non_speech(minutes: float) -> list[tuple[str, Samples]]:
    """Return stretches of 0.7 to 12 s without speech."""
    kinds: dict[str, Callable[[np.random.Generator, int], Samples]] = {
        "white noise": lambda draw, samples: shaped(draw, samples, np.ones_like),
        "pink noise": lambda draw, samples: shaped(draw, samples, lambda hertz: 1 / np.sqrt(np.maximum(hertz, 20))),
        "hum": lambda draw, samples: shaped(draw, samples, lambda hertz: (np.abs(hertz % 50) < 1) / (1 + hertz / 50)),
        "music": music,
        "keys": tones,
        "breaths": breaths,
        "silence": lambda draw, samples: shaped(draw, samples, np.ones_like),
    }
    for path in sorted((SHARED / "noise").glob("noise*.flac")):
        kinds[path.stem] = excerpts(soundfile.read(path, dtype="float32")[0])
    draw = np.random.default_rng(1)
    found: list[tuple[str, Samples]] = []
    while sum(len(samples) for _, samples in found) < minutes * 60 * RATE:
        name = list(kinds)[len(found) % len(kinds)]
        made = kinds[name](draw, int(draw.choice([0.7, 1.2, 2, 3, 5, 8, 12]) * RATE))
        level = -65 if name == "silence" else draw.uniform(-45, -12)
        scaled = made / np.sqrt(np.mean(np.square(made)) + 1e-12) * 10 ** (level / 20)
        found.append((name, np.clip(scaled, -1, 1).astype(np.float32)))
    return found
