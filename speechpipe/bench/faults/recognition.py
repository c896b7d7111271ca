"""Faults of the recognizer: a worse model, wrong features, and texts that are damaged afterwards."""

import zlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from speechpipe.types import Component, NullCause, Samples, Scalar, Transcript, Word

SMALLER: tuple[Mapping[str, Scalar], ...] = (
    {"topn": 1, "maxhmmpf": 500, "maxwpf": 3},
    {"topn": 1, "maxhmmpf": 300, "maxwpf": 2, "ds": 2},
    {"topn": 1, "maxhmmpf": 200, "maxwpf": 1, "ds": 4, "lw": 1.0},
)
"""Options of `pocketsphinx` that make the model cheaper and worse, step by step."""

NUMBERS = frozenset(
    {"zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"}
    | {f"{stem}teen" for stem in ("thir", "four", "fif", "six", "seven", "eigh", "nine")}
    | {"twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred", "thousand", "million"}
)
OTHER_WORDS = ("about", "people", "water", "little", "under", "because", "mountain", "paper", "seldom", "window")
REPEATS = 6


def model(name: str, value: float, usual: Component, small: Component) -> Component:
    """Return the recognizer that runs under a fault: the usual one unless the fault is a wrong model.

    `small` is a recognizer of the implementation `pocketsphinx`; it takes the place of one of another implementation.
    """
    if name != "asr_wrong_model":
        return usual
    wrong = usual if usual.implementation == small.implementation else small
    return replace(wrong, options={**wrong.options, **SMALLER[round(value) - 1]})


def features(name: str, value: float, samples: Samples) -> Samples:
    """Return the (n,) samples that the faulty recognizer gets."""
    if name != "asr_feature_scaling":
        return samples
    for _ in range(round(value)):
        samples = np.append(samples[:1], samples[1:] - 0.97 * samples[:-1])
    return np.asarray(samples, np.float32)


def spoil(
    name: str, value: float, transcript: Transcript, duration_s: float, random: np.random.Generator
) -> Transcript:
    """Return the faulty transcript of a segment."""
    if name == "asr_empty_on_long" and duration_s > value:
        return Transcript.null(NullCause.EMPTY)
    words = transcript.words
    spoiled = _words(name, value, words, random) if words else words
    return transcript if spoiled is words else _of(transcript, spoiled)


def _words(name: str, value: float, words: tuple[Word, ...], random: np.random.Generator) -> tuple[Word, ...]:
    if name == "asr_truncated":
        return words[: len(words) - round(value * len(words))]
    if name == "asr_repetition":
        return words * REPEATS if random.random() < value else words
    if name == "asr_vocabulary":
        return tuple(_mistaken(word, value) for word in words)
    if name == "asr_digits_dropped":
        return tuple(word for word in words if not _is_number(word.text) or random.random() >= value)
    if name == "confidence_offset":
        return tuple(_surer(word, value) for word in words)
    return words


def _is_number(text: str) -> bool:
    plain = "".join(filter(str.isalnum, text.lower()))
    return plain in NUMBERS or plain.isdecimal()


def _mistaken(word: Word, share: float) -> Word:
    known = zlib.crc32(word.text.encode()) % 1000 / 1000 >= share  # always the same words
    if known:
        return word
    other = OTHER_WORDS[zlib.crc32(word.text.encode()) % len(OTHER_WORDS)]
    return replace(word, text=other, confidence=None if word.confidence is None else 0.6 * word.confidence)


def _surer(word: Word, offset: float) -> Word:
    return replace(word, confidence=None if word.confidence is None else min(1.0, word.confidence + offset))


def _of(transcript: Transcript, words: tuple[Word, ...]) -> Transcript:
    if not words:
        return Transcript.null(NullCause.EMPTY)
    sure = [word.confidence for word in words if word.confidence is not None]
    confidence = float(np.mean(sure)) if sure else None
    return replace(transcript, text=" ".join(word.text for word in words), words=words, confidence=confidence)
