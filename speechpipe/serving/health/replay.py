"""Swap replay: the same audio again, with the input, the VAD and the recognizer as they were or as they are now.

All eight cells, and the exact Shapley value of what each of the three contributes to the change (`monitor/shapley.py`).
And replay against record: the same version on the same audio must give what the record says, or the model is not the
one at fault. Everything runs on the workers for files, which give way to live audio.
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
from speechpipe.serving.engine import Service
from speechpipe.types import Bundle, Utterance

PLAYERS = ("input", "vad", "asr")
CONFIDENCE = 0.02


@dataclass(frozen=True)
class Replayed:
    """What a swap replay says. `then` and `now` are the metric's means with nothing and with everything swapped."""

    metric: str
    then: float
    now: float
    shares: tuple[Share, ...]
    clips: tuple[int, int]

    @property
    def blamed(self) -> str:
        """The player with the largest share whose interval does not hold 0; `none` if there is none."""
        sure = [share for share in self.shares if share.low > 0 or share.high < 0]
        sure = [share for share in sure if share.value * (self.now - self.then) > 0]
        return max(sure, key=lambda share: abs(share.value)).player if sure else "none"


Metric = Callable[[Clip, Sequence[Utterance]], float]


def wrong(clip: Clip, utterances: Sequence[Utterance]) -> float:
    """Return the word errors a word, at most 1; where the text is not known, 1 minus the confidence."""
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
    """Replay all cells; each clip is heard once for each VAD and recognizer that differ."""
    known: list[tuple[bool, Bundle, Values]] = []  # a bundle holds dictionaries: it is no key
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
    """Return what `bundle` makes of a clip."""
    session = service.session(bundle, SessionRequest(DecodeOptions(whole=True)))
    utterances = [*session.feed(clip.samples), *session.finish()]
    while not session.done:
        utterances += session.wait(1.0)
    return utterances


@dataclass(frozen=True)
class AgainstRecord:
    """Sessions whose record says otherwise than a clean run of the same version on the same audio."""

    sessions: int
    different: tuple[str, ...]

    @property
    def blamed(self) -> str:
        """`infra` if more than one in twenty differ: the model answers as ever, what was written is something else."""
        return "infra" if len(self.different) > 0.05 * self.sessions else "none"


def against_record(
    service: Service, bundle: Bundle, sessions: Sequence[tuple[Clip, Sequence[Record]]]
) -> AgainstRecord:
    """Run kept audio again and compare with the units' records of its session."""
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
