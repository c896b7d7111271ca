"""Faults of the VAD: changed segmenter parameters, and a detector with wrong scores."""

from collections.abc import Mapping

import numpy as np

from speechpipe.cascade.vad import Vad, VadStream
from speechpipe.types import SAMPLE_RATE_HZ, Samples

_PARAMETERS = {
    "vad_threshold": ("threshold",),
    "vad_threshold_low": ("threshold",),
    "vad_min_silence": ("min_silence_s",),
    "vad_min_speech": ("min_speech_s",),
    "vad_padding": ("pre_roll_s", "padding_s"),
}


def parameters(name: str, value: float) -> Mapping[str, float]:
    """Return the segmenter parameters that a fault changes; empty if the fault is in the detector."""
    return dict.fromkeys(_PARAMETERS.get(name, ()), value)


class FaultyVad:
    """A VAD with a fault. `before` is audio of another session."""

    def __init__(self, vad: Vad, name: str, value: float, before: Samples, seed: int = 0) -> None:
        self.frame_samples = vad.frame_samples
        self._vad = vad
        self._name = name
        self._value = value
        self._before = before
        self._seed = seed

    def open(self) -> VadStream:
        """Return a stream with the fault."""
        stream = self._vad.open()
        if self._name == "vad_state_not_reset":
            count = round(self._value * SAMPLE_RATE_HZ) // self.frame_samples * self.frame_samples
            stream.probabilities(np.resize(self._before, count).reshape(-1, self.frame_samples).astype(np.float32))
            return stream
        late = round(self._value / 1000 * SAMPLE_RATE_HZ / self.frame_samples)
        return _FaultyStream(stream, self._name, self._value, late, self._seed)


class _FaultyStream:
    def __init__(self, stream: VadStream, name: str, value: float, late: int, seed: int) -> None:
        self._stream = stream
        self._name = name
        self._value = value
        self._random = np.random.default_rng(seed)
        self._late = np.zeros(late if name == "vad_boundary_offset" else 0, np.float32)

    def probabilities(self, frames: Samples) -> Samples:
        """Return (n,) wrong scores of (n, frame_samples) frames."""
        if self._name == "vad_normalisation":
            return self._stream.probabilities(np.asarray(frames / self._value, np.float32))
        scores = self._stream.probabilities(frames)
        if self._name == "vad_weights":
            noise = self._random.random(len(scores))
            return np.asarray((1 - self._value) * scores + self._value * noise, np.float32)
        if len(self._late):
            held = np.concatenate([self._late, scores])
            self._late = held[len(scores) :]
            return held[: len(scores)]
        return scores
