"""Text in lower case without punctuation. What belongs to a number, a name or a masked word stays: $5.50, 3%, AT&T."""

import re
import unicodedata
from collections.abc import Sequence

from speechpipe.serving.text.tokens import Token, merged

WITHIN = "'’-_"
"""Stay between letters and digits."""

IN_NUMBERS = ".,:/"
"""Stay between digits."""

SIGNS = "%‰&@#*"
"""Belong to words, although Unicode calls them punctuation."""

_AROUND = rf"[^\w{SIGNS}]*"

ACRONYM = re.compile(rf"{_AROUND}(?P<letters>(?:[^\W\d_]\.)+[^\W\d_]?)\.?(?P<possessive>['’]s)?{_AROUND}")
"""Letters with periods between them, whatever punctuation stands around them."""


def plain(tokens: Sequence[Token]) -> list[Token]:
    """Return tokens in lower case without punctuation; one that was nothing else becomes part of its neighbour."""
    found: list[Token] = []
    waiting: list[Token] = []  # punctuation before the first word
    for token in tokens:
        text = plain_word(token.text)
        if text:
            found.append(merged([*waiting, token], text) if waiting else token.written(text))
            waiting = []
        elif found:
            found[-1] = merged([found[-1], token], found[-1].text)
        else:
            waiting.append(token)
    return found


def plain_word(text: str) -> str:
    """Return a word in lower case without punctuation. Empty if it is nothing but punctuation.

    Words with a mark between them that is no hyphen ("wait—what") have a space there.
    """
    text = text.lower()
    if found := ACRONYM.fullmatch(text):
        return found["letters"].replace(".", "") + (found["possessive"] or "")
    kept = [character if _stays(text, place) else " " for place, character in enumerate(text)]
    return " ".join("".join(kept).split())


def _stays(text: str, place: int) -> bool:
    character = text[place]
    if not unicodedata.category(character).startswith("P") or character in SIGNS:
        return True
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    if character in IN_NUMBERS:
        return before.isdigit() and after.isdigit()
    return character in WITHIN and before.isalnum() and after.isalnum()
