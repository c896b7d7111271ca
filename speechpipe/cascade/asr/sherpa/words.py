"""Words with times and confidences, of the tokens that the library returns."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from speechpipe.cascade.asr import transcript_of
from speechpipe.cascade.asr.sherpa.vocabulary import CJK
from speechpipe.types import NullCause, Transcript, Word

TOKEN_S = 0.2
"""Longest time from a token's beginning to its end, where the model does not say when it ends."""

LEAST_WORD_S = 0.01

ROUNDING = 1e-3
"""By so much the logarithm of a probability may be above 0."""

_WORD = re.compile(rf"[{CJK}][^\w\s]*|[^\s{CJK}]+")
"""A word with its punctuation; a character where words are written without spaces between them."""

_TAG = re.compile(r"<\|[^|<>]*\|>")
"""SenseVoice's tags of language, emotion and sound events."""

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True, slots=True)
class Decoded:
    """A result of the library: the text, and for each token its text, its beginning, its length, the logarithm of its
    probability. The last two may be empty: not known.
    """

    text: str
    tokens: Sequence[str]
    starts_s: Sequence[float]
    lengths_s: Sequence[float] = ()
    log_probs: Sequence[float] = ()


def transcript(decoded: Decoded, length_s: float, *, capital: bool = False, language: str = "") -> Transcript:
    """Return the transcript of a segment of `length_s` seconds.

    `capital`: the model knows capital letters only, so the text is written in small ones.
    """
    text = " ".join(_TAG.sub("", decoded.text).split())
    text = text.lower() if capital else text
    if not any(character.isalnum() for character in text):  # punctuation alone is no text
        return Transcript.null(NullCause.EMPTY)
    words = _words(text, decoded, length_s, capital=capital)
    return replace(transcript_of(words), text=text, language=language)


def settled(text: str) -> int:
    """Return how many characters of a text that only grows are whole words: the last one may become longer."""
    return len(text) if re.fullmatch(f"[{CJK}]", text[-1:]) else max(0, text.rfind(" "))


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    start_s: float
    end_s: float
    log_prob: float | None


def _words(text: str, decoded: Decoded, length_s: float, *, capital: bool) -> list[Word]:
    """Return the words of `text`, each from the beginning of its first token to the end of its last."""
    tokens = _tokens(decoded)
    if capital:
        tokens = [replace(token, text=token.text.lower()) for token in tokens]
    joined = "".join(token.text for token in tokens)
    if " ".join(joined.split()) != text:  # tokens are bytes, or the text was rewritten
        return _spread(text, decoded, length_s)
    owners = [number for number, token in enumerate(tokens) for _ in token.text]
    words: list[Word] = []
    for match in _WORD.finditer(joined):
        own = tokens[owners[match.start()] : owners[match.end() - 1] + 1]
        start_s = min(max(0.0, own[0].start_s), max(0.0, length_s - LEAST_WORD_S))
        end_s = max(start_s + LEAST_WORD_S, min(own[-1].end_s, length_s))
        words.append(Word(match[0], start_s, end_s, _confidence(own)))
    return words


def _confidence(tokens: Sequence[_Token]) -> float | None:
    """Return the geometric mean of the tokens' probabilities; None if they have none.

    The library adds the boost of hotwords to those of NeMo's transducers; what is above 1 is no probability.
    """
    known = [token.log_prob for token in tokens if token.log_prob is not None]
    if not known or max(known) > ROUNDING:
        return None
    return min(1.0, math.exp(sum(known) / len(known)))


def _tokens(decoded: Decoded) -> list[_Token]:
    """Return the tokens without tags; empty if there are not as many times as tokens."""
    starts = decoded.starts_s
    if len(starts) != len(decoded.tokens):
        return []
    lengths = decoded.lengths_s if len(decoded.lengths_s) == len(starts) else None
    chances = decoded.log_probs if len(decoded.log_probs) == len(starts) else None
    found: list[_Token] = []
    for number, text in enumerate(decoded.tokens):
        start_s = starts[number]
        latest_s = start_s + (lengths[number] if lengths is not None else TOKEN_S)
        end_s = min([latest_s, *(starts[number + 1 : number + 2] if lengths is None else ())])
        if not _TAG.fullmatch(text):
            found.append(_Token(text, start_s, end_s, chances[number] if chances is not None else None))
    return _without_bytes(found)


def _without_bytes(tokens: list[_Token]) -> list[_Token]:
    """Join tokens that are single bytes of a character."""
    found: list[_Token] = []
    held = b""  # the bytes of the last token, if it is not complete
    for token in tokens:
        match = _BYTE.fullmatch(token.text)
        if match is None:
            found.append(token)
            held = b""
            continue
        first = found.pop() if held else token
        held += bytes.fromhex(match[1])
        text = held.decode("utf-8", "ignore")
        found.append(replace(first, text=text, end_s=token.end_s))
        held = b"" if text else held
    return found


def _spread(text: str, decoded: Decoded, length_s: float) -> list[Word]:
    """Return the words of a text whose tokens do not spell it, spread evenly over the time of the tokens."""
    first_s = min([*decoded.starts_s[:1], length_s]) if decoded.starts_s else 0.0
    last_s = min(decoded.starts_s[-1] + TOKEN_S, length_s) if decoded.starts_s else length_s
    step_s = max(last_s - first_s, LEAST_WORD_S) / max(1, len(text))
    return [
        Word(match[0], first_s + match.start() * step_s, first_s + match.end() * step_s, None)
        for match in _WORD.finditer(text)
    ]
