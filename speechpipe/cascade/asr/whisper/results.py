"""What was heard in a piece, and the transcript that is made of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from speechpipe.cascade.asr import SHORTENED
from speechpipe.cascade.asr.acoustic import guards as acoustic
from speechpipe.cascade.asr.whisper.words import LEAST_PROBABILITY, Said, Unit
from speechpipe.types import SAMPLE_RATE_HZ, NullCause, Transcript, Word

LEAST_WORD_S = 0.02
"""Least duration of a word: one frame of the encoder's output."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The text of one part of a piece.

    `at_s`: where the clock of its words begins, in seconds from the piece's first sample. `log_prob` is the mean of its
    `tokens`. `spaced`: there are spaces between its words. `dropped`: why a text was not believed.
    """

    at_s: float
    text: str
    words: tuple[Said, ...]
    log_prob: float
    tokens: int
    language: str
    spaced: bool = True
    dropped: str = ""


@dataclass(slots=True)
class Found:
    """All that was heard in one piece. `again`: further decodes that it took. `shortened`: texts that were cut."""

    parts: list[Heard] = field(default_factory=list)
    again: int = 0
    shortened: int = 0


def joined(words: Sequence[Said | Unit], *, spaced: bool) -> str:
    """Return the text of words; `spaced`: the language puts spaces between them."""
    return (" " if spaced else "").join(word.text for word in words)


def mean_log(words: Sequence[Said]) -> float:
    """Return the mean logarithm of the probabilities of the words' tokens; 0 without words."""
    tokens = sum(word.tokens for word in words)
    total = sum(math.log(max(word.confidence, LEAST_PROBABILITY)) * word.tokens for word in words)
    return total / tokens if tokens else 0.0


def transcript(found: Found, samples: int) -> Transcript:
    """Return the transcript of a piece of so many samples."""
    heard = sorted(found.parts, key=lambda part: part.at_s)
    language = next((part.language for part in heard if part.text), "")
    text = (" " if all(part.spaced for part in heard) else "").join(part.text for part in heard if part.text)
    facts = {name: float(value) for name, value in (("again", found.again), (SHORTENED, found.shortened)) if value}
    detail = next((part.dropped for part in heard if part.dropped), "")
    if not any(map(str.isalnum, text)):  # "." over music
        text = ""
    elif why := acoustic.objection(text, samples):
        text, detail = "", f"rejected as hallucination {text[:40]!r}: {why}"
    if not text:
        return replace(Transcript.null(NullCause.EMPTY, detail), facts=facts)
    tokens = sum(part.tokens for part in heard if part.text)
    mean = sum(part.log_prob * part.tokens for part in heard if part.text) / max(tokens, 1)
    return Transcript(
        text, _words(heard, samples / SAMPLE_RATE_HZ), math.exp(min(mean, 0.0)), language=language, facts=facts
    )


def _words(heard: Sequence[Heard], length_s: float) -> tuple[Word, ...]:
    """Return the words on the piece's clock: within the piece, none of them empty or before the one before it."""
    found: list[Word] = []
    earliest = 0.0
    for part in heard:
        for word in part.words:
            start_s = min(max(part.at_s + word.start_s, earliest), max(length_s - LEAST_WORD_S, 0.0))
            end_s = min(max(part.at_s + word.end_s, start_s + LEAST_WORD_S), max(length_s, LEAST_WORD_S))
            found.append(Word(word.text, round(start_s, 3), round(end_s, 3), min(max(word.confidence, 0.0), 1.0)))
            earliest = start_s
    return tuple(found)
