"""A window to decode, and the text that the decoder wrote for it."""

from dataclasses import dataclass
from functools import cached_property

from speechpipe.cascade.asr.whisper import guards
from speechpipe.cascade.asr.whisper.decoding import Encoded, Guess
from speechpipe.cascade.asr.whisper.vocabulary import Vocabulary
from speechpipe.cascade.asr.whisper.windows import Window
from speechpipe.cascade.asr.whisper.words import Said, Sound, sound_of, units


@dataclass(frozen=True, slots=True)
class Asked:
    """How a window is decoded.

    `language` None: the model finds out. `words`: their times are wanted. `unfinished`: the speech goes on.
    """

    language: str | None
    translate: bool
    prompt: tuple[int, ...]
    words: bool
    unfinished: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A window to decode.

    `longer`: it is the second try, in a longer window than the first. `wider`: it is the second try, with more beams.
    """

    window: Window
    asked: Asked
    longer: bool = False
    wider: bool = False


class Text:
    """What the decoder wrote for a window.

    Attributes:
        tokens: without special ones, and no more than its own audio can hold, whatever it was decoded together with.
        spelled: their bytes.
        endless: the decoder found no end.
        spaced: there are spaces between its words.
        units: its words, as stretches of tokens.
        words: the same with times and confidences, once they are aligned; none if they are not wanted.
        repetition: see `guards.repetition`.
        cut: what follows from the first repeated phrase on was dropped.
    """

    def __init__(
        self, task: Task, guess: Guess, vocabulary: Vocabulary, encoded: Encoded, language: str, spaced: bool
    ) -> None:
        self.task, self.guess, self.encoded = task, guess, encoded
        self.language, self.spaced = language, spaced
        most = guards.most_tokens(task.window.frames)
        self.endless = len(guess.tokens) >= most
        self.tokens = [token for token in guess.tokens[:most] if token < vocabulary.end]
        self.spelled = list(map(vocabulary.spelled, self.tokens))
        self.units = units(self.spelled, spaced=spaced)
        self.words: list[Said] = []
        longest = guards.LONGEST_ALONE if task.window.alone else guards.LONGEST_PHRASE
        self.repetition = guards.repetition([unit.text for unit in self.units], longest)
        self.cut = False

    @cached_property
    def sound(self) -> Sound:
        """How loud each frame of the window is."""
        return sound_of(self.task.window)

    @property
    def ran_on(self) -> bool:
        """Whether it repeats itself or has no end: it may be wrong."""
        return self.endless or self.repetition is not None

    def cut_before_repetition(self) -> bool:
        """Drop what follows from the first repeated phrase on; False if that is everything, or nothing is repeated."""
        if self.repetition is None or not self.repetition[0]:
            return False
        self.units = self.units[: self.repetition[0]]
        self.tokens = self.tokens[: self.units[-1].last + 1]
        self.spelled = self.spelled[: len(self.tokens)]
        self.cut = True
        return True
