"""Review tasks: the draft a reviewer gets, the answer, and its validation."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from speechpipe.control.review import TaskState
from speechpipe.errors import InvalidParameter

MOST_SEGMENTS = 5000
MOST_TEXT = 20_000
BEYOND_S = 0.5
"""How far an answer segment may reach beyond the audio, because players round."""

OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Directional overrides, which make a text display differently from its characters (CVE-2021-42574)."""


class Kind(StrEnum):
    """The kind of an answer segment."""

    SPEECH = "speech"
    NO_SPEECH = "no_speech"
    UNINTELLIGIBLE = "unintelligible"


@dataclass(frozen=True)
class DraftSegment:
    """A segment of the machine's draft."""

    id: str
    start_s: float
    end_s: float
    text: str
    words: Sequence[Mapping[str, Any]] = ()  # word, start, end, confidence
    confidence: float | None = None
    needs: bool = True  # a reviewer must answer it
    accepted: bool = False  # the machine's text is delivered unless a reviewer changes it
    chance: float | None = None  # sampling chance; None: not sampled


@dataclass(frozen=True)
class Draft:
    """The machine's result for one session. `blind`: the reviewer does not see the texts, only their times."""

    pieces: tuple[DraftSegment, ...] = ()
    blind: bool = False
    whole: float | None = None  # chance of the session as a whole; None: only some segments were sampled
    base: float = 1.0  # the chance that every session had at that time, whatever its result


@dataclass(frozen=True)
class AnswerSegment:
    """A segment of an answer; `of`: ids of the draft segments that it covers."""

    start_s: float
    end_s: float
    text: str
    kind: Kind = Kind.SPEECH
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A session that is to be reviewed."""

    id: str
    job: str
    tenant: str
    channel: str
    bundle: str
    degree: str
    why: str
    priority: float
    created_at: float
    duration_s: float
    audio_hash: str
    draft: Draft
    state: TaskState = TaskState.OPEN
    revision: int = 1
    lease: str = ""
    reviewer: str = ""
    leased_until: float = 0.0
    work: tuple[AnswerSegment, ...] = ()
    compared: Mapping[str, Any] = field(default_factory=dict)
    skips: Sequence[Mapping[str, Any]] = ()
    work_s: float = 0.0
    finished_at: float | None = None


def read_answer(task: Task, given: Any, *, whole: bool = True) -> tuple[AnswerSegment, ...]:
    """Return the segments of an answer, in order of time.

    Args:
        task: the task that is answered.
        given: a list of {start, end, text, kind, of}.
        whole: every segment that needs an answer must have one; False: a draft of an answer.

    Raises:
        InvalidParameter: a segment is invalid; the message names it.
    """
    if not isinstance(given, list) or len(given) > MOST_SEGMENTS:
        raise InvalidParameter(f"segments must be a list of {MOST_SEGMENTS} at most", param="segments")
    known = {piece.id for piece in task.draft.pieces}
    found = sorted(
        (_segment(number, item, task, known, whole=whole) for number, item in enumerate(given, 1)),
        key=lambda said: (said.start_s, said.end_s),
    )
    if whole:
        answered = {name for said in found for name in said.of}
        if missing := [piece for piece in task.draft.pieces if piece.needs and piece.id not in answered]:
            at = f"{missing[0].start_s:.1f} s"
            message = f"{len(missing)} segments are not answered, the first at {at}; use no_speech where there is none"
            raise InvalidParameter(message, param="segments", cause="not_answered")
        if not found and not task.draft.pieces:
            message = "the answer is empty; use no_speech where there is no speech"
            raise InvalidParameter(message, param="segments", cause="not_answered")
    return tuple(found)


def _segment(number: int, item: Any, task: Task, known: set[str], *, whole: bool) -> AnswerSegment:
    where = f"segment {number}"
    if not isinstance(item, dict) or set(item) - {"start", "end", "text", "kind", "of"}:
        raise InvalidParameter(f"{where} must have start, end, text, kind and of, nothing else", param="segments")
    start, end = (_second(item.get(name), f"{where}: {name}") for name in ("start", "end"))
    if not 0 <= start < end or end > task.duration_s + BEYOND_S:
        raise InvalidParameter(
            f"{where}: {start:g} to {end:g} s is not within the {task.duration_s:.1f} s", param="segments"
        )
    if item.get("kind", "speech") not in list(Kind):
        raise InvalidParameter(f"{where}: kind must be one of {', '.join(Kind)}", param="segments")
    kind = Kind(item.get("kind", "speech"))
    text = read_text(item.get("text", ""), where)
    if whole and (kind is Kind.SPEECH) != bool(text):
        message = f"{where}: speech has a text, {Kind.NO_SPEECH} and {Kind.UNINTELLIGIBLE} have none"
        raise InvalidParameter(message, param="segments", cause="not_answered" if not text else "invalid_parameter")
    of = item.get("of", [])
    if not isinstance(of, list) or not all(isinstance(name, str) for name in of):
        raise InvalidParameter(f"{where}: of must be a list of ids", param="segments")
    if unknown := [name for name in of if name not in known]:
        raise InvalidParameter(f"{where}: there is no {unknown[0]!r} in this task", param="segments")
    return AnswerSegment(start, min(end, max(task.duration_s, start)), text, kind, tuple(dict.fromkeys(of)))


def _second(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidParameter(f"{what} must be a number of seconds", param="segments")
    return float(value)


def read_text(value: Any, where: str) -> str:
    """Return a text as one line in NFC. It may contain markup, so pages must escape it.

    Raises:
        InvalidParameter: it is not a string, too long, or has invisible characters.
    """
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        raise InvalidParameter(f"{where}: text must be at most {MOST_TEXT} characters", param="segments")
    text = unicodedata.normalize("NFC", " ".join(value.split()))
    bad = next((char for char in text if unicodedata.category(char) in ("Cc", "Cs") or char in OVERRIDES), None)
    if bad is not None:
        message = f"{where}: the text has a control character (U+{ord(bad):04X})"
        raise InvalidParameter(message, param="segments", cause="control_character")
    return text
