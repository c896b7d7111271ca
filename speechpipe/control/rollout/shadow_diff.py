"""Comparison of a served session with the candidate's result on the same audio."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from speechpipe.cascade.evaluation.scores import edit_share
from speechpipe.cascade.request import SessionRequest
from speechpipe.foundation.storage.record import Measure
from speechpipe.types import SAMPLE_RATE_HZ, Bundle, Samples, Utterance

COSTLY = 3.0
"""A session is costly if the candidate used more than this many times the champion's CPU time."""
MOST_SESSION_S = 120.0
"""Longer sessions are not shadowed."""


@dataclass
class Copy:
    """A served session, held until shadow has processed it. Fed on the session's thread."""

    bundle: Bundle
    request: SessionRequest
    claim: Callable[[float], bool]  # reserves seconds of the memory for all copies; False: none is left
    blocks: list[Samples] = field(default_factory=list)
    samples: int = 0
    utterances: list[Utterance] = field(default_factory=list)
    dropped: str = ""  # why it will not be processed

    def feed(self, samples: Samples) -> None:
        """Append (n,) samples."""
        if self.dropped:
            return
        self.samples += len(samples)
        if self.samples > MOST_SESSION_S * SAMPLE_RATE_HZ:
            self.drop("too_long")
        elif not self.claim(len(samples) / SAMPLE_RATE_HZ):
            self.drop("queue_full")
        else:
            self.blocks.append(samples.copy())

    def drop(self, cause: str) -> None:
        """Release the audio; `cause` is kept unless there is one."""
        held_s, self.blocks = self.held_s, []
        self.dropped = self.dropped or cause
        self.claim(-held_s)

    def close(self) -> None:
        """Do nothing: utterances may follow."""

    def heard(self, utterance: Utterance) -> None:
        """Append a served utterance."""
        self.utterances.append(utterance)

    @property
    def held_s(self) -> float:
        """Seconds of audio in memory."""
        return sum(len(block) for block in self.blocks) / SAMPLE_RATE_HZ

    @property
    def audio(self) -> Samples:
        """The (n,) samples."""
        return np.concatenate(self.blocks) if self.blocks else np.zeros(0, np.float32)


@dataclass(frozen=True)
class ArmOutput:
    """The result of a bundle on the audio."""

    utterances: Sequence[Utterance]
    cpu_s: float
    failed: bool

    @property
    def text(self) -> str:
        """The words of all utterances."""
        return " ".join(one.transcript.text for one in self.utterances if one.transcript.text)


def compared(then: ArmOutput, now: ArmOutput) -> dict[str, Measure]:
    """Return the shadow measures of a pair; harm is positive."""
    had, has = len(then.text.split()), len(now.text.split())
    measures: dict[str, Measure] = {
        "shadow.failed": float(now.failed) - float(then.failed),
        "shadow.null": float(bool(had) and not has) - float(bool(has) and not had),
        "shadow.words_lost": max(-1.0, min(1.0, (had - has) / had)) if had else 0.0,
        "shadow.costly": float(now.cpu_s > COSTLY * then.cpu_s > 0),
        "shadow.difference": difference(then.text, now.text),
        "shadow.vad_overlap": overlap(then.utterances, now.utterances),
        "shadow.cost": now.cpu_s / then.cpu_s if then.cpu_s > 0 else None,
    }
    before, after = _confidence(then), _confidence(now)
    if before is not None and after is not None:
        measures["shadow.confidence_change"] = after - before
    return measures


def difference(reference: str, text: str) -> float:
    """Return the word errors of `text` against `reference`, divided by its words, at most 1."""
    if not reference:
        return float(bool(text))
    return min(1.0, edit_share(reference, text))


def overlap(first: Sequence[Utterance], second: Sequence[Utterance]) -> float | None:
    """Return the intersection over union of the speech in two results; None if there is no speech."""
    marks: list[tuple[int, int, int]] = []
    for index, side in enumerate((first, second)):
        for one in side:
            marks += [(one.segment.speech_start, 1, index), (one.segment.speech_end, -1, index)]
    both = either = last = 0
    open_ = [0, 0]
    for at, change, index in sorted(marks):
        both += (at - last) * (min(open_) > 0)
        either += (at - last) * (max(open_) > 0)
        open_[index] += change
        last = at
    return both / either if either else None


def _confidence(heard: ArmOutput) -> float | None:
    known = [one.transcript.confidence for one in heard.utterances if one.transcript.confidence is not None]
    return float(np.mean(known)) if known else None
