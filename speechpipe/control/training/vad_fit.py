"""Fitting of the segmenter's parameters to marked spans: threshold, hysteresis, durations and padding.

VAD scores are computed once. Threshold, hysteresis and durations are fitted to the 10 ms frames that are marked as
speech. Padding is fitted to what reaches the recognizer: a missing frame costs a word, an extra one costs CPU.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import numpy as np

from speechpipe.cascade.audio.features import frame_levels_db
from speechpipe.cascade.evaluation.scores import Spans, VadScore, score_spans
from speechpipe.cascade.vad import Closed, Vad
from speechpipe.cascade.vad.segmenter import Segmenter, SegmenterOptions
from speechpipe.errors import BadInput
from speechpipe.types import SAMPLE_RATE_HZ, Samples

STEPS: Mapping[str, tuple[float, ...]] = {
    "threshold": (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    "hysteresis": (0.0, 0.05, 0.1, 0.15, 0.25, 0.35),
    "min_speech_s": (0.05, 0.1, 0.15, 0.25),
    "min_silence_s": (0.2, 0.3, 0.5, 0.7),  # longer values delay live text
}
"""The grid of the search; a start value that is not on it begins at the nearest one that is."""

PADDINGS_S = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""For both ends. Shorter padding would cut first sounds."""

LOST = 0.005
"""Share of the speech frames, passed on with the largest padding, that a smaller padding may lose."""

LEAST_CLIPS = 2
MOST_FOLDS = 5
STEP_GAIN, LEAST_GAIN = 0.0005, 0.002
"""Required gains of F1: of a step on one axis, and of the result on held-out recordings."""


@dataclass(frozen=True)
class Marked:
    """A recording: (n,) samples at 16 kHz, and its spans of speech in seconds."""

    samples: Samples
    spans: Spans


@dataclass(frozen=True)
class Frames:
    """Recall and precision over the 10 ms frames of a set of recordings."""

    recall: float
    precision: float

    @property
    def f1(self) -> float:
        """The harmonic mean of recall and precision."""
        both = self.recall + self.precision
        return 2 * self.recall * self.precision / both if both else 0.0


@dataclass(frozen=True)
class Fitted:
    """The best options on all recordings, with their cross-validated figures beside those of the old options.

    `passed_on` counts the frames that reach the recognizer, including padding.
    """

    options: SegmenterOptions
    before: Frames
    cross_validated: Frames
    passed_on_before: Frames
    passed_on: Frames
    recordings: int

    @property
    def better(self) -> bool:
        """Whether fitting improves held-out recordings."""
        return self.cross_validated.f1 > self.before.f1 + LEAST_GAIN


@dataclass(frozen=True)
class _Scored:
    scores: Samples
    levels: Samples
    length: int
    spans: Spans


Choice = tuple[float, ...]


