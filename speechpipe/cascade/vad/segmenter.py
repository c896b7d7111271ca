"""The threshold-based segmenter: turns VAD scores into segments, in the same way for every VAD.

    idle --score >= threshold--> candidate --speech >= min_speech--> open --silence >= min_silence--> idle
                                     |                                 |
                                     +--silence >= min_silence--> idle +--length >= max_segment--> cut, stay open

It decides while the audio arrives and never revises a decision, so that an upload and a live stream of the same audio
get the same segments. Positions are samples on the session's audio clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from speechpipe.cascade.vad import Closed, Opened
from speechpipe.errors import InvalidParameter
from speechpipe.types import SAMPLE_RATE_HZ, Samples, Segment

CUT_WINDOW_S = 4.0
"""A segment of maximum length is cut at the quietest frame of its last so many seconds."""

PAUSE_S = 0.09
"""Silence after which the endpoint counts as near: longer than a plosive's closure, shorter than `min_silence_s`."""

BOUNDS: dict[str, tuple[float, float]] = {
    "threshold": (0.01, 0.99),
    "negative_threshold": (0.0, 0.99),
    "min_speech_s": (0.0, 2.0),
    "min_silence_s": (0.03, 5.0),
    "pre_roll_s": (0.0, 2.0),
    "padding_s": (0.0, 2.0),
    "max_segment_s": (2.0, 60.0),
}


@dataclass(frozen=True, slots=True)
class SegmenterOptions:
    """All parameters of the segmenter. Each can be set per request, within `BOUNDS`."""

    threshold: float = 0.5
    negative_threshold: float | None = None  # None: threshold - 0.15, as in Silero's own segmentation
    min_speech_s: float = 0.1
    min_silence_s: float = 0.5
    pre_roll_s: float = 0.3
    padding_s: float = 0.3
    max_segment_s: float = 20.0

    def __post_init__(self) -> None:
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            if value is None and name == "negative_threshold":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise InvalidParameter(
                    f"vad.{name} must be a number in {low}..{high}, not {value!r}", param=f"vad.{name}"
                )
        if self.exit_threshold > self.threshold:
            message = f"vad.negative_threshold {self.exit_threshold} is above vad.threshold {self.threshold}"
            raise InvalidParameter(message, param="vad.negative_threshold")

    @property
    def exit_threshold(self) -> float:
        """Score below which a frame counts as silence while speech is in progress."""
        if self.negative_threshold is not None:
            return self.negative_threshold
        return max(self.threshold - 0.15, 0.01)

    def changed(self, changes: Mapping[str, float]) -> "SegmenterOptions":
        """Return a copy of these options with `changes`.

        Raises:
            InvalidParameter: an unknown name, or a value out of bounds.
        """
        known = {field.name for field in fields(self)}
        for name in changes:
            if name not in known:
                raise InvalidParameter(
                    f"unknown parameter vad.{name}; known: {', '.join(sorted(known))}", param=f"vad.{name}"
                )
        return replace(self, **changes)


