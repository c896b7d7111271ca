"""A recognizer that always says the same of the same audio, at the speed and with the faults it is told.

For load tests and for tests of everything around a recognizer. Its words are derived from the samples, so that
text which ends up in the wrong session is seen at once.
"""

import hashlib
import os
import time

import numpy as np

from speechpipe.asr import BufferedStream, DecodeOptions
from speechpipe.types import SAMPLE_RATE_HZ, NullCause, Samples, Transcript, Word

_SYLLABLES = [consonant + vowel for consonant in "bdklm" for vowel in "aeiou"]
WORDS_PER_S = 3.0


class ScriptedRecognizer:
    """Options say what goes wrong; by default nothing does."""

    def __init__(
        self,
        cost: float = 0.0,
        crash_above_level: float = 1e9,
        hang_above_level: float = 1e9,
        fail_above_level: float = 1e9,
        empty_below_level: float = 0.0,
    ) -> None:
        """Take the CPU seconds spent per second of audio, and the peak levels at which it crashes (the process
        dies), hangs, raises, or finds no words.
        """
        self.cost = float(cost)
        self.crash_above_level = float(crash_above_level)
        self.hang_above_level = float(hang_above_level)
        self.fail_above_level = float(fail_above_level)
        self.empty_below_level = float(empty_below_level)

    def open(self, options: DecodeOptions) -> "ScriptedStream":
        """Begin a segment."""
        del options
        return ScriptedStream(self)


class ScriptedStream(BufferedStream):
    """One segment."""

    def __init__(self, recognizer: ScriptedRecognizer) -> None:
        super().__init__()
        self._recognizer = recognizer

    def decode(self, samples: Samples) -> Transcript:
        """Return words made from a digest of (n,) samples, evenly spread."""
        self._misbehave(float(np.abs(samples).max(initial=0.0)))
        duration_s = len(samples) / SAMPLE_RATE_HZ
        end = time.thread_time() + self._recognizer.cost * duration_s
        while time.thread_time() < end:
            pass
        if not len(samples) or float(np.abs(samples).max()) < self._recognizer.empty_below_level:
            return Transcript.null(NullCause.EMPTY)
        count = max(1, int(duration_s * WORDS_PER_S))
        digest = hashlib.sha256(samples.tobytes()).digest() * (count // 8 + 1)
        step = duration_s / count
        words = tuple(
            Word(_spell(digest[2 * i : 2 * i + 2]), i * step, (i + 1) * step, 0.5 + digest[i] / 512)
            for i in range(count)
        )
        confidence = sum(word.confidence or 0.0 for word in words) / count
        return Transcript(" ".join(word.text for word in words), words, confidence)

    def _misbehave(self, peak: float) -> None:
        if peak > self._recognizer.crash_above_level:
            os._exit(86)
        while peak > self._recognizer.hang_above_level:
            time.sleep(3600)
        if peak > self._recognizer.fail_above_level:
            raise RuntimeError("scripted failure")


def _spell(pair: bytes) -> str:
    return "".join(_SYLLABLES[value % len(_SYLLABLES)] for value in pair)
