"""Masked words: the first letter stays, the others become asterisks.

The words are those of `profanity_en.txt`, and of the operator's file (the setting PROFANITY_WORDS) for all tenants or
for one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from speechpipe.errors import BadInput
from speechpipe.foundation.text_files import naming, parse_toml, read_text
from speechpipe.serving.text.tokens import Token

SHIPPED = Path(__file__).parent / "profanity_en.txt"
EVERYONE = "default"
"""The table of the operator's file that holds for all tenants."""

MOST_LETTERS = 100
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


@dataclass(frozen=True)
class Words:
    """Words to mask, in lower case; one that ends with `*` stands for all that begin so."""

    entries: frozenset[str]

    @cached_property
    def _beginnings(self) -> tuple[str, ...]:
        return tuple(entry[:-1] for entry in self.entries if entry.endswith("*"))

    def masked(self, text: str) -> str:
        """Return the text with its words masked."""
        beginnings = self._beginnings

        def mask(match: re.Match[str]) -> str:
            word = match.group()
            plain = word.lower().replace("’", "'").removesuffix("'s")
            return word[0] + "*" * (len(word) - 1) if plain in self.entries or plain.startswith(beginnings) else word

        return WORD.sub(mask, text)

    def mask(self, tokens: Iterable[Token]) -> list[Token]:
        """Return tokens with their words masked."""
        return [token.written(self.masked(token.text)) for token in tokens]


@cache
def shipped() -> frozenset[str]:
    """Return the words that come with the package; English."""
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    return frozenset(line.strip() for line in lines if line.strip() and not line.startswith("#"))


@dataclass(frozen=True)
class ProfanityLists:
    """The words of each tenant. Immutable, so thread-safe."""

    added: Mapping[str, frozenset[str]] = field(default_factory=dict)
    removed: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def of(self, tenant: str, *, english: bool) -> Words:
        """Return a tenant's words. `english`: those that come with the package are among them."""
        names = (EVERYONE, tenant)
        words = set(shipped()) if english else set()
        for name in names:  # a tenant's table comes last: it may take out what is added for all
            words -= self.removed.get(name, frozenset())
            words |= self.added.get(name, frozenset())
        return Words(frozenset(words))


def read_lists(path: Path | None) -> ProfanityLists:
    """Read the operator's file: TOML with a table `default` and one for each tenant, with lists `add` and `remove`.

    Raises:
        BadInput: it cannot be read, or is not such a file; the message names it.
    """
    if path is None:
        return ProfanityLists()
    with naming(path):
        try:
            document = parse_toml(read_text(path))
        except ValueError as error:
            raise BadInput(str(error)) from error
        tables = {name: _table(name, table) for name, table in document.items()}
    return ProfanityLists(
        {name: _words(table.get("add", ())) for name, table in tables.items()},
        {name: _words(table.get("remove", ())) for name, table in tables.items()},
    )


def _table(name: str, table: Any) -> Mapping[str, Sequence[str]]:
    if not isinstance(table, dict) or not table.keys() <= {"add", "remove"}:
        raise BadInput(f"{name} must be a table with `add` and `remove`")
    for key, words in table.items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise BadInput(f"{name}.{key} must be a list of words")
        for word in words:
            if not WORD.fullmatch(word.removesuffix("*")) or len(word) > MOST_LETTERS:
                raise BadInput(f"{name}.{key}: {word!r} is not one word of letters, with or without * behind it")
    return table


def _words(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word.lower().replace("’", "'") for word in words)
