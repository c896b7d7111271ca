"""Whisper (Radford et al., 2022) by faster-whisper (https://github.com/SYSTRAN/faster-whisper), the extra `whisper`.

Whisper writes text over silence; what VAD lets through is guarded: by the level, by Whisper's own probability of no
speech, by its log-probability, by repetition and by speaking rate. Not verified with released weights: no model hub
was within reach where this was written.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faster_whisper import WhisperModel

from speechpipe.cascade.asr import BufferedStream, DecodeOptions
from speechpipe.cascade.asr.acoustic import guards
from speechpipe.types import SAMPLE_RATE_HZ, NullCause, Samples, Transcript, Word


class FasterWhisperRecognizer:
    """Files: `model` (CTranslate2's `model.bin`); what belongs to it lies beside it."""

    def __init__(  # noqa: PLR0913, PLR0917 - the options of its card
        self,
        files: Mapping[str, Path],
        language: str = "en",
        beam: int = 5,
        no_speech: float = 0.6,
        log_prob: float = -1.0,
        compute_type: str = "default",
        device: str = "auto",
        threads: int = 1,
    ) -> None:
        """Load the model. `no_speech`: above this probability of no speech, and below `log_prob` (mean, natural
        logarithm), a stretch is silence.

        Raises:
            ValueError, RuntimeError: it is no model, or has no such compute type.
            OSError: a file is missing.
        """
        files["model"].stat()
        self._model = WhisperModel(
            str(files["model"].parent),
            device=str(device),
            compute_type=str(compute_type),
            cpu_threads=int(threads),
            local_files_only=True,
        )
        self.language = str(language)
        self._options: dict[str, Any] = {
            "beam_size": int(beam),
            "no_speech_threshold": float(no_speech),
            "log_prob_threshold": float(log_prob),
            "compression_ratio_threshold": guards.MOST_COMPRESSION,
            "temperature": 0.0,  # no retries at random: the same audio gives the same text
            "word_timestamps": True,
            "condition_on_previous_text": False,  # what one stretch was taken for must not be said again of the next
            "vad_filter": False,  # that is another stage's
        }

    def open(self, options: DecodeOptions) -> "FasterWhisperStream":
        """Begin a segment."""
        return FasterWhisperStream(self, options)

    def decode(self, samples: Samples, options: DecodeOptions) -> Transcript:
        """Return the transcript of (n,) samples."""
        if guards.silent(samples):
            return Transcript.null(NullCause.EMPTY, "silence")
        language = options.language if options.language in self._model.supported_languages else self.language
        segments, _ = self._model.transcribe(samples, language=language, initial_prompt=options.prompt, **self._options)
        words: list[Word] = []
        scores: list[tuple[float, int]] = []
        length_s = len(samples) / SAMPLE_RATE_HZ
        for segment in segments:
            words += self._words(segment.words or (), length_s)
            scores.append((segment.avg_logprob, max(len(segment.tokens), 1)))
        text = " ".join(word.text for word in words)
        if not text:
            return Transcript.null(NullCause.EMPTY)
        if why := guards.objection(text, len(samples)):
            return Transcript.null(NullCause.EMPTY, f"nobody said {text[:40]!r}: {why}")
        # The mean probability of a token, as it was sampled: near 1 for text that Whisper is sure of.
        mean = sum(score * count for score, count in scores) / sum(count for _, count in scores)
        return Transcript(text, tuple(words), math.exp(min(0.0, mean)))

    def _words(self, given: Any, length_s: float) -> list[Word]:
        found: list[Word] = []
        for word in given:
            text = word.word.strip()
            if not text:
                continue
            start_s = min(max(0.0, float(word.start)), length_s)
            end_s = min(max(start_s + 0.01, float(word.end)), length_s + 0.01)
            found.append(Word(text, start_s, end_s, min(1.0, max(0.0, float(word.probability)))))
        return found


class FasterWhisperStream(BufferedStream):
    """One segment: Whisper hears up to 30 s at once."""

    def __init__(self, recognizer: FasterWhisperRecognizer, options: DecodeOptions) -> None:
        super().__init__()
        self._recognizer = recognizer
        self._options = options

    def decode(self, samples: Samples) -> Transcript:
        """Return the transcript of (n,) samples."""
        return self._recognizer.decode(samples, self._options)
