"""What the machine heard in a session that is over, as the people who look at it need it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from speechpipe.foundation.storage.record import Measure
from speechpipe.serving.automation.policy import EffectivePolicy
from speechpipe.types import Bundle, Utterance


@dataclass(frozen=True)
class CompletedSession:
    """A session that is over, and what the machine heard in it (nothing, if it was not asked)."""

    id: str
    tenant: str
    channel: str
    bundle: Bundle | None
    duration_s: float
    utterances: Sequence[Utterance] = ()


def automation(terms: EffectivePolicy, utterance: Utterance) -> Mapping[str, Measure]:
    """Return what an utterance's record says of whether anybody had to look at it; nothing where nobody ever looks."""
    if not terms.followed:
        return {}
    return {"people.auto_accepted": int(terms.accepts(utterance.transcript.confidence))}
