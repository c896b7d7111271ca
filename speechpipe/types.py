"""Values that the stages of the cascade exchange. All are frozen; names carry their units.

There are two clocks. Positions in audio count samples at `SAMPLE_RATE_HZ` from the session's first sample (the audio
clock). Durations of work are seconds of wall or CPU time.
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
"""Sample rate of all stages after the decoder, in Hz; their audio is mono float32 in [-1, 1]."""

Samples: TypeAlias = npt.NDArray[np.float32]
"""Audio samples or per-frame values, float32. The functions that take them document the shape."""

Scalar: TypeAlias = str | int | float | bool
"""Type of a parameter's value on a card, in a request or on the command line."""


class NullCause(StrEnum):
    """Why a segment has no text. Each cause is counted separately."""

    EMPTY = "empty"  # the recognizer decoded the segment and found no words
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
"""Causes that mean a failure: the segment may contain speech, but its text was lost."""


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word. A recognizer counts times from its segment; the session moves them to the audio clock."""

    text: str
    start_s: float
    end_s: float
    confidence: float | None  # posterior in [0, 1]; None where the recognizer has none


@dataclass(frozen=True, slots=True)
class Transcript:
    """A recognizer's result for one segment. `null_cause` is set if and only if `text` is empty.

    `facts`: numbers that the recognizer reports about its work on this segment, by name, for example how many times it
    decoded again because the text repeated itself or was hopeless.
    """

    text: str
    words: tuple[Word, ...] = ()
    confidence: float | None = None
    null_cause: NullCause | None = None
    detail: str = ""  # for the operator: what was raised, or which limit was exceeded
    recovered: bool = False  # the recognizer's last pass failed; the text is from the previous pass
    language: str = ""  # code of the language that was recognised, where the recognizer knows more than one
    facts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.text) == (self.null_cause is not None):
            raise ValueError("a transcript must have either a text or a null cause, and not both")

    @classmethod
    def null(cls, cause: NullCause, detail: str = "") -> "Transcript":
        """Return the transcript of a segment that has no text."""
        return cls(text="", null_cause=cause, detail=detail)


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of audio that VAD called speech, in samples on the audio clock.

    `start`..`end` is the audio given to the recognizer, with pre-roll and padding. `speech_start`..`speech_end` is
    the speech by the VAD's frame scores. Segments of a session never overlap.
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
    """Acoustic features of a stretch of audio, computed in `cascade/audio/features.py`."""

    duration_s: float
    level_dbfs: float
    peak_dbfs: float
    clipped_share: float
    zero_run_share: float
    dc_offset: float
    snr_db: float | None
    bandwidth_hz: float | None
    high_band_share: float | None  # share of the energy above 4 kHz
    stretches: int | None  # of sound, with half a second of quiet between them; 0: silence


@dataclass(frozen=True, slots=True)
class DecodeStats:
    """Times and attempts of one segment in the worker pool. CPU is that of all threads of the worker process."""

    queue_s: float
    wall_s: float  # from its dispatch to its transcript; of live audio, this includes the time in which it was spoken
    cpu_s: float
    attempts: int
    final_s: float = 0.0  # from the end of the segment's audio to its transcript
    work_s: float = 0.0  # wall time in which the worker worked on it
    spare_cpu_s: float = 0.0  # part of `cpu_s`: partial results, and speculative decodes that were not used
    speculations: int = 0  # decodes in a pause, in case the speech has ended
    speculated: bool = False  # the last of them is the transcript


@dataclass(frozen=True, slots=True)
class Utterance:
    """One segment with its transcript. A session returns exactly one for each segment."""

    id: str
    index: int
    segment: Segment
    transcript: Transcript
    features: AudioFeatures
    stats: DecodeStats

    @property
    def start_s(self) -> float:
        """Start of the speech in seconds on the audio clock, not later than the first word."""
        start = self.segment.speech_start / SAMPLE_RATE_HZ
        return min([start, *(word.start_s for word in self.transcript.words[:1])])

    @property
    def end_s(self) -> float:
        """End of the speech in seconds on the audio clock, not earlier than the last word."""
        end = self.segment.speech_end / SAMPLE_RATE_HZ
        return max([end, *(word.end_s for word in self.transcript.words[-1:])])


@dataclass(frozen=True, slots=True)
class Accounting:
    """How many samples of a session went where. `received` always equals the sum of the others."""

    received: int
    in_utterances: int
    dropped_by_vad: int
    dropped_by_overload: int
    pending: int

    @property
    def balanced(self) -> bool:
        """Whether the counts add up: no sample is missing or counted twice."""
        parts = (self.in_utterances, self.dropped_by_vad, self.dropped_by_overload, self.pending)
        return min(parts) >= 0 and self.received == sum(parts)


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning to the client about a result that is otherwise complete."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """Totals of one session, stage by stage."""

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
    recovered: int = 0  # segments whose last recognizer pass failed; their text is from the previous pass
    shortened: int = 0  # segments whose text repeated itself and was cut
    hotwords_left: int = 0  # hotwords that the recognizer had no room for
    asr_spare_cpu_s: float = 0.0  # part of `asr_cpu_s`, see `DecodeStats`


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a component. `role` says what it is used for: `weights`, `lexicon`, `lm`."""

    role: str
    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Component:
    """A VAD or a recognizer of a bundle: its implementation, version, parameters and files.

    `punctuated`: a recognizer that writes punctuation and capitals. `takes`: what a recognizer makes use of beside the
    audio and its language, see `speechpipe.cascade.asr.taken`.
    """

    name: str
    version: str
    implementation: str
    options: Mapping[str, Scalar] = field(default_factory=dict)
    files: tuple[ModelFile, ...] = ()
    punctuated: bool = False
    takes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Bundle:
    """The unit of release: a VAD, a recognizer and all their parameters, under one version."""

    name: str
    version: str
    description: str
    languages: tuple[str, ...]
    vad: Component
    asr: Component
    segmenter: Mapping[str, float]

    @property
    def id(self) -> str:
        """`name@version`, as it appears in results and metrics."""
        return f"{self.name}@{self.version}"
