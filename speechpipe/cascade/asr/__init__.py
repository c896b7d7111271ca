"""Recognizers. They live in worker processes only; nothing here is imported by the server's process
except these protocols and the table.

A new recognizer is one file and one row of `RECOGNIZERS`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from speechpipe.foundation.registry import Registry
from speechpipe.types import ModelFile, NullCause, Samples, Scalar, Transcript, Word

__all__ = [
    "EXTRAS",
    "RECOGNIZERS",
    "BufferedStream",
    "DecodeOptions",
    "Recognizer",
    "RecognizerStream",
    "load_recognizer",
    "transcript_of",
]


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What is known of a segment when it begins.

    `whole` says that its audio is all there already (an upload): a recognizer may then look at the whole
    segment before it decodes, which a live one cannot. `carried` is what `RecognizerStream.carried` said after
    the session's segment before: what a recognizer has learnt of this speaker and microphone, and nothing else.
    """

    whole: bool = False
    language: str | None = None
    prompt: str | None = None
    carried: str = ""


class RecognizerStream(Protocol):
    """One segment. Word times count from the segment's first sample."""

    def feed(self, samples: Samples) -> None:
        """Take (n,) float32 samples at 16 kHz."""
        ...

    def partial(self) -> str:
        """Return the best guess so far; cheap, may change."""
        ...

    def finish(self) -> Transcript:
        """End the segment and return its transcript; the stream is done."""
        ...

    def carried(self) -> str:
        """Return, after `finish`, what the session's next segment should begin with; empty for nothing."""
        ...

    def cancel(self) -> None:
        """Drop the segment and give back what it holds; the stream is done."""
        ...


class Recognizer(Protocol):
    """A model, loaded once per worker process and warmed."""

    def open(self, options: DecodeOptions) -> RecognizerStream:
        """Begin a segment. Nothing of earlier segments may show in its result."""
        ...


class BufferedStream:
    """Base for recognizers that need the whole segment at once: subclasses write `decode`.

    Its partial results are decodes of what is there so far; a worker asks for them only when it is idle.
    """

    def __init__(self) -> None:
        self._parts: list[Samples] = []

    def feed(self, samples: Samples) -> None:
        """Keep (n,) samples."""
        self._parts.append(samples)

    def partial(self) -> str:
        """Decode what was fed so far."""
        return self.decode(self._samples()).text

    def finish(self) -> Transcript:
        """Decode everything that was fed."""
        return self.decode(self._samples())

    def carried(self) -> str:
        """Return nothing: such a recognizer has no state between segments."""
        return ""

    def _samples(self) -> Samples:
        if len(self._parts) != 1:
            self._parts = [np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32)]
        return self._parts[0]

    def cancel(self) -> None:
        """Forget what was fed."""
        self._parts.clear()

    def decode(self, samples: Samples) -> Transcript:
        """Return the transcript of (n,) samples."""
        raise NotImplementedError


def transcript_of(words: Sequence[Word], *, recovered: bool = False) -> Transcript:
    """Return the transcript that is these words: its confidence is theirs, weighed by their length.

    `recovered` notes that the recognizer's last pass failed and the words are from the pass before.
    """
    if not words:
        return Transcript.null(NullCause.EMPTY)
    known = [(word.confidence, word.end_s - word.start_s) for word in words if word.confidence is not None]
    weight = sum(length for _, length in known)
    confidence = sum(value * length for value, length in known) / weight if weight else None
    text = " ".join(word.text for word in words)
    return Transcript(text, tuple(words), confidence, recovered=recovered)


RECOGNIZERS = Registry(
    "recognizer",
    {
        "ctc": "speechpipe.cascade.asr.ctc:CtcRecognizer",
        "emformer": "speechpipe.cascade.asr.emformer:EmformerRecognizer",
        "faster_whisper": "speechpipe.cascade.asr.faster_whisper:FasterWhisperRecognizer",
        "moonshine": "speechpipe.cascade.asr.moonshine:MoonshineRecognizer",
        "pocketsphinx": "speechpipe.cascade.asr.pocketsphinx:PocketSphinxRecognizer",
        "scripted": "speechpipe.cascade.asr.scripted:ScriptedRecognizer",
        "wav2vec2": "speechpipe.cascade.asr.wav2vec2:Wav2Vec2Recognizer",
    },
)


EXTRAS = {"emformer": "emformer", "faster_whisper": "whisper", "moonshine": "moonshine"}
"""Recognizers whose library comes with an extra of the package."""


def load_recognizer(name: str, files: Sequence[ModelFile] = (), **options: Scalar) -> Recognizer:
    """Load the recognizer `name` with the files and options of its card (in a worker process).

    One that takes files is given them as `files`, role -> path.

    Raises:
        UnknownName: no such row.
        ImportError: its library is missing.
    """
    try:
        made = RECOGNIZERS.load(name)
    except ImportError as error:
        if name in EXTRAS:
            raise ImportError(f"{error}: pip install 'speechpipe[{EXTRAS[name]}]'") from error
        raise
    given = {"files": {file.role: file.path for file in files}} if files else {}
    return cast("Recognizer", made(**given, **options))
