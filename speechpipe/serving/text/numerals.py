"""English numbers in digits, by a few careful rules: what could mean something else stays in words.

`numerals`: numbers, years, digits that are read out, days beside a month. `smart_format`: besides, dollars and euros,
percent, times of day, North American phone numbers. A rule looks only at words that belong together and that are in
`VOCABULARY`, so any other word divides a text: what is before it cannot change what is written after it. Partial
results rely on that.
"""

from collections.abc import Sequence
from typing import NamedTuple

from speechpipe.serving.text.numbers import (
    CARDINALS,
    MAGNITUDES,
    OH,
    ORDINALS,
    SMALL_ORDINALS,
    TIMES,
    WRITTEN,
    Number,
    Phrase,
    names,
)
from speechpipe.serving.text.tokens import Token, merged

MONTHS = names("january february march april may june july august september october november december")
CURRENCIES = {"dollar": "$", "dollars": "$", "euro": "€", "euros": "€"}
CENTS = frozenset(("cent", "cents"))
FRACTIONS = names(
    "half halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths seventh sevenths eighth "
    "eighths ninth ninths tenth tenths"
)
MERIDIEMS = frozenset(("am", "pm", "a.m", "p.m"))
UNITS = CURRENCIES.keys() | CENTS | {"percent", "o'clock"}
LINKS = frozenset(("or", "to"))
OTHERS = frozenset(("a", "an", "and", "point", "of", "percent", "per", "m", "p", "o'clock", "half", "quarter"))
VOCABULARY = (
    CARDINALS
    | ORDINALS
    | OH
    | TIMES.keys()
    | MONTHS
    | CURRENCIES.keys()
    | CENTS
    | FRACTIONS
    | MERIDIEMS
    | LINKS
    | OTHERS
)


class Written(NamedTuple):
    """The tokens `first` to `last` (exclusive) are written as `text`; `used` numbers are used up."""

    first: int
    last: int
    text: str
    used: int = 1


def numerals(tokens: Sequence[Token], *, smart: bool) -> list[Token]:
    """Return the tokens with numbers in digits; a number of several words is one token."""
    phrase = Phrase(tokens)
    rules = _Rules(phrase, smart=smart)
    found: list[Token] = []
    at = 0
    for written in rules.written():
        found += tokens[at : written.first]
        before, after = phrase.parts[written.first][0], phrase.parts[written.last - 1][2]
        text = f"{before}{written.text}{after}"
        some = tokens[written.first : written.last]
        found.append(merged(some, text) if len(some) > 1 else some[0].written(text))
        at = written.last
    return [*found, *tokens[at:]]


def settled(tokens: Sequence[Token]) -> int:
    """Return how many of the first tokens are written the same whatever follows them."""
    count = len(tokens)
    while count and _in_vocabulary(tokens[count - 1].core):
        count -= 1
    return count


def _in_vocabulary(core: str) -> bool:
    return bool(WRITTEN.fullmatch(core)) or any(part in VOCABULARY for part in core.split("-"))


