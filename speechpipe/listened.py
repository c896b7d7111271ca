"""What the machine heard in a session that is over, as the people who look at it need it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from speechpipe.monitor import Measure
from speechpipe.review.degrees import Terms
from speechpipe.review.tasks import Piece
from speechpipe.types import Bundle, Utterance

LEAST_S = 0.01


@dataclass(frozen=True)
class Listened:
    """A session that is over, and what the machine heard in it (nothing, if it was not asked)."""

    id: str
    tenant: str
    channel: str
    bundle: Bundle | None
    duration_s: float
    utterances: Sequence[Utterance] = ()

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The machine's draft."""
        return tuple(_piece(utterance) for utterance in self.utterances)


def _piece(utterance: Utterance) -> Piece:
    transcript = utterance.transcript
    words = tuple(
        {"word": word.text, "start": round(word.start_s, 3), "end": round(word.end_s, 3), "confidence": word.confidence}
        for word in transcript.words
    )
    start, end = round(utterance.start_s, 3), round(utterance.end_s, 3)
    return Piece(utterance.id, start, max(end, start + LEAST_S), transcript.text, words, transcript.confidence)


def automation(terms: Terms, utterance: Utterance) -> Mapping[str, Measure]:
    """Return what an utterance's record says of whether anybody had to look at it; nothing where nobody ever looks."""
    if not terms.followed:
        return {}
    return {"people.auto_accepted": int(terms.accepts(utterance.transcript.confidence))}
