"""Faults of the input: audio that is damaged before it reaches the cascade."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from speechpipe.types import SAMPLE_RATE_HZ, Samples

FRAME = SAMPLE_RATE_HZ // 50
LONGEST_S = 30.0


@dataclass(frozen=True)
class Sound:
    """(n,) samples at 16 kHz as the cascade gets them, and what the reader reports about them."""

    samples: npt.NDArray[np.floating[Any]]
    claimed_s: float | None = None
    channel_correlation: float | None = None


@dataclass(frozen=True)
class Material:
    """Data that faults use; `voices` are utterances of other speakers."""

    random: np.random.Generator
    voices: Sequence[Samples] = ()


Change = Callable[[Sound, float, Material], Sound]


def spoil(name: str, sound: Sound, value: float, material: Material) -> Sound:
    """Apply a fault with the parameter `value`.

    Raises:
        KeyError: there is no such fault.
    """
    spoiled = _CHANGES[name](sound, value, material)
    return replace(spoiled, samples=np.clip(spoiled.samples, -1.0, 1.0).astype(np.float32))


def with_noise(samples: npt.NDArray[Any], noise: Samples, snr_db: float) -> Samples:
    """Add `noise` (repeated if it is shorter) at a signal-to-noise ratio."""
    noise = np.resize(noise, len(samples))
    power = float(np.mean(samples**2)) + 1e-12
    level = power / (float(np.mean(noise**2)) + 1e-12) * 10 ** (-snr_db / 10)
    return np.asarray(samples + noise * level**0.5, np.float32)


def pink(count: int, random: np.random.Generator) -> Samples:
    """Return (count,) samples of noise whose power falls with frequency."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    shape = 1 / np.sqrt(np.maximum(np.arange(len(spectrum)), 1.0))
    noise = np.fft.irfft(spectrum * shape, count)
    return np.asarray(0.1 * noise / (np.std(noise) + 1e-12), np.float32)


def _low_passed(samples: npt.NDArray[Any], edge_hz: float) -> npt.NDArray[Any]:
    spectrum = np.fft.rfft(samples)
    spectrum[round(edge_hz / SAMPLE_RATE_HZ * len(samples)) :] = 0.0
    return np.fft.irfft(spectrum, len(samples))


def _convolved(samples: npt.NDArray[Any], room: npt.NDArray[Any]) -> npt.NDArray[Any]:
    count = len(samples) + len(room) - 1
    return np.fft.irfft(np.fft.rfft(samples, count) * np.fft.rfft(room, count), count)[: len(samples)]


def _gain(sound: Sound, value: float, _: Material) -> Sound:
    quiet = sound.samples * 10 ** (-value / 20)
    return replace(sound, samples=np.round(quiet * 32767) / 32767)  # 16-bit quantisation removes quiet parts


def _clip(sound: Sound, value: float, _: Material) -> Sound:
    peak = float(np.abs(sound.samples).max()) + 1e-9
    return replace(sound, samples=np.clip(sound.samples / peak * 10 ** (value / 20), -1.0, 1.0))


def _noise(sound: Sound, value: float, material: Material) -> Sound:
    return replace(sound, samples=with_noise(sound.samples, pink(len(sound.samples), material.random), value))


def _babble(sound: Sound, value: float, material: Material) -> Sound:
    voices = np.zeros(len(sound.samples), np.float32)
    for _ in range(4):
        voice = material.voices[int(material.random.integers(len(material.voices)))]
        voices += np.roll(np.resize(voice, len(voices)), int(material.random.integers(len(voices))))
    return replace(sound, samples=with_noise(sound.samples, voices, value))


def _twice_as_fast(sound: Sound, value: float, material: Material) -> Sound:
    if material.random.random() >= value:
        return sound
    return replace(sound, samples=_low_passed(sound.samples, SAMPLE_RATE_HZ / 4)[::2])


def _half_as_fast(sound: Sound, value: float, material: Material) -> Sound:
    if material.random.random() >= value:
        return sound
    between = np.zeros(2 * len(sound.samples))
    between[::2] = 2 * sound.samples
    slow = _low_passed(between, SAMPLE_RATE_HZ / 4)
    return replace(sound, samples=slow[: round(LONGEST_S * SAMPLE_RATE_HZ)])


def _narrow(sound: Sound, value: float, _: Material) -> Sound:
    edge = 3400 if value < 3 else 2000
    samples = _low_passed(sound.samples, edge)
    if value >= 2:
        levels = 127 if value < 3 else 15
        folded = np.sign(samples) * np.log1p(255 * np.abs(samples)) / np.log(256)
        folded = np.round(folded * levels) / levels
        samples = np.sign(folded) * np.expm1(np.abs(folded) * np.log(256)) / 255
    return replace(sound, samples=samples)


def _drop_frames(sound: Sound, value: float, material: Material) -> Sound:
    samples = sound.samples.copy()
    for start in range(0, len(samples), FRAME):
        if material.random.random() < value:
            samples[start : start + FRAME] = 0.0
    return replace(sound, samples=samples)


def _truncate(sound: Sound, value: float, _: Material) -> Sound:
    claimed = len(sound.samples) / SAMPLE_RATE_HZ
    return replace(sound, samples=sound.samples[: round((1 - value) * len(sound.samples))], claimed_s=claimed)


def _silence(sound: Sound, value: float, material: Material) -> Sound:
    if material.random.random() >= value:
        return sound
    return replace(sound, samples=np.zeros_like(sound.samples))


def _hum(sound: Sound, value: float, _: Material) -> Sound:
    time = np.arange(len(sound.samples)) / SAMPLE_RATE_HZ
    hum = sum(np.sin(2 * np.pi * 50 * harmonic * time) / harmonic for harmonic in (1, 2, 3))
    return replace(sound, samples=sound.samples + value + value * hum)


def _opposed(sound: Sound, value: float, _: Material) -> Sound:
    # The cascade's mix-down detects this and uses the louder channel, so only the reader's report changes.
    return replace(sound, channel_correlation=-value)


def _far(sound: Sound, value: float, material: Material) -> Sound:
    count = round(value * SAMPLE_RATE_HZ)
    decay = np.exp(-6.9 * np.arange(count) / count)
    room = decay * material.random.standard_normal(count)
    room[: FRAME // 4] = 0.0
    room *= value**0.5 / (np.linalg.norm(room) + 1e-9) * 1.2
    room[0] = 1.0
    wet = _convolved(sound.samples, room)
    return replace(sound, samples=wet / max(1.0, float(np.abs(wet).max())))


def _backwards(sound: Sound, value: float, material: Material) -> Sound:
    if material.random.random() >= value:
        return sound
    return replace(sound, samples=sound.samples[::-1].copy())


_CHANGES: Mapping[str, Change] = {
    "gain": _gain,
    "hard_clipping": _clip,
    "noise": _noise,
    "babble": _babble,
    "sample_rate_confusion": _twice_as_fast,
    "slowed_down": _half_as_fast,
    "narrow_band": _narrow,
    "dropped_frames": _drop_frames,
    "truncated_upload": _truncate,
    "empty_payload": _silence,
    "dc_and_hum": _hum,
    "phase_cancellation": _opposed,
    "far_field": _far,
    "vocabulary_switch": _backwards,
}

KINDS = frozenset(_CHANGES)
"""The names of all faults of the input."""
