"""Replay of kept audio, to find the stage that caused a change.

Swap replay: input, VAD and recognizer are each taken from the reference or from now, in all eight combinations; the
exact Shapley values (`foundation/stats/shapley.py`) say what each contributes to the change. Replay against records:
the same version on the same audio must reproduce the records, else the model is not the cause. Both run on the workers
for files, which have a lower priority than live audio.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.evaluation.manifest import Clip
from speechpipe.cascade.evaluation.scores import edit_share
from speechpipe.cascade.request import SessionRequest
from speechpipe.foundation.stats.shapley import Share, Values, cells, shapley
from speechpipe.foundation.storage.record import Record
from speechpipe.serving.service import Service
from speechpipe.types import Bundle, Utterance

PLAYERS = ("input", "vad", "asr")
CONFIDENCE = 0.02


@dataclass(frozen=True)
class Replayed:
    """The result of a swap replay. `then` and `now` are the metric's means with nothing and with all exchanged."""

    metric: str
    then: float
    now: float
    shares: tuple[Share, ...]
    clips: tuple[int, int]

    @property
    def blamed(self) -> str:
        """The player with the largest share in the direction of the change whose interval excludes 0; else `none`."""
        sure = [share for share in self.shares if share.low > 0 or share.high < 0]
        sure = [share for share in sure if share.value * (self.now - self.then) > 0]
        return max(sure, key=lambda share: abs(share.value)).player if sure else "none"


Metric = Callable[[Clip, Sequence[Utterance]], float]


def wrong(clip: Clip, utterances: Sequence[Utterance]) -> float:
    """Return the word error rate, at most 1; for a clip without a text, 1 minus the mean confidence."""
    if clip.text:
        return edit_share(clip.text, " ".join(one.transcript.text for one in utterances))
    sure = [one.transcript.confidence or 0.0 for one in utterances]
    return 1.0 - float(np.mean(sure)) if sure else 1.0


def swapped(
    service: Service,
    reference: Sequence[Clip],
    incident: Sequence[Clip],
    pinned: Bundle,
    now: Bundle,
    metric: Metric = wrong,
) -> Replayed:
    """Replay all cells. Cells with the same bundle and input are computed once.

    Args:
        service: runs the sessions.
        reference: clips of the reference.
        incident: clips of now.
        pinned: the bundle of the reference.
        now: the bundle of now.
        metric: computed for each clip.
    """
    known: list[tuple[bool, Bundle, Values]] = []  # a bundle is not hashable, so this is not a dictionary
    found = {}
    for cell in cells(PLAYERS):
        bundle = pinned
        if "vad" in cell:
            bundle = replace(bundle, vad=now.vad, segmenter=now.segmenter)
        if "asr" in cell:
            bundle = replace(bundle, asr=now.asr)
        fresh = "input" in cell
        values = next((old for was, other, old in known if was is fresh and other == bundle), None)
        if values is None:
            clips = incident if fresh else reference
            values = np.array([metric(clip, hear(service, bundle, clip)) for clip in clips])
            known.append((fresh, bundle, values))
        found[cell] = values
    everything, nothing = frozenset(PLAYERS), frozenset[str]()
    return Replayed(
        metric.__name__,
        float(found[nothing].mean()),
        float(found[everything].mean()),
        tuple(shapley(PLAYERS, found)),
        (len(reference), len(incident)),
    )


def hear(service: Service, bundle: Bundle, clip: Clip) -> list[Utterance]:
    """Return the utterances of a clip with `bundle`."""
    session = service.engine.session(bundle, SessionRequest(DecodeOptions(offline=True)))
    utterances = [*session.feed(clip.samples), *session.finish()]
    while not session.done:
        utterances += session.wait(1.0)
    return utterances


@dataclass(frozen=True)
class AgainstRecord:
    """The result of a replay against records: sessions whose records differ from a new run on the same audio."""

    sessions: int
    different: tuple[str, ...]

    @property
    def blamed(self) -> str:
        """`infra` if more than 5 % differ, as the model itself is then unchanged; else `none`."""
        return "infra" if len(self.different) > 0.05 * self.sessions else "none"


def against_record(
    service: Service, bundle: Bundle, sessions: Sequence[tuple[Clip, Sequence[Record]]]
) -> AgainstRecord:
    """Run kept audio again, and compare the utterances with the records of its session."""
    different = [clip.name for clip, units in sessions if _differs(hear(service, bundle, clip), units)]
    return AgainstRecord(len(sessions), tuple(different))


def _differs(utterances: Sequence[Utterance], units: Sequence[Record]) -> bool:
    if len(units) != len(utterances):
        return True
    in_order = sorted(units, key=lambda unit: unit.number("vad.start_s"))
    for utterance, unit in zip(utterances, in_order, strict=True):
        transcript = utterance.transcript
        outcome = "ok" if transcript.null_cause is None else transcript.null_cause.value
        if unit.outcome != outcome or unit.number("asr.characters") != len(transcript.text):
            return True
        if abs(unit.number("asr.confidence") - (transcript.confidence or 0.0)) > CONFIDENCE:
            return True
    return False
