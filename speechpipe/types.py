"""The vocabulary: what the stages hand to each other. Frozen; every unit stands in the name.

Two clocks never mix: positions in audio count samples at `SAMPLE_RATE_HZ` since the session's first
sample (the audio clock); durations of work are wall or CPU seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "FAILURES",
    "SAMPLE_RATE_HZ",
    "Accounting",
    "AudioFeatures",
    "Bundle",
    "Component",
    "DecodeStats",
    "ModelFile",
    "Notice",
    "NullCause",
    "Samples",
    "Scalar",
    "Segment",
    "SessionSummary",
    "Transcript",
    "Utterance",
    "Word",
]

SAMPLE_RATE_HZ = 16_000
"""Every stage after the decoder works on 16 kHz mono float32 in [-1, 1]."""

Samples: TypeAlias = npt.NDArray[np.float32]
"""Audio samples or per-frame values, float32. Shapes stand in the docstring of whoever takes them."""

Scalar: TypeAlias = str | int | float | bool
"""What a parameter on a card, in a request or on the command line may be."""


class NullCause(StrEnum):
    """Why a segment has no text. Causes are never mixed: each is counted apart."""

    EMPTY = "empty"  # the recognizer heard the segment and found no words
    WITHDRAWN = "withdrawn"  # partial results had words, the final result has none
    TIMEOUT = "timeout"  # the segment's time limit passed
    WORKER_CRASH = "worker_crash"  # every attempt lost its worker process
    WORKER_UNAVAILABLE = "worker_unavailable"  # no worker process could be started for too long
    OVERLOAD = "overload"  # refused for lack of capacity
    ERROR = "error"  # the recognizer raised


FAILURES = frozenset(
    {
        NullCause.TIMEOUT,
        NullCause.WORKER_CRASH,
        NullCause.WORKER_UNAVAILABLE,
        NullCause.OVERLOAD,
        NullCause.ERROR,
    }
)
"""Causes by which a text is lost, rather than there being none."""


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word. Times are on the session's audio clock once it leaves the pipeline."""

    text: str
    start_s: float
    end_s: float
    confidence: float | None  # posterior in [0, 1]; None where the recognizer has none


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a recognizer says of one segment. `null_cause` is set exactly when `text` is empty."""

    text: str
    words: tuple[Word, ...] = ()
    confidence: float | None = None
    null_cause: NullCause | None = None
    detail: str = ""  # for the operator: what was raised, which limit passed
    recovered: bool = False  # the recognizer's last pass failed; the text is from the pass before

    def __post_init__(self) -> None:
        if bool(self.text) == (self.null_cause is not None):
            raise ValueError("a transcript has either text or a cause for having none")

    @classmethod
    def null(cls, cause: NullCause, detail: str = "") -> "Transcript":
        """Return the transcript of a segment that has no text."""
        return cls(text="", null_cause=cause, detail=detail)


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of audio that VAD called speech, in samples on the audio clock.

    `start`..`end` is what the recognizer hears (with pre-roll and padding); `speech_start`..`speech_end` is
    what the frames' scores say. Segments of a session never overlap.
    """

    start: int
    end: int
    speech_start: int
    speech_end: int
    mean_probability: float
    cut: bool = False  # ended by the maximum length, not by silence

    @property
    def duration_s(self) -> float:
        """Seconds of audio given to the recognizer."""
        return (self.end - self.start) / SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class AudioFeatures:
    """What the waveform looks like, whatever is said in it (`audio/features.py`)."""

    duration_s: float
    level_dbfs: float
    peak_dbfs: float
    clipped_share: float
    zero_run_share: float
    dc_offset: float
    snr_db: float | None
    bandwidth_hz: float | None
    high_band_share: float | None  # share of the energy above 4 kHz


@dataclass(frozen=True, slots=True)
class DecodeStats:
    """How a segment fared in the worker pool."""

    queue_s: float
    wall_s: float
    cpu_s: float
    attempts: int
    final_s: float = 0.0  # from the end of the segment's audio to its transcript


@dataclass(frozen=True, slots=True)
class Utterance:
    """One segment with its transcript: the terminal event of a segment, sent exactly once."""

    id: str
    index: int
    segment: Segment
    transcript: Transcript
    features: AudioFeatures
    stats: DecodeStats

    @property
    def start_s(self) -> float:
        """Start of the speech; never after the first word."""
        start = self.segment.speech_start / SAMPLE_RATE_HZ
        return min([start, *(word.start_s for word in self.transcript.words[:1])])

    @property
    def end_s(self) -> float:
        """End of the speech; never before the last word."""
        end = self.segment.speech_end / SAMPLE_RATE_HZ
        return max([end, *(word.end_s for word in self.transcript.words[-1:])])


@dataclass(frozen=True, slots=True)
class Accounting:
    """Where every received sample went. `received` equals the sum of the others at any moment."""

    received: int
    in_utterances: int
    dropped_by_vad: int
    dropped_by_overload: int
    pending: int

    @property
    def balanced(self) -> bool:
        """Whether no sample was lost or counted twice."""
        parts = (self.in_utterances, self.dropped_by_vad, self.dropped_by_overload, self.pending)
        return min(parts) >= 0 and self.received == sum(parts)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a client should know about a result that is otherwise good."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """What one session did, stage by stage."""

    id: str
    accounting: Accounting
    features: AudioFeatures
    utterances: int
    nulls: Mapping[NullCause, int]
    speech_s: float  # seconds that VAD scored as speech, without pre-roll and padding
    vad_wall_s: float
    vad_cpu_s: float
    asr_cpu_s: float
    flips: int = 0  # changes from silence to speech
    recovered: int = 0  # segments whose text is from the pass before the recognizer's last


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file that an implementation is given, by what it is to it: `weights`, `lexicon`, `lm`."""

    role: str
    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Component:
    """A VAD or a recognizer as a bundle names it: which code, which version, which parameters, which files."""

    name: str
    version: str
    implementation: str
    options: Mapping[str, Scalar] = field(default_factory=dict)
    files: tuple[ModelFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Bundle:
    """The unit that is released: VAD + recognizer + every parameter, under one version."""

    name: str
    version: str
    description: str
    languages: tuple[str, ...]
    vad: Component
    asr: Component
    segmenter: Mapping[str, float]

    @property
    def id(self) -> str:
        """`name@version`, as results and metrics carry it."""
        return f"{self.name}@{self.version}"
