"""Whisper (Radford et al., 2022) by faster-whisper (https://github.com/SYSTRAN/faster-whisper), the extra `whisper`.

Whisper can produce text for silence. Segments are therefore checked by their level, by Whisper's own probability of no
speech and log-probability, by repetition and by speaking rate. Not verified with released weights: no model hub was
reachable where this was written.
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
    """Files: `model` (CTranslate2's `model.bin`), with its configuration and vocabulary in the same folder."""

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
        """Load the model.

        Args:
            files: see the class.
            language: used if the request names none that the model knows.
            beam: beam width.
            no_speech: a stretch with a higher probability of no speech, and a mean log-probability below `log_prob`,
                counts as silence.
            log_prob: see `no_speech`; natural logarithm.
            compute_type: of CTranslate2.
            device: of CTranslate2.
            threads: CPU threads.

        Raises:
            ValueError, RuntimeError: the file is not a model, or does not support the compute type.
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
            "temperature": 0.0,  # no random retries: the same audio gives the same text
            "word_timestamps": True,
            "condition_on_previous_text": False,  # prevents repetitions of a wrong text
            "vad_filter": False,  # the cascade's own VAD has done this
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
            return Transcript.null(NullCause.EMPTY, f"rejected as hallucination {text[:40]!r}: {why}")
        # The geometric mean of the tokens' probabilities.
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
    """One segment; Whisper processes up to 30 s at once."""

    def __init__(self, recognizer: FasterWhisperRecognizer, options: DecodeOptions) -> None:
        super().__init__()
        self._recognizer = recognizer
        self._options = options

    def decode(self, samples: Samples) -> Transcript:
        """Return the transcript of (n,) samples."""
        return self._recognizer.decode(samples, self._options)
