"""Completed sessions, as they are passed to the review service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from speechpipe.foundation.storage.record import Measure
from speechpipe.serving.automation.policy import EffectivePolicy
from speechpipe.types import Bundle, Utterance


@dataclass(frozen=True)
class CompletedSession:
    """A completed session with its utterances; `bundle` is None if no recognizer was used (`human_only`)."""

    id: str
    tenant: str
    channel: str
    bundle: Bundle | None
    duration_s: float
    utterances: Sequence[Utterance] = ()


def automation(terms: EffectivePolicy, utterance: Utterance) -> Mapping[str, Measure]:
    """Return the measure whether an utterance was delivered without review; empty if the tenant has no policy."""
    if not terms.followed:
        return {}
    return {"people.auto_accepted": int(terms.accepts(utterance.transcript.confidence))}