class _Rules:
    def __init__(self, phrase: Phrase, *, smart: bool) -> None:
        self._phrase = phrase
        self._smart = smart
        self._numbers = phrase.numbers()

    def written(self) -> list[Written]:
        """Return what is written in digits, in order."""
        smart = (self._money, self._percent, self._time, self._phone)
        rules = (*(smart if self._smart else ()), self._year, self._ordinal, self._cardinal)
        found: list[Written] = []
        at = 0
        while at < len(self._numbers):
            written = next((one for rule in rules if (one := rule(at)) is not None), None)
            if written is not None:
                found.append(written)
            at += written.used if written is not None else 1
        return found

    # ---- what is beside a number ----

    def _before(self, number: Number, back: int = 1) -> str:
        """Return the word before a number, if they belong together."""
        place = number.first - back
        return self._phrase.core(place, place + 1) if back == 1 or self._before(number, back - 1) else ""

    def _after(self, number: Number, on: int = 0) -> str:
        """Return the word behind a number, if they belong together."""
        place = number.last + on
        return self._phrase.core(place, place - 1) if on == 0 or self._after(number, on - 1) else ""

    def _next(self, at: int, skip: int = 0) -> Number | None:
        """Return the next number if it follows at once, or behind `skip` words that belong to both."""
        number, following = self._numbers[at], self._numbers[at + 1] if at + 1 < len(self._numbers) else None
        if following is None or following.first != number.last + skip:
            return None
        return following if all(map(self._phrase.together, range(number.last - 1, following.first))) else None

    def _previous(self, at: int, skip: int = 0) -> Number | None:
        return self._numbers[at - 1] if at and self._next(at - 1, skip) is not None else None

    def _begins_with_magnitude(self, number: Number) -> bool:
        return number.spelled and self._phrase.cores[number.first].split("-")[0] in MAGNITUDES

    def _amount(self, at: int) -> tuple[int, str] | None:
        """Return where an amount begins, and its digits; None if this number is none, or is not certainly whole."""
        number, previous = self._numbers[at], self._previous(at)
        if number.ordinal or number.digitwise or (previous is not None and not previous.ordinal):
            return None
        if not self._begins_with_magnitude(number):
            return number.first, number.written()
        after_a = self._before(number) == "a" and self._before(number, 2) not in FRACTIONS
        return (number.first - 1, number.written()) if after_a else None

    # ---- rules; each returns what the number `at` is written as, or None ----

    def _money(self, at: int) -> Written | None:
        number, amount = self._numbers[at], self._amount(at)
        sign = CURRENCIES.get(self._after(number))
        if amount is None or sign is None:
            return None
        first, digits = amount
        whole, _, decimals = digits.partition(".")
        if len(decimals) > 2:
            return None
        digits = f"{whole}.{decimals:0<2}" if decimals else whole
        and_ = self._after(number, 1) == "and"
        cents = self._next(at, skip=2 if and_ else 1)
        if not decimals and cents is not None and cents.whole and cents.value < 100 and self._after(cents) in CENTS:
            return Written(first, cents.last + 1, f"{sign}{whole}.{int(cents.value):02d}", used=2)
        return Written(first, number.last + 1, f"{sign}{digits}")

    def _percent(self, at: int) -> Written | None:
        number, amount = self._numbers[at], self._amount(at)
        if amount is None:
            return None
        if self._after(number) == "percent":
            return Written(amount[0], number.last + 1, f"{amount[1]}%")
        if self._after(number) == "per" and self._after(number, 1) == "cent":
            return Written(amount[0], number.last + 2, f"{amount[1]}%")
        return None

    def _time(self, at: int) -> Written | None:
        hour = self._numbers[at]
        if not (hour.spelled and hour.whole and 1 <= hour.value <= 12) or self._previous(at) is not None:
            return None
        oh = self._after(hour) in OH
        minute = self._next(at, skip=1 if oh else 0)
        if minute is None or not minute.spelled or not minute.whole or not self._is_meridiem(minute):
            return None
        if not (1 <= minute.value <= 9 if oh else 10 <= minute.value <= 59):
            return None
        return Written(hour.first, minute.last, f"{int(hour.value)}:{int(minute.value):02d}", used=2)

    def _is_meridiem(self, number: Number) -> bool:
        """Whether the words behind a number are a.m. or p.m."""
        after = self._after(number)
        if after in ("a", "p") and number.last + 1 < len(self._phrase.cores):  # "p. m." has punctuation between
            return self._phrase.cores[number.last + 1] == "m"
        return after in MERIDIEMS

    def _phone(self, at: int) -> Written | None:
        """A North American number, whose area code and exchange begin with 2 to 9."""
        number = self._numbers[at]
        digits = number.digits
        if not number.digitwise or len(digits) not in (7, 10, 11) or (len(digits) == 11 and digits[0] != "1"):
            return None
        country, digits = (digits[:1], digits[1:]) if len(digits) == 11 else ("", digits)
        groups = [digits[:-7], digits[-7:-4], digits[-4:]]
        if any(group and group[0] in "01" for group in groups[:2]):
            return None
        return Written(number.first, number.last, "-".join(group for group in (country, *groups) if group))

    def _year(self, at: int) -> Written | None:
        """Nineteen ninety five, twenty oh five. Fourteen thirty may be a time; fourteen ninety two is not."""
        century = self._numbers[at]
        if not (century.spelled and century.whole and 13 <= century.value <= 20):
            return None
        oh = self._after(century) in OH
        rest = self._next(at, skip=1 if oh else 0)
        if rest is None or not rest.spelled or not rest.whole or self._next(at + 1) is not None:
            return None
        if not (1 <= rest.value <= 9 if oh else 10 <= rest.value <= 99):
            return None
        after = self._after(rest)
        if (century.value < 16 and rest.value < 60) or after in CURRENCIES or after in CENTS | {"percent", "per"} | OH:
            return None
        return Written(century.first, rest.last, f"{int(century.value)}{int(rest.value):02d}", used=2)

    def _ordinal(self, at: int) -> Written | None:
        number = self._numbers[at]
        if not number.ordinal:
            return None
        last = self._phrase.cores[number.last - 1].rpartition("-")[2]
        small = number.last - number.first == 1 and self._phrase.cores[number.first] in SMALL_ORDINALS
        if (small or last == "second" or self._begins_with_magnitude(number)) and not self._is_day(number, small=small):
            return None  # "wait a second", "a thirty second pause"
        return Written(number.first, number.last, number.digits)

    def _is_day(self, number: Number, *, small: bool) -> bool:
        """Whether an ordinal stands beside a month. "It may first rain": "may" in lower case is none."""
        if not 1 <= number.value <= 31:
            return False
        if self._after(number) == "of" and self._after(number, 1) in MONTHS:
            return True
        month = self._before(number)
        return month in MONTHS and not (
            month == "may" and small and not self._phrase.tokens[number.first - 1].text[:1].isupper()
        )

    def _cardinal(self, at: int) -> Written | None:
        number = self._numbers[at]
        if number.ordinal or not number.spelled:
            return None
        first = number.first
        if self._begins_with_magnitude(number):  # "a hundred people", "hundred": as they were said
            amount = self._amount(at)
            if amount is None or number.last - number.first == 1:
                return None
            first = amount[0]
        following = self._next(at)
        if self._after(number) in FRACTIONS and number.value < 20 and number.last - number.first == 1:
            return None
        if self._phrase.cores[number.first : number.last] == ["one"] and not self._counts(at, following):
            return None
        return Written(first, number.last, number.written())

    def _counts(self, at: int, following: Number | None) -> bool:
        """Whether a "one" is a number: beside another, or before a unit; else it may stand for a thing or a person."""
        number, previous = self._numbers[at], self._previous(at)
        if any(other is not None and not other.ordinal for other in (previous, following)):
            return True
        if self._after(number) in UNITS or self._is_meridiem(number):
            return True
        onward = self._next(at, skip=1) if self._after(number) in LINKS else None
        backward = self._previous(at, skip=1) if self._before(number) in LINKS else None
        return any(other is not None and not other.ordinal for other in (onward, backward))