class Segmenter:
    """The segmenter's state for one session. Push scores in order, then call `finish` once."""

    def __init__(self, options: SegmenterOptions, frame_samples: int, start: int = 0) -> None:
        """Begin at sample `start` of the session."""
        self.options = options
        self._frame = frame_samples
        self._min_speech = options.min_speech_s * SAMPLE_RATE_HZ
        self._min_silence = options.min_silence_s * SAMPLE_RATE_HZ
        self._pre_roll = round(options.pre_roll_s * SAMPLE_RATE_HZ)
        self._padding = round(options.padding_s * SAMPLE_RATE_HZ)
        self._max = round(options.max_segment_s * SAMPLE_RATE_HZ)
        self._hold = self._max - round(min(CUT_WINDOW_S, options.max_segment_s / 2) * SAMPLE_RATE_HZ)
        self._now = start  # samples scored
        self._free = start  # end of the last segment; the next one starts here or later
        self._speech_start: int | None = None
        self._speech_end = 0  # end of the last frame of speech
        self._start: int | None = None  # start of the open segment
        self._scores: list[float] = []  # of the frames since the speech began
        self._levels: list[float] = []
        self.flips = 0  # changes from silence to speech
        self.speech_samples = 0  # samples of speech in closed segments

    @property
    def is_open(self) -> bool:
        """Whether a segment is open."""
        return self._start is not None

    @property
    def settled(self) -> int:
        """While no segment is open: position before which no further segment can begin."""
        if self._speech_start is not None:
            return max(self._free, self._speech_start - self._pre_roll)
        return max(self._free, self._now - self._pre_roll)

    @property
    def certain_end(self) -> int:
        """While a segment is open: position up to which samples certainly belong to it.

        Excludes silence beyond the padding, and audio that a cut at the maximum length could still move to the next
        segment, so that a recognizer never receives audio of another segment.
        """
        if self._start is None:
            return self._free
        return min(self._now, self._speech_end + self._padding, max(self._start + self._hold, self._start))

    @property
    def speech_end(self) -> int:
        """While a segment is open: end of the last frame of speech."""
        return self._speech_end

    @property
    def endpoint_near(self) -> bool:
        """Whether the open segment may end soon: it has been silent for `PAUSE_S`."""
        return self._start is not None and self._now - self._speech_end >= PAUSE_S * SAMPLE_RATE_HZ

    def push(self, scores: Samples, levels_db: Samples) -> list[Opened | Closed]:
        """Take the (n,) scores and levels (dBFS) of the next frames; return the decisions in order."""
        events: list[Opened | Closed] = []
        options = self.options
        enter, leave = options.threshold, options.exit_threshold
        for score, level in zip(scores.tolist(), levels_db.tolist(), strict=True):
            frame_start = self._now
            self._now += self._frame
            if self._speech_start is None:
                if score < enter:
                    continue
                self._speech_start, self._speech_end = frame_start, self._now
                self.flips += 1
            elif score >= leave:
                self._speech_end = self._now
            self._scores.append(score)
            self._levels.append(level)
            if self._start is None and self._speech_end - self._speech_start >= self._min_speech:
                self._start = max(self._free, self._speech_start - self._pre_roll)
                events.append(Opened(self._start, self._now, self._speech_start))
            if self._now - self._speech_end >= self._min_silence:
                self._end_of_speech(events)
            elif self._start is not None and self._now - self._start >= self._max:
                self._cut(events)
        return events

    def finish(self, received: int) -> list[Opened | Closed]:
        """End the session at sample `received` (the last frame may be padded beyond it)."""
        events: list[Opened | Closed] = []
        self._now = min(self._now, received)
        self._speech_end = min(self._speech_end, received)
        if self._speech_start is not None:
            self._end_of_speech(events)
        self._free = received
        return events

    def flush(self) -> list[Opened | Closed]:
        """End the open segment now, as if enough silence had passed."""
        events: list[Opened | Closed] = []
        self._end_of_speech(events)
        return events

    def clear(self) -> None:
        """Drop the speech that is not in a closed segment yet."""
        self._free = max(self._free, self._now)
        self._start = self._speech_start = None
        self._scores, self._levels = [], []

    def _end_of_speech(self, events: list[Opened | Closed]) -> None:
        if self._start is not None:
            frames = -(-(self._speech_end - (self._speech_start or 0)) // self._frame)
            self._close(min(self._speech_end + self._padding, self._now), self._speech_end, frames, events)
        self._start = self._speech_start = None
        self._scores, self._levels = [], []

    def _cut(self, events: list[Opened | Closed]) -> None:
        """Split a segment of maximum length at its quietest place, and continue with the rest."""
        window = min(len(self._levels) - 1, (self._max - self._hold) // self._frame)
        recent = np.array(self._levels[-window:])
        # The mean of three frames: one quiet frame can be the closure of a plosive.
        smooth = np.convolve(np.pad(recent, 1, mode="edge"), np.ones(3) / 3, mode="valid")
        kept = len(self._levels) - window + int(smooth.argmin())
        at = self._now - (len(self._levels) - kept) * self._frame + self._frame // 2
        if at >= self._speech_end:  # the quietest place is in the current silence, so end the segment there
            self._end_of_speech(events)
            return
        self._close(at, at, kept, events, cut=True)
        self._scores, self._levels = self._scores[kept:], self._levels[kept:]
        self._start = self._speech_start = at
        events.append(Opened(at, self._now, at, continued=True))

    def _close(self, end: int, speech_end: int, frames: int, events: list[Opened | Closed], cut: bool = False) -> None:
        assert self._start is not None
        assert self._speech_start is not None
        self._free = end
        self.speech_samples += speech_end - self._speech_start
        mean = sum(self._scores[:frames]) / max(frames, 1)
        segment = Segment(self._start, end, self._speech_start, speech_end, mean, cut)
        events.append(Closed(segment, self._now))
