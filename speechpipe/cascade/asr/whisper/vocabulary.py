"""Whisper's tokens: byte-level BPE (Radford et al., 2019) and the special tokens behind it.

Text is made from a list of tokens alone. The library `tokenizers`, which takes 20 MB, is loaded only for prompts.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from speechpipe.errors import BadInput

END = "<|endoftext|>"
UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages that are written without spaces between words."""


def letters() -> dict[str, int]:
    """Return the byte that each letter of a token stands for: unprintable bytes are written as other letters."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + index): byte for index, byte in enumerate(others)}}


class Vocabulary:
    """The tokens of one model, from the files beside its weights."""

    def __init__(self, folder: Path) -> None:
        """Read `vocabulary.txt` or `vocabulary.json`.

        Raises:
            OSError: neither exists, or `tokenizer.json` is missing.
            BadInput: the file is not a vocabulary of Whisper.
        """
        self._tokenizer_file = folder / "tokenizer.json"
        self._tokenizer_file.stat()
        self._lines = _read(folder)
        # One block of bytes and the places of its lines: a list of texts would take ten times the memory.
        self._ends = np.flatnonzero(np.frombuffer(self._lines, np.uint8) == ord("\n")).astype(np.int32)
        self._bytes = letters()
        found = self._lines.find(f"\n{END}\n".encode())
        if found < 0:
            raise BadInput(f"the vocabulary in {folder} has no {END}", cause="weights_broken")
        self.end = int(np.searchsorted(self._ends, found)) + 1
        self._special = self._specials()
        try:
            self.start, self.before = self._special["<|startoftranscript|>"], self._special["<|startofprev|>"]
            self.transcribe, self.translate = self._special["<|transcribe|>"], self._special["<|translate|>"]
            self.no_timestamps = self._special["<|notimestamps|>"]
        except KeyError as error:
            raise BadInput(f"the vocabulary in {folder} has no {error}", cause="weights_broken") from error
        self.languages = {
            name[2:-2]: number for name, number in self._special.items() if self.start < number < self._first_task
        }

    @property
    def _first_task(self) -> int:
        return min(self.transcribe, self.translate)

    def _specials(self) -> dict[str, int]:
        """Return the special tokens up to the time stamps."""
        found: dict[str, int] = {}
        for number in range(self.end, len(self._ends)):
            name = self._token(number)
            found[name] = number
            if name == "<|notimestamps|>":
                break
        return found

    def _token(self, number: int) -> str:
        start = int(self._ends[number - 1]) + 1 if number else 0
        return self._lines[start : int(self._ends[number])].decode()

    def __len__(self) -> int:
        """How many tokens there are."""
        return len(self._ends)

    def spelled(self, number: int) -> bytes:
        """Return the bytes of a text that a token stands for; nothing for a special token."""
        return bytes(self._bytes[letter] for letter in self._token(number)) if number < self.end else b""

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens as it is, with a leading space; bytes that are no UTF-8 are replaced."""
        return b"".join(map(self.spelled, tokens)).decode(errors="replace")

    def start_sequence(self, language: str | None, *, translate: bool) -> list[int]:
        """Return the tokens before a text. `language`: a code of `languages`; None for a model of English alone."""
        if language is None:
            return [self.start, self.no_timestamps]
        return [
            self.start,
            self.languages[language],
            self.translate if translate else self.transcribe,
            self.no_timestamps,
        ]

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without special ones: what looks like one in a client's prompt is plain text."""
        # A special token is recognised as a whole; this breaks its brackets apart.
        plain = text.replace("<|", "< |").replace("|>", "| >")
        found: list[int] = self._tokenizer.encode(plain, add_special_tokens=False).ids
        return [number for number in found if number < self.end]

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self._tokenizer_file))


def _read(folder: Path) -> bytes:
    """Return the tokens of a vocabulary, each on a line."""
    plain = folder / "vocabulary.txt"
    if plain.exists():
        return plain.read_bytes().rstrip(b"\n") + b"\n"
    try:
        tokens = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        return "".join(f"{token}\n" for token in tokens).encode()
    except (ValueError, TypeError) as error:
        raise BadInput(f"{folder / 'vocabulary.json'}: {error}", cause="weights_broken") from error
