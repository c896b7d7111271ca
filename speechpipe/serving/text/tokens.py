"""A transcript as tokens, each a word with its time: what the rules of this folder work on."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from speechpipe.types import Word

LEADING = "\"'([{«“‘„¿¡-–—"
TRAILING = "\"')]}»”’,.;:!?…-–—"
_SPACED = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Token:
    """A word as it is written, without spaces around it.

    `gap` stands before it: spaces, or nothing in languages without them. `word` has its time; None where the recognizer
    gives none.
    """

    text: str
    gap: str = " "
    word: Word | None = None

    @property
    def parts(self) -> tuple[str, str, str]:
        """The punctuation before the word, the word, and the punctuation behind it."""
        rest = self.text.lstrip(LEADING)
        core = rest.rstrip(TRAILING)
        return self.text[: len(self.text) - len(rest)], core, rest[len(core) :]

    @property
    def core(self) -> str:
        """The word in lower case, without the punctuation around it."""
        return self.parts[1].lower().replace("’", "'")

    def written(self, text: str) -> "Token":
        """Return the same word written as `text`."""
        if text == self.text:
            return self
        return replace(self, text=text, word=replace(self.word, text=text) if self.word is not None else None)


def of_text(text: str) -> list[Token]:
    """Return the tokens of a text without times."""
    found, at = [], 0
    for match in _SPACED.finditer(text):
        found.append(Token(match.group(), text[at : match.start()]))
        at = match.end()
    return found


def of_words(words: Iterable[Word]) -> list[Token]:
    """Return words as tokens with spaces between them."""
    return [Token(word.text, " ", word) for word in words]


def aligned(text: str, words: Sequence[Word]) -> list[Token] | None:
    """Return the tokens of a text, each one of `words`; None if these are not the text."""
    found, at = [], 0
    for word in words:
        start = text.find(word.text, at) if word.text else -1
        if start < 0 or text[at:start].strip():
            return None
        found.append(Token(word.text, text[at:start], word))
        at = start + len(word.text)
    return found if words and not text[at:].strip() else None


def joined(tokens: Iterable[Token]) -> str:
    """Return the text of tokens."""
    return "".join(f"{token.gap}{token.text}" for token in tokens).strip()


def merged(tokens: Sequence[Token], text: str) -> Token:
    """Return one token for several that follow each other: from the first one's start to the last one's end.

    Its confidence is the lowest of theirs.
    """
    words = [token.word for token in tokens if token.word is not None]
    if not words:
        return Token(text, tokens[0].gap)
    known = [word.confidence for word in words if word.confidence is not None]
    word = Word(text, words[0].start_s, max(word.end_s for word in words), min(known) if known else None)
    return Token(text, tokens[0].gap, word)
