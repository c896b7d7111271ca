"""A recognizer that always says the same of the same audio, at the speed and with the faults it is told.

For load tests and for tests of everything around a recognizer. Each word is derived from its own third of a second
of samples, so that text which ends up in the wrong session is seen at once, and a partial result is the beginning
of the final one.
"""

import hashlib
import os
import time

import numpy as np

from speechpipe.cascade.asr import BufferedStream, DecodeOptions, RecognizerStream
from speechpipe.types import SAMPLE_RATE_HZ, NullCause, Samples, Transcript, Word

_SYLLABLES = [consonant + vowel for consonant in "bdklm" for vowel in "aeiou"]
WORD_SAMPLES = SAMPLE_RATE_HZ // 3


class ScriptedRecognizer:
    """Options say what goes wrong; by default nothing does."""

    def __init__(
        self,
        cost: float = 0.0,
        crash_above_level: float = 1e9,
        hang_above_level: float = 1e9,
        fail_above_level: float = 1e9,
        empty_below_level: float = 0.0,
        streaming: bool = True,
    ) -> None:
        """Take the CPU seconds spent per second of audio, the peak levels at which it crashes (the process
        dies), hangs, raises, or finds no words, and whether it decodes while it is fed or all at the end.
        """
        self.cost = float(cost)
        self.crash_above_level = float(crash_above_level)
        self.hang_above_level = float(hang_above_level)
        self.fail_above_level = float(fail_above_level)
        self.empty_below_level = float(empty_below_level)
        self._streaming = streaming

    def open(self, options: DecodeOptions) -> RecognizerStream:
        """Begin a segment."""
        del options
        return ScriptedStream(self) if self._streaming else ScriptedBufferedStream(self)

    def work(self, samples: Samples) -> None:
        """Spend what (n,) samples cost, or go wrong on them."""
        peak = float(np.abs(samples).max(initial=0.0))
        if peak > self.crash_above_level:
            os._exit(86)
        while peak > self.hang_above_level:
            time.sleep(3600)
        if peak > self.fail_above_level:
            raise RuntimeError("scripted failure")
        if self.cost:
            end = time.thread_time() + self.cost * len(samples) / SAMPLE_RATE_HZ
            while time.thread_time() < end:
                pass


class ScriptedStream:
    """One segment, worked on as it is fed."""

    def __init__(self, recognizer: ScriptedRecognizer) -> None:
        self._recognizer = recognizer
        self._rest: Samples = np.zeros(0, np.float32)
        self._words: list[Word] = []
        self._peak = 0.0

    def feed(self, samples: Samples) -> None:
        """Take (n,) samples; each whole third of a second becomes a word."""
        self._recognizer.work(samples)
        self._peak = max(self._peak, float(np.abs(samples).max(initial=0.0)))
        held = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        whole = len(held) // WORD_SAMPLES * WORD_SAMPLES
        for start in range(0, whole, WORD_SAMPLES):
            self._spell(held[start : start + WORD_SAMPLES])
        self._rest = held[whole:].copy()

    def _spell(self, samples: Samples) -> None:
        digest = hashlib.sha256(samples.tobytes()).digest()
        text = "".join(_SYLLABLES[value % len(_SYLLABLES)] for value in digest[:2])
        start_s = len(self._words) * WORD_SAMPLES / SAMPLE_RATE_HZ
        self._words.append(Word(text, start_s, start_s + len(samples) / SAMPLE_RATE_HZ, 0.5 + digest[2] / 512))

    def partial(self) -> str:
        """Return the words of what is whole so far."""
        return " ".join(word.text for word in self._words)

    def finish(self) -> Transcript:
        """Return all words; a segment shorter than a word is one."""
        if not self._words and len(self._rest):
            self._spell(self._rest)
        if not self._words or self._peak < self._recognizer.empty_below_level:
            return Transcript.null(NullCause.EMPTY)
        confidence = sum(word.confidence or 0.0 for word in self._words) / len(self._words)
        return Transcript(" ".join(word.text for word in self._words), tuple(self._words), confidence)

    def carried(self) -> str:
        """Return nothing: segments know nothing of each other."""
        return ""

    def cancel(self) -> None:
        """Forget the segment."""


class ScriptedBufferedStream(BufferedStream):
    """The same words, all decoded at the end."""

    def __init__(self, recognizer: ScriptedRecognizer) -> None:
        super().__init__()
        self._recognizer = recognizer

    def decode(self, samples: Samples) -> Transcript:
        """Return the words of (n,) samples."""
        stream = ScriptedStream(self._recognizer)
        stream.feed(samples)
        return stream.finish()
