"""Comparison of a reviewer's answer with the machine's draft, matched by the draft segments that each answer covers.

A reviewer may split, merge, delete and add segments. Connected segments form one unit, whose two texts are compared
as a whole, so that a moved boundary is no error.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from speechpipe.control.review.tasks import AnswerSegment, DraftSegment, Kind, Task

MOST_PAIRS = 200
"""At most this many different word pairs are kept for a task."""


class Aligned(Protocol):
    """A word alignment of a reviewer's text (reference) and the machine's (hypothesis)."""

    @property
    def pairs(self) -> Sequence[tuple[str, str]]:
        """(reference, hypothesis) word of every edit; empty where there is no word on that side."""
        ...

    @property
    def length(self) -> int:
        """The number of words of the reference."""
        ...


Align = Callable[[str, str], Aligned]
"""Aligns a reference text with a hypothesis text."""


def compare(task: Task, said: Sequence[AnswerSegment], align: Align) -> dict[str, Any]:
    """Return the units of a task with their edits, and the confused word pairs with their counts."""
    pieces = {piece.id: piece for piece in task.draft.pieces}
    units: list[dict[str, Any]] = []
    pairs: Counter[tuple[str, str]] = Counter()
    unintelligible = left_out = 0
    for names, answers in _connected(pieces, said):
        mine = [pieces[name] for name in names]
        if any(answer.kind is Kind.UNINTELLIGIBLE for answer in answers):
            unintelligible += 1
            continue
        if (chance := _chance(mine, task.draft.whole)) is None:
            left_out += 1  # the reviewer corrected a segment outside the sample, which would bias the estimate
            continue
        text = " ".join(answer.text for answer in answers if answer.text)
        found = align(text, " ".join(piece.text for piece in mine if piece.text))
        counts = Counter("insertion" if not a else "deletion" if not b else "substitution" for a, b in found.pairs)
        pairs.update(found.pairs)
        units.append(
            {
                "id": names[0] if names else f"{task.id}-added",
                "edits": len(found.pairs),
                "words": found.length,
                "substitutions": counts["substitution"],
                "deletions": counts["deletion"],
                "insertions": counts["insertion"],
                "confidence": _confidence(mine),
                "chance": chance,
            }
        )
    shown = [[a, b, count] for (a, b), count in pairs.most_common(MOST_PAIRS)]
    return {"units": units, "pairs": shown, "unintelligible": unintelligible, "left_out": left_out}


def _connected(
    pieces: Mapping[str, DraftSegment], said: Sequence[AnswerSegment]
) -> list[tuple[list[str], list[AnswerSegment]]]:
    """Return connected segments: (ids of draft segments, answer segments), each in order of time."""
    root = {name: name for name in pieces}

    def top(name: str) -> str:
        while root[name] != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    for answer in said:
        for name in answer.of[1:]:
            root[top(name)] = top(answer.of[0])
    groups: dict[str, tuple[list[str], list[AnswerSegment]]] = defaultdict(lambda: ([], []))
    answered = {name for answer in said for name in answer.of}
    for name in sorted(pieces, key=lambda name: pieces[name].start_s):
        if name in answered:
            groups[top(name)][0].append(name)
    added: list[tuple[list[str], list[AnswerSegment]]] = []
    for answer in said:
        if answer.of:
            groups[top(answer.of[0])][1].append(answer)
        elif answer.kind is not Kind.NO_SPEECH:
            added.append(([], [answer]))
    return [*groups.values(), *added]


def _chance(pieces: Sequence[DraftSegment], whole: float | None) -> float | None:
    chances = [piece.chance for piece in pieces] if pieces else [whole]
    known = [chance for chance in chances if chance]
    return min(known) if len(known) == len(chances) else None


def _confidence(pieces: Sequence[DraftSegment]) -> float | None:
    known = [(piece.confidence, max(len(piece.words), 1)) for piece in pieces if piece.confidence is not None]
    total = sum(words for _, words in known)
    return sum(value * words for value, words in known) / total if known else None


def evenly(unit: Mapping[str, Any], base: float) -> bool:
    """Whether a unit belongs to a subsample with the equal chance `base`; the same for every call."""
    if unit["chance"] <= base:
        return float(unit["chance"]) > 0
    digest = hashlib.blake2b(str(unit["id"]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < base / float(unit["chance"])
