"""How a client wants its text written: punctuation and case, numbers, masked words.

Pure functions of what a recognizer said, called where an answer is written. Records, reviews, scores and comparisons of
candidates get the recognizer's own text.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TextOptions:
    """What a client asked.

    Attributes:
        punctuate: False: lower case, no punctuation. None and True: as the recognizer writes it.
        numerals: numbers in digits.
        smart_format: besides, amounts of money, shares, times, days and phone numbers as they are usually written.
        profanity_filter: words of the tenant's list masked.
    """

    punctuate: bool | None = None
    numerals: bool = False
    smart_format: bool = False
    profanity_filter: bool = False

    @property
    def digits(self) -> bool:
        """Whether numbers are written in digits."""
        return self.numerals or self.smart_format

    @property
    def changes(self) -> bool:
        """Whether a text can be written otherwise than the recognizer did."""
        return self.punctuate is False or self.digits or self.profanity_filter

    def document(self) -> dict[str, Any]:
        """Return what was asked, as plain data; empty if nothing was."""
        return {name: value for name, value in asdict(self).items() if value != getattr(TextOptions(), name)}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "TextOptions":
        """Return the options of a document."""
        return cls(**document)
