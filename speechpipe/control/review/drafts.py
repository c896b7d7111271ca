"""The machine's draft of a session, for a reviewer."""

from speechpipe.control.review.tasks import DraftSegment
from speechpipe.serving.hooks import CompletedSession
from speechpipe.types import Utterance

LEAST_S = 0.01
"""The shortest segment."""


def draft(session: CompletedSession) -> tuple[DraftSegment, ...]:
    """Return the segments that the machine recognized in a session."""
    return tuple(_piece(utterance) for utterance in session.utterances)


def _piece(utterance: Utterance) -> DraftSegment:
    transcript = utterance.transcript
    words = tuple(
        {"word": word.text, "start": round(word.start_s, 3), "end": round(word.end_s, 3), "confidence": word.confidence}
        for word in transcript.words
    )
    start, end = round(utterance.start_s, 3), round(utterance.end_s, 3)
    return DraftSegment(utterance.id, start, max(end, start + LEAST_S), transcript.text, words, transcript.confidence)
