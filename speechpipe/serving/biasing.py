"""What draws a recognizer to words: the hotwords and the prompt of a request, and the hotwords of its tenant."""

import re
from collections.abc import Iterable, Sequence

from speechpipe.errors import InvalidParameter

MOST_TERMS = 100
MOST_CHARACTERS = 64
"""Of one hotword."""

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def plain(text: str) -> str:
    """Return a text with spaces for control characters and for halves of surrogate pairs, which no recognizer reads."""
    return CONTROL.sub(" ", text)


def checked(terms: Sequence[str], param: str) -> tuple[str, ...]:
    """Return hotwords as they are used: trimmed, without empty and repeated ones.

    Raises:
        InvalidParameter: they are too many, or one is too long. The message repeats none: they may be names.
    """
    if len(terms) > MOST_TERMS:
        raise InvalidParameter(f"{param}: at most {MOST_TERMS} terms, not {len(terms)}", param=param)
    found = [" ".join(plain(term).split()) for term in terms]
    for number, term in enumerate(found, 1):
        if len(term) > MOST_CHARACTERS:
            message = f"{param}: at most {MOST_CHARACTERS} characters for a term, not {len(term)} (term {number})"
            raise InvalidParameter(message, param=param)
    return tuple(dict.fromkeys(term for term in found if term))


def separated(texts: Iterable[str]) -> list[str]:
    """Return the terms of texts in which commas separate them."""
    return [term for text in texts for term in text.split(",")]


def merged(asked: Sequence[str], listed: Sequence[str]) -> tuple[str, ...]:
    """Return a client's hotwords, then those of its tenant that are not among them; `MOST_TERMS` at most."""
    return tuple(dict.fromkeys((*asked, *listed)))[:MOST_TERMS]
