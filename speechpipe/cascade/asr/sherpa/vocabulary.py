"""The file `tokens.txt` of a model, and how hotwords are written for the library."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from speechpipe.errors import BadInput

BOUNDARY = "\u2581"
"""SentencePiece's mark at the beginning of a word."""

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Characters of scripts that put no spaces between words, as a character class."""

SEPARATOR = "/"
"""Separates hotwords for the library."""

MARKS = ":#@"
"""Characters that begin a boost, a threshold or a label in the library's format of hotwords."""

_LINE = re.compile(r"(.*?)[ \t]+(\d+)\s*")
_SPECIAL = re.compile(r"<.*>")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The pieces of a model, by number."""

    pieces: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        """Read a `tokens.txt`: a piece and its number in each line.

        Raises:
            BadInput: it is something else, or numbers are missing.
            OSError: it cannot be read.
        """
        found: dict[int, str] = {}
        for line in path.read_bytes().decode("utf-8", "replace").split("\n"):
            if not line.strip():
                continue
            if (match := _LINE.fullmatch(line)) is None:
                raise BadInput(f"{path.name} is not a list of tokens: {line[:40]!r}", cause="weights_broken")
            found[int(match[2])] = match[1]
        if not found or sorted(found) != list(range(len(found))):
            raise BadInput(f"{path.name} is not a list of tokens: numbers are missing", cause="weights_broken")
        return cls(tuple(found[number] for number in range(len(found))))

    @property
    def letters(self) -> frozenset[str]:
        """Characters that are pieces of their own; any text of these can be written."""
        return frozenset(bare for piece in self.pieces if len(bare := piece.removeprefix(BOUNDARY)) == 1)

    @property
    def capital(self) -> bool:
        """Whether the model knows capital letters only, which then mean nothing."""
        text = "".join(piece for piece in self.pieces if not _SPECIAL.fullmatch(piece))
        return text.upper() == text and text.lower() != text

    @property
    def unit(self) -> str:
        """What the library calls the modeling unit: how it writes hotwords as pieces."""
        single = bool(re.search(f"[{CJK}]", "".join(self.letters)))
        parts = any(piece.startswith(BOUNDARY) and len(piece) > 1 for piece in self.pieces)
        return "cjkchar+bpe" if single and parts else "bpe" if parts else "cjkchar"

    def ranks(self) -> str:
        """Return the text of SentencePiece's file `bpe.vocab`: each piece with its score, the negative of its rank.

        Published models come without that file. Pieces are numbered by rank, after the special ones.
        """
        lines, rank = [], 0
        for piece in self.pieces:
            lines.append(f"{piece}\t{-rank}\n")
            rank += not _SPECIAL.fullmatch(piece)
        return "".join(lines)

    def hotwords(self, phrases: Iterable[str]) -> str:
        """Return phrases as the library takes them; those that the model cannot write are left out."""
        letters = self.letters - {SEPARATOR}
        written = []
        for phrase in phrases:
            words = (phrase.upper() if self.capital else phrase).split()
            if words and all(set(word) <= letters and word[0] not in MARKS for word in words):
                written.append(" ".join(words))
        return SEPARATOR.join(dict.fromkeys(written))
