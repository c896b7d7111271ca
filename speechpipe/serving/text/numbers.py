"""English numbers among words: where they are, and their digits.

Digits that are read out one by one are found here, all other numbers by `text2num`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from text_to_num import find_numbers

from speechpipe.serving.text.tokens import Token


def names(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


DIGITS = {
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
}
FIGURES = frozenset(DIGITS.values())
OH = frozenset(("oh", "o"))
TIMES = {"double": 2, "triple": 3}
TEENS = names("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
TENS = names("twenty thirty forty fifty sixty seventy eighty ninety")
MAGNITUDES = names("hundred thousand million billion")
CARDINALS = DIGITS.keys() | TEENS | TENS | MAGNITUDES
SMALL_ORDINALS = names("first second third fourth fifth sixth seventh eighth ninth tenth")
ORDINALS = SMALL_ORDINALS | names(
    "eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth "
    "thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth hundredth thousandth millionth"
)

LEAST_RUN = 3
"""Digits read out one by one that are one number. Two may be two numbers."""

LEAST_RUN_FROM_OH = 6
"""The same if the first is an "oh", which may be an exclamation."""

WRITTEN = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Number:
    """A number: the tokens `first` to `last` (exclusive), and its digits.

    `spelled`: it was in words. `digitwise`: read out digit by digit.
    """

    first: int
    last: int
    digits: str
    ordinal: bool = False
    spelled: bool = True
    digitwise: bool = False

    @property
    def value(self) -> float:
        """Its value."""
        return float(self.digits.rstrip("stndrh").replace(",", ""))

    @property
    def whole(self) -> bool:
        """Whether it is a whole cardinal number without a zero in front."""
        return self.digits.isdecimal() and (self.digits == "0" or self.digits[0] != "0")

    def written(self) -> str:
        """Return it in digits, with commas between thousands from 10,000 on."""
        if self.whole and len(self.digits) > 4 and not self.digitwise:
            return f"{int(self.digits):,}"
        return self.digits


class Phrase:
    """Tokens with their words in lower case; words with punctuation between them do not belong together."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.parts = [token.parts for token in tokens]
        self.cores = [token.core for token in tokens]

    def core(self, place: int, beside: int) -> str:
        """Return the word at `place` if it belongs to the one at `beside`, its neighbour; else ""."""
        if not 0 <= place < len(self.cores) or not self.together(min(place, beside)):
            return ""
        return self.cores[place]

    def together(self, place: int) -> bool:
        """Whether no punctuation stands between the token at `place` and the next."""
        return place + 1 < len(self.parts) and not self.parts[place][2] and not self.parts[place + 1][0]

    def numbers(self) -> list[Number]:
        """Return the numbers in their order."""
        found = list(self._runs())
        taken = {place for number in found for place in range(number.first, number.last)}
        words = [_Word(self, place, hidden=place in taken) for place in range(len(self.cores))]
        found += [
            Number(one.start, one.end, one.text, ordinal=one.is_ordinal) for one in find_numbers(words, "en", 0.0)
        ]
        found += [
            Number(place, place + 1, core, spelled=False)
            for place, core in enumerate(self.cores)
            if place not in taken and WRITTEN.fullmatch(core)
        ]
        return sorted(found, key=lambda number: number.first)

    def _runs(self) -> Iterator[Number]:
        """Yield the digits that are read out one by one."""
        place = 0
        while place < len(self.cores):
            first, digits = place, ""
            end = place
            while said := self._digits(end):
                count, more = said
                digits += more
                end += count
                if not self.together(end - 1):
                    break
            while end > first and self.cores[end - 1] in OH:  # an exclamation behind them
                end, digits = end - 1, digits[:-1]
            if self._is_run(first, end, len(digits)):
                yield Number(first, end, digits, digitwise=True)
            place = max(end, first + 1)

    def _digits(self, place: int) -> tuple[int, str] | None:
        """Return how many tokens say the next digits, and these digits; None if there are none."""
        core = self.cores[place] if place < len(self.cores) else ""
        if core in DIGITS or core in OH:
            return 1, DIGITS.get(core, "0")
        if core in FIGURES:
            return 1, core
        following = self.core(place + 1, place)
        if core in TIMES and (following in DIGITS or following in OH):
            return 2, TIMES[core] * DIGITS.get(following, "0")
        return None

    def _is_run(self, first: int, end: int, count: int) -> bool:
        if count < (LEAST_RUN_FROM_OH if self.cores[first] in OH else LEAST_RUN):
            return False
        before, after = self.core(first - 1, first), self.core(end, end - 1)
        before = before.rpartition("-")[2]
        continued = before in TENS | MAGNITUDES | {"and", "point"}
        return not continued and after not in MAGNITUDES | {"point"}


class _Word:
    """A word as `find_numbers` takes it."""

    def __init__(self, phrase: Phrase, place: int, *, hidden: bool) -> None:
        self._apart = place > 0 and not phrase.together(place - 1)
        core = phrase.cores[place]
        number = not hidden and (core == "point" or _is_number(core))
        if core == "and" and not hidden:  # "fifty and five" are two numbers
            number = phrase.core(place - 1, place).rpartition("-")[2] in MAGNITUDES
        self._text = core if number else "_"

    def text(self) -> str:
        return self._text

    def nt_separated(self, previous: "_Word") -> bool:
        del previous
        return self._apart

    def not_a_number_part(self) -> bool:
        return self._text == "_"


def _is_number(core: str) -> bool:
    *parts, last = core.split("-")
    return all(part in CARDINALS for part in parts) and (last in CARDINALS or last in ORDINALS)
