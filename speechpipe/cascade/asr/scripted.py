"""A recognizer for tests: a deterministic text for each audio, with configurable CPU cost and faults.

Each word is a digest of its third of a second of samples. Text in the wrong session is therefore detected, and a
partial result is a prefix of the final one.
"""

import hashlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from speechpipe.cascade.asr import BufferedStream, DecodeOptions, Piece, RecognizerStream
from speechpipe.types import SAMPLE_RATE_HZ, NullCause, Samples, Transcript, Word

_SYLLABLES = [consonant + vowel for consonant in "bdklm" for vowel in "aeiou"]
WORD_SAMPLES = SAMPLE_RATE_HZ // 3


class ScriptedRecognizer:
    """Makes deterministic words; options add CPU cost and faults. A `BatchRecognizer` if `batch_s` is positive."""

    def __init__(  # noqa: PLR0913, PLR0917 - the options of its card
        self,
        cost: float = 0.0,
        crash_above_level: float = 1e9,
        hang_above_level: float = 1e9,
        fail_above_level: float = 1e9,
        empty_below_level: float = 0.0,
        streaming: bool = True,
        batch_s: float = 0.0,
        own_threads: bool = False,
    ) -> None:
        """Set the options.

        Args:
            cost: CPU seconds per second of audio.
            crash_above_level: peak level above which the process exits.
            hang_above_level: peak level above which it never returns.
            fail_above_level: peak level above which it raises.
            empty_below_level: peak level below which it finds no words.
            streaming: decode while audio is fed; False: decode at the end.
            batch_s: as of `BatchRecognizer`; the streams are then decoded at the end.
            own_threads: use the CPU time on another thread, as native libraries do.
        """
        self.cost = float(cost)
        self.crash_above_level = float(crash_above_level)
        self.hang_above_level = float(hang_above_level)
        self.fail_above_level = float(fail_above_level)
        self.empty_below_level = float(empty_below_level)
        self.batch_s = float(batch_s)
        self._streaming = streaming and not batch_s
        self._own_threads = own_threads

    def open(self, options: DecodeOptions) -> RecognizerStream:
        """Begin a segment."""
        del options
        return ScriptedStream(self) if self._streaming else ScriptedBufferedStream(self)

    def work(self, samples: Samples) -> None:
        """Use the CPU time for (n,) samples, or fail as their peak level demands."""
        peak = float(np.abs(samples).max(initial=0.0))
        if peak > self.crash_above_level:
            os._exit(86)
        while peak > self.hang_above_level:
            time.sleep(3600)
        if peak > self.fail_above_level:
            raise RuntimeError("scripted failure")
        cpu_s = self.cost * len(samples) / SAMPLE_RATE_HZ
        if cpu_s and self._own_threads:
            worker = threading.Thread(target=_spin, args=(cpu_s,))
            worker.start()
            worker.join()
        elif cpu_s:
            _spin(cpu_s)

    def transcribe(self, pieces: Sequence[Piece]) -> list[Transcript]:
        """Return the transcripts of complete segments; the fact `together` is the number of pieces."""
        found = []
        for piece in pieces:
            stream = ScriptedBufferedStream(self)
            stream.feed(piece.samples)
            found.append(replace(stream.finish(), facts={"together": float(len(pieces))}))
        return found


def _spin(cpu_s: float) -> None:
    end = time.thread_time() + cpu_s
    while time.thread_time() < end:
        pass


class ScriptedStream:
    """One segment, decoded while it is fed."""

    def __init__(self, recognizer: ScriptedRecognizer) -> None:
        self._recognizer = recognizer
        self._rest: Samples = np.zeros(0, np.float32)
        self._words: list[Word] = []
        self._peak = 0.0

    def feed(self, samples: Samples) -> None:
        """Take (n,) samples; each complete third of a second becomes a word."""
        self._recognizer.work(samples)
        self._peak = max(self._peak, float(np.abs(samples).max(initial=0.0)))
        held = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        size = len(held) // WORD_SAMPLES * WORD_SAMPLES
        for start in range(0, size, WORD_SAMPLES):
            self._spell(held[start : start + WORD_SAMPLES])
        self._rest = held[size:].copy()

    def _spell(self, samples: Samples) -> None:
        digest = hashlib.sha256(samples.tobytes()).digest()
        text = "".join(_SYLLABLES[value % len(_SYLLABLES)] for value in digest[:2])
        start_s = len(self._words) * WORD_SAMPLES / SAMPLE_RATE_HZ
        self._words.append(Word(text, start_s, start_s + len(samples) / SAMPLE_RATE_HZ, 0.5 + digest[2] / 512))

    def partial(self) -> str:
        """Return the words so far."""
        return " ".join(word.text for word in self._words)

    def finish(self) -> Transcript:
        """Return all words; a segment shorter than a word gives one word."""
        if not self._words and len(self._rest):
            self._spell(self._rest)
        if not self._words or self._peak < self._recognizer.empty_below_level:
            return Transcript.null(NullCause.EMPTY)
        confidence = sum(word.confidence or 0.0 for word in self._words) / len(self._words)
        return Transcript(" ".join(word.text for word in self._words), tuple(self._words), confidence)

    def context(self) -> str:
        """Return an empty text: segments are independent."""
        return ""

    def cancel(self) -> None:
        """Drop the segment."""


class ScriptedBufferedStream(BufferedStream):
    """The same words, decoded at the end of the segment."""

    def __init__(self, recognizer: ScriptedRecognizer) -> None:
        super().__init__()
        self._recognizer = recognizer

    def decode(self, samples: Samples) -> Transcript:
        """Return the words of (n,) samples."""
        stream = ScriptedStream(self._recognizer)
        stream.feed(samples)
        return stream.finish()
