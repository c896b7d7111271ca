"""Sampling of sessions for review, with known chances, which make the estimates unbiased."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from speechpipe.control.review import PRIORITY, WAITED_FOR, ReviewReason
from speechpipe.control.review.tasks import Draft, DraftSegment
from speechpipe.serving.automation import Degree
from speechpipe.serving.automation.policy import EffectivePolicy, Policy

Draw = Callable[[], float]
"""A uniform random number in [0, 1)."""


MOST_TIMES = 5.0
"""The chance of a long session is at most this many times that of a session of one word."""


@dataclass(frozen=True)
class Drawn:
    """The sampling decision on one session. `why` None: it is not reviewed."""

    draft: Draft
    why: ReviewReason | None
    waits: bool = False  # its client gets no text before a reviewer has answered

    @property
    def priority(self) -> float:
        """Higher is more urgent; of equal reasons, the less confident first."""
        if self.why is None:
            return 0.0
        known = [piece.confidence for piece in self.draft.pieces if piece.confidence is not None and piece.needs]
        doubt = 1.0 - sum(known) / len(known) if known else 1.0
        return PRIORITY[self.why] + doubt + (WAITED_FOR if self.waits else 0.0)


def drawn(pieces: Sequence[DraftSegment], terms: EffectivePolicy, *, live: bool, draw: Draw = random.random) -> Drawn:
    """Decide which segments of a recognized session are reviewed. Live sessions never wait for the answer."""
    policy = terms.policy
    if not terms.followed:
        return Drawn(Draft(tuple(pieces)), None)
    if policy.degree.waits:
        blind = policy.degree is not Degree.ASSIST or draw() < policy.audit_share
        sure = tuple(replace(piece, needs=True, chance=1.0) for piece in pieces)
        return Drawn(Draft(sure, blind, whole=1.0, base=1.0), ReviewReason.DEGREE, waits=not live)
    audited = draw() < audit_chance(pieces, policy)
    if policy.degree is Degree.PARTIAL:
        return _partial(pieces, terms, audited=audited, live=live)
    doubtful = _doubtful(pieces, policy)
    picked = doubtful and draw() < policy.doubtful_share
    if not (audited or picked):
        return Drawn(_looked_at(pieces, None, policy.audit_share, blind=False), None)
    chance = review_chance(pieces, policy)
    draft = _looked_at(pieces, chance, policy.audit_share, blind=audited)
    return Drawn(draft, ReviewReason.AUDIT if audited else ReviewReason.DOUBTFUL)


def _partial(pieces: Sequence[DraftSegment], terms: EffectivePolicy, *, audited: bool, live: bool) -> Drawn:
    share, base = audit_chance(pieces, terms.policy), terms.policy.audit_share
    found, unsure = [], False
    for piece in pieces:
        if terms.accepts(piece.confidence):
            found.append(replace(piece, accepted=True, needs=audited, chance=share if audited else None))
        else:
            unsure = True
            found.append(replace(piece, needs=True, chance=1.0))
    draft = Draft(tuple(found), blind=audited and not unsure, whole=share if audited else None, base=base)
    if unsure:
        return Drawn(draft, ReviewReason.UNSURE, waits=not live)
    return Drawn(draft, ReviewReason.AUDIT if audited else None)


def disagreeing(pieces: Sequence[DraftSegment], terms: EffectivePolicy, draw: Draw = random.random) -> Drawn:
    """Decide on a session that was not sampled before, after another bundle has returned a different text."""
    policy = terms.policy
    if draw() >= policy.disagreement_share:
        return Drawn(Draft(tuple(pieces)), None)
    chance = combined(review_chance(pieces, policy), policy.disagreement_share)
    return Drawn(_looked_at(pieces, chance, policy.audit_share, blind=False), ReviewReason.DISAGREEMENT)


def _doubtful(pieces: Sequence[DraftSegment], policy: Policy) -> bool:
    return any(piece.confidence is not None and piece.confidence < policy.doubt for piece in pieces)


def audit_chance(pieces: Sequence[DraftSegment], policy: Policy) -> float:
    """Return the chance of a random audit, which grows with the number of words.

    It is proportional to the square root of the words, as the spread of a session's errors is (Neyman, 1934), up to
    `MOST_TIMES`, because long sessions take long to review.
    """
    words = sum(len(piece.text.split()) for piece in pieces)
    return min(1.0, policy.audit_share * min(MOST_TIMES, math.sqrt(max(words, 1))))


def review_chance(pieces: Sequence[DraftSegment], policy: Policy) -> float:
    """Return the chance of a review for any reason, except those that a client waits for."""
    doubtful = policy.degree is Degree.FULL and _doubtful(pieces, policy)
    return combined(audit_chance(pieces, policy), policy.doubtful_share if doubtful else 0.0)


def combined(first: float, second: float) -> float:
    """Return the chance of being sampled by at least one of two independent draws."""
    return 1 - (1 - first) * (1 - second)


def _looked_at(pieces: Sequence[DraftSegment], chance: float | None, base: float, *, blind: bool) -> Draft:
    found = tuple(replace(piece, accepted=True, needs=chance is not None, chance=chance) for piece in pieces)
    return Draft(found, blind, whole=chance, base=base)


def shown(task_draft: Draft, doubt: float) -> list[dict[str, Any]]:
    """Return the draft as its reviewer sees it: without texts if blind, else with doubtful words marked."""
    return [
        {
            "id": piece.id,
            "start": piece.start_s,
            "end": piece.end_s,
            "text": "" if task_draft.blind else piece.text,
            "words": [] if task_draft.blind else [_word(word, doubt) for word in piece.words],
            "confidence": None if task_draft.blind else piece.confidence,
            "needs": piece.needs,
            "accepted": piece.accepted,
        }
        for piece in task_draft.pieces
    ]


def _word(word: Any, doubt: float) -> dict[str, Any]:
    confidence = word.get("confidence")
    return {**word, "doubtful": confidence is not None and confidence < doubt}
