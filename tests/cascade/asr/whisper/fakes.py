"""A Whisper without weights: the test says what it writes for the pieces that it finds in a window."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from speechpipe.cascade.asr import DecodeOptions, Piece
from speechpipe.cascade.asr.whisper.decoding import Encoded, Guess, Placed
from speechpipe.cascade.asr.whisper.features import Frames
from speechpipe.cascade.asr.whisper.vocabulary import Vocabulary, letters
from speechpipe.types import Samples

Written = Sequence[tuple[int, str]]
"""Words, and the number of the piece in whose span of the window they lie."""

WORDS = ["one", "two", "three", "four", "five", "no", "yes", "thank", "you", "so"]
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|zh|>", "<|de|>", "<|translate|>", "<|transcribe|>"]
SPECIAL += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>", "<|0.00|>", "<|0.02|>"]


def vocabulary(folder: Path) -> Vocabulary:
    """Return a vocabulary of all bytes, of `WORDS` with a space before each, and of Whisper's special tokens."""
    letter = {byte: one for one, byte in letters().items()}
    words = ["".join(letter[byte] for byte in f" {word}".encode()) for word in WORDS]
    lines = [*(letter[byte] for byte in range(256)), *words, *SPECIAL]
    (folder / "vocabulary.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}")
    return Vocabulary(folder)


def tokens(text: str) -> list[int]:
    """Return the tokens of `vocabulary` for words with spaces between them; of other words their bytes."""
    found: list[int] = []
    for word in text.split():
        found += [256 + WORDS.index(word)] if word in WORDS else list(f" {word}".encode())
    return found


def piece(number: int, seconds: float = 3.0, **options: object) -> Piece:
    """Return the audio of the piece with this number; `FakeMel` gives it the mark that `FakeModel` finds it by."""
    samples = np.full(round(seconds * 16_000), 0.1 + number / 1000, np.float32)
    return Piece(samples, DecodeOptions(**{"group": "session", **options}))  # type: ignore[arg-type]


class FakeMel:
    """Features whose first band carries the number of the piece; each piece has 0.3 s of silence at both ends."""

    bands = 80

    def __call__(self, samples: Samples) -> Frames:
        """Return (80, frames) for the samples of `piece`."""
        made = np.full((self.bands, len(samples) // 160), -0.5, np.float32)
        made[0] = -round((float(samples[0]) - 0.1) * 1000) / 100
        made[1:, :30] = made[1:, -30:] = -7.0
        return made


class FakeWriting:
    """A text that is there when it is looked at for the second time."""

    def __init__(self, guess: Guess) -> None:
        self._guess = guess
        self._looks = 0

    @property
    def guess(self) -> Guess | None:
        """The text, or None."""
        self._looks += 1
        return self._guess if self._looks > 1 else None


class FakeModel:
    """Writes what `write` says for a window's length in frames and the numbers of its pieces."""

    def __init__(self, write: Callable[[int, list[int]], Written], *, multilingual: bool = False) -> None:
        self.multilingual = multilingual
        self.bands = 80
        self.windows: list[tuple[int, list[int]]] = []  # all that were encoded
        self.batches: list[int] = []  # how many windows were decoded at once
        self.prompts: list[list[int]] = []
        self.beams: list[int] = []
        self.no_speech: dict[int, float] = {}  # of a piece, if it is alone
        self.log_prob = -0.2
        self.log_prob_of_more_beams: float | None = None
        self.probability = 0.9
        self.languages: dict[tuple[int, ...], tuple[str, float]] = {}  # of the pieces in a window
        self._write = write
        self._spans: list[dict[int, tuple[int, int]]] = []

    def encode(self, window: Frames) -> Encoded:
        """Return an array that carries the number of this window."""
        marks = np.round(-(window[0] * 4 - 4) * 100).astype(int)
        spans = {
            int(mark): (int(np.flatnonzero(marks == mark)[0]), int(np.flatnonzero(marks == mark)[-1]) + 1)
            for mark in np.unique(marks)
            if mark < 100
        }
        self._spans.append(dict(sorted(spans.items(), key=lambda item: item[1])))
        self.windows.append((window.shape[1], list(self._spans[-1])))
        return np.full((window.shape[1] // 2, 4), len(self._spans) - 1, np.float32)

    def generate(
        self, windows: Sequence[Encoded], prompt: Sequence[int], most: int, beam: int = 1, look: object = None
    ) -> list[Guess]:
        """Return what is written for each window, cut at `most` tokens."""
        del look
        assert len({len(window) for window in windows}) == 1, "windows of different lengths in one batch"
        self.batches.append(len(windows))
        self.prompts.append(list(prompt))
        self.beams.append(beam)
        found = []
        for window in windows:
            length, pieces = self.windows[int(window[0, 0])]
            text = [token for _, words in self._write(length, pieces) for token in tokens(words)][:most]
            no_speech = self.no_speech.get(pieces[0], 0.01) if len(pieces) == 1 else 0.01
            more = self.log_prob_of_more_beams if beam > 1 else None
            found.append(Guess(text, self.log_prob if more is None else more, no_speech))
        return found

    def begin(self, window: Frames, prompt: Sequence[int], most: int) -> "FakeWriting":
        """Return what `generate` returns for one window, at the second look."""
        return FakeWriting(self.generate([self.encode(window)], prompt, most)[0])

    def align(
        self, windows: Sequence[Encoded], start: Sequence[int], texts: Sequence[Sequence[int]], frames: Sequence[int]
    ) -> list[Placed]:
        """Place the words of each piece evenly in its span, without the silence at its ends."""
        assert len(start) in (1, 3), "without the token for no time stamps"
        found = []
        for window, text, length in zip(windows, texts, frames, strict=True):
            number = int(window[0, 0])
            starts: list[float] = []
            for mark, words in self._write(*self.windows[number]):
                first, last = self._spans[number][mark]
                count = len(tokens(words))
                starts += [(first + 30 + (last - first - 60) * one / count) / 100 for one in range(count)]
            starts = [*starts, length / 100][: len(text) + 1]
            found.append(Placed(starts, [self.probability] * len(text)))
        return found

    def language(self, window: Encoded) -> tuple[str, float]:
        """Return the language of a window's pieces."""
        return self.languages[tuple(self.windows[int(window[0, 0])][1])]