def fit(
    recordings: Sequence[Marked],
    vad: Vad,
    start: SegmenterOptions,
    *,
    seed: int = 0,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Fitted:
    """Fit the options; each recording is tested once with options fitted to the others.

    Raises:
        BadInput: there are too few recordings, or none with both speech and silence.
    """
    if len(recordings) < LEAST_CLIPS:
        raise BadInput(f"at least {LEAST_CLIPS} recordings with spans are needed, not {len(recordings)}")
    on_progress(f"scoring {len(recordings)} recordings")
    scored = [_score(item, vad) for item in recordings]
    size = vad.frame_samples
    speech = sum(end - begin for item in recordings for begin, end in item.spans)
    if not 0 < speech < sum(len(item.samples) for item in recordings) / SAMPLE_RATE_HZ:
        raise BadInput("the recordings need both speech and silence to fit to")
    order = np.random.default_rng(seed).permutation(len(scored))
    folds = min(MOST_FOLDS, len(scored))
    held: list[VadScore] = []
    passed: list[VadScore] = []
    for fold in range(folds):
        on_progress(f"fold {fold + 1} of {folds}")
        out = set(order[fold::folds].tolist())
        options = _best([item for number, item in enumerate(scored) if number not in out], start, size)
        held += [_judge(scored[number], options, size) for number in sorted(out)]
        passed += [_judge(scored[number], options, size, padded=True) for number in sorted(out)]
    on_progress("fitting to all")
    return Fitted(
        _best(scored, start, size),
        _frames([_judge(item, start, size) for item in scored]),
        _frames(held),
        _frames([_judge(item, start, size, padded=True) for item in scored]),
        _frames(passed),
        len(scored),
    )


def measure(recordings: Sequence[Marked], vad: Vad, options: SegmenterOptions, *, padded: bool = False) -> Frames:
    """Return the figures of options on recordings: of speech, or (`padded`) of what reaches the recognizer."""
    return _frames([_judge(_score(item, vad), options, vad.frame_samples, padded=padded) for item in recordings])


def _score(item: Marked, vad: Vad) -> _Scored:
    size = vad.frame_samples
    padded = np.pad(item.samples, (0, -len(item.samples) % size))
    frames = padded.reshape(-1, size)
    scores = vad.open().probabilities(frames)
    return _Scored(scores, frame_levels_db(frames), len(item.samples), item.spans)


def _judge(item: _Scored, options: SegmenterOptions, frame_samples: int, *, padded: bool = False) -> VadScore:
    machine = Segmenter(options, frame_samples)
    events = [*machine.push(item.scores, item.levels), *machine.finish(item.length)]
    found = [event.segment for event in events if isinstance(event, Closed)]
    ends = [(one.start, one.end) if padded else (one.speech_start, one.speech_end) for one in found]
    spans = [(start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ) for start, end in ends]
    return score_spans(item.spans, spans, item.length / SAMPLE_RATE_HZ)


def _frames(scores: Sequence[VadScore]) -> Frames:
    speech, found = sum(score.speech_frames for score in scores), sum(score.found_frames for score in scores)
    wrong = sum(score.false_frames for score in scores)
    return Frames(found / max(speech, 1), found / max(found + wrong, 1))


def _best(scored: Sequence[_Scored], start: SegmenterOptions, frame_samples: int) -> SegmenterOptions:
    """Return the best options by coordinate search from `start`, until no step gains enough."""
    known: dict[Choice, float] = {}

    def value(choice: Choice) -> float:
        if choice not in known:
            options = _options(start, choice)
            known[choice] = _frames([_judge(item, options, frame_samples) for item in scored]).f1
        return known[choice]

    given = asdict(start) | {"hysteresis": start.threshold - start.exit_threshold}
    best = tuple(min(values, key=lambda step: abs(step - given[name])) for name, values in STEPS.items())
    if not value(best):  # if nothing is detected, no single step gains anything
        axis = list(STEPS).index("threshold")
        best = max(((*best[:axis], step, *best[axis + 1 :]) for step in STEPS["threshold"]), key=value)
    while value(better := max(_neighbours(best), key=value)) > value(best) + STEP_GAIN:
        best = better
    if value(best) <= _frames([_judge(item, start, frame_samples) for item in scored]).f1 + STEP_GAIN:
        return start
    return _padded(scored, _options(start, best), frame_samples)


def _padded(scored: Sequence[_Scored], options: SegmenterOptions, frame_samples: int) -> SegmenterOptions:
    """Return options with the smallest padding that loses hardly any speech."""
    ways = [replace(options, pre_roll_s=padding_s, padding_s=padding_s) for padding_s in PADDINGS_S]
    recalls = [_frames([_judge(item, way, frame_samples, padded=True) for item in scored]).recall for way in ways]
    return next(way for way, recall in zip(ways, recalls, strict=True) if recall >= max(recalls) - LOST)


def _neighbours(choice: Choice) -> list[Choice]:
    found = []
    for axis, values in enumerate(STEPS.values()):
        for one, other in (*pairwise(values), *pairwise(values[::-1])):
            if choice[axis] == one:
                found.append((*choice[:axis], other, *choice[axis + 1 :]))
    return found


def _options(start: SegmenterOptions, choice: Choice) -> SegmenterOptions:
    values = dict(zip(STEPS, choice, strict=True))
    hysteresis = values.pop("hysteresis")
    return replace(start, **values, negative_threshold=max(0.01, round(values["threshold"] - hysteresis, 3)))
