"""Recognizers: their protocols and the table of implementations.

Implementations are imported in worker processes only, never in the server's process. A new recognizer is one file and
one row of `RECOGNIZERS`.
"""

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import numpy as np

from speechpipe.foundation.registry import Registry
from speechpipe.types import ModelFile, NullCause, Samples, Scalar, Transcript, Word

_log = logging.getLogger(__name__)

__all__ = [
    "EXTRAS",
    "HOTWORDS",
    "HOTWORDS_LEFT",
    "PROMPT",
    "RECOGNIZERS",
    "SHORTENED",
    "TAKES",
    "TRANSLATION",
    "BatchRecognizer",
    "BufferedStream",
    "DecodeOptions",
    "GrowingStream",
    "Piece",
    "Recognizer",
    "RecognizerStream",
    "StreamWithSteps",
    "load_recognizer",
    "taken",
    "transcript_of",
]


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """Options of a segment, known when it begins.

    Attributes:
        offline: all audio exists already (an upload), so the recognizer may wait for the end of the segment before it
            decodes. False: live audio.
        language: language code, if the client named one.
        prompt: text that the client gave as context.
        context: what `RecognizerStream.context` returned after the session's previous segment: the recognizer's
            adaptation to this speaker and microphone.
        group: the session's id. Pieces of one group may be decoded together (see `BatchRecognizer`); a piece of the
            group "" is decoded alone.
        translate: write English, whatever is spoken, if the recognizer can.
        hotwords: words and phrases that are likely to be spoken.
        word_times: False: the client needs no words with times and confidences; a recognizer may then leave them out
            where that saves work.
    """

    offline: bool = False
    language: str | None = None
    prompt: str | None = None
    context: str = ""
    group: str = ""
    translate: bool = False
    hotwords: tuple[str, ...] = ()
    word_times: bool = True


class RecognizerStream(Protocol):
    """One segment. Word times are seconds from the segment's first sample."""

    def feed(self, samples: Samples) -> None:
        """Take (n,) float32 samples at 16 kHz."""
        ...

    def partial(self) -> str:
        """Return the text so far; cheap, and may change."""
        ...

    def finish(self) -> Transcript:
        """End the segment and return its transcript; the stream is not used again."""
        ...

    def context(self) -> str:
        """Return, after `finish`, the state for the session's next segment; empty if there is none."""
        ...

    def cancel(self) -> None:
        """Drop the segment and release its resources; the stream is not used again."""
        ...


@runtime_checkable
class GrowingStream(RecognizerStream, Protocol):
    """A stream whose text mostly grows while it is fed.

    Attributes:
        stable: so many characters of what `partial` returned last begin every later result; whole words.
    """

    stable: int


@runtime_checkable
class StreamWithSteps(RecognizerStream, Protocol):
    """A stream whose partial results are made on threads of the recognizer's library.

    A worker can decode something else meanwhile, above all the end of a segment.
    """

    def partial_in_steps(self) -> Generator[None, None, str]:
        """Make what `partial` returns, of the audio fed so far.

        Each `yield` comes at once and is to be continued a little later, on the same thread. Between two, this stream
        and others of its recognizer may be used. Closing the generator gives the result up.
        """
        ...

    def decode_looking(self, look: Callable[[], object]) -> Transcript:
        """Return the transcript of the audio fed so far; call `look` every few milliseconds where that is possible.

        `look` may continue the steps of a partial result.
        """
        ...


class Recognizer(Protocol):
    """A model, loaded and warmed up once per worker process."""

    def open(self, options: DecodeOptions) -> RecognizerStream:
        """Begin a segment. Its result may depend on earlier segments through `options.context` only."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A complete segment: (n,) float32 samples at 16 kHz, and its options."""

    samples: Samples
    options: DecodeOptions = DecodeOptions()


@runtime_checkable
class BatchRecognizer(Recognizer, Protocol):
    """A recognizer that costs less for several complete segments at once. Its streams are `BufferedStream`s.

    Attributes:
        batch_s: seconds of audio from which on waiting for more segments saves nothing.
    """

    batch_s: float

    def transcribe(self, pieces: Sequence[Piece]) -> list[Transcript]:
        """Return one transcript for each piece, in their order; word times count from the piece's first sample.

        Only pieces of one group are decoded together, in the order given. If this raises, any of the pieces may be the
        reason: the caller tries them alone.
        """
        ...


class BufferedStream:
    """Base class of streams that decode the complete segment at once; subclasses implement `decode`.

    A partial result decodes the audio so far; a worker asks for it only when it is idle.
    """

    def __init__(self) -> None:
        self._parts: list[Samples] = []

    def feed(self, samples: Samples) -> None:
        """Keep (n,) samples."""
        self._parts.append(samples)

    def partial(self) -> str:
        """Decode the audio fed so far."""
        return self.decode(self.samples()).text

    def finish(self) -> Transcript:
        """Decode all audio."""
        return self.decode(self.samples())

    def context(self) -> str:
        """Return an empty text: such a recognizer has no state between segments."""
        return ""

    def samples(self) -> Samples:
        """Return all (n,) samples fed so far."""
        if len(self._parts) != 1:
            self._parts = [np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32)]
        return self._parts[0]

    def cancel(self) -> None:
        """Drop the audio."""
        self._parts.clear()

    def decode(self, samples: Samples) -> Transcript:
        """Return the transcript of (n,) samples."""
        raise NotImplementedError


def transcript_of(words: Sequence[Word], *, recovered: bool = False) -> Transcript:
    """Return a transcript of these words, with their mean confidence weighted by duration.

    `recovered`: the recognizer's last pass failed, and the words are from the previous pass.
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
        "moonshine": "speechpipe.cascade.asr.moonshine:MoonshineRecognizer",
        "pocketsphinx": "speechpipe.cascade.asr.pocketsphinx:PocketSphinxRecognizer",
        "scripted": "speechpipe.cascade.asr.scripted:ScriptedRecognizer",
        "sherpa_sense_voice": "speechpipe.cascade.asr.sherpa.offline:SenseVoiceRecognizer",
        "sherpa_streaming": "speechpipe.cascade.asr.sherpa.streaming:StreamingRecognizer",
        "sherpa_transducer": "speechpipe.cascade.asr.sherpa.offline:TransducerRecognizer",
        "wav2vec2": "speechpipe.cascade.asr.wav2vec2:Wav2Vec2Recognizer",
        "whisper": "speechpipe.cascade.asr.whisper.recognizer:WhisperRecognizer",
    },
)


EXTRAS = {
    "emformer": "emformer",
    "moonshine": "moonshine",
    "sherpa_sense_voice": "sherpa",
    "sherpa_streaming": "sherpa",
    "sherpa_transducer": "sherpa",
}
"""Recognizers whose library is installed by an extra of the package, and the extra's name."""


PROMPT = "prompt"
HOTWORDS = "hotwords"
TRANSLATION = "translation"

TAKES: Mapping[str, frozenset[str]] = {
    "sherpa_streaming": frozenset({HOTWORDS}),
    "sherpa_transducer": frozenset({HOTWORDS}),
    "whisper": frozenset({PROMPT, HOTWORDS, TRANSLATION}),
}
"""What recognizers make use of in `DecodeOptions`, beside the language; those that are missing here: nothing.

A card may name less, or more for an implementation of one's own (`takes`). What a client asks of a recognizer that does
not take it is answered with a warning, or an error for a translation.
"""

HOTWORDS_LEFT = "hotwords_left"
"""The fact of a transcript that says for how many hotwords a recognizer had no room."""

SHORTENED = "shortened"
"""The fact of a transcript that says of how many texts a recognizer dropped the end, which repeated itself."""

_BEAM_NEEDED = frozenset({"sherpa_streaming", "sherpa_transducer"})
"""Recognizers whose greedy search (`beam` 1) has no place for hotwords."""

_RENAMED = {"faster_whisper": "whisper"}
"""Old names of implementations that cards may still have, and the new ones. They go in 0.4."""


def taken(
    name: str, options: Mapping[str, Scalar], languages: Sequence[str], said: Sequence[str] | None = None
) -> frozenset[str]:
    """Return what the recognizer `name` takes with these options: some of `PROMPT`, `HOTWORDS` and `TRANSLATION`.

    Args:
        name: the implementation.
        options: its options.
        languages: those of its card. One that knows English alone translates nothing.
        said: what its card says of it; None: nothing, so `TAKES` counts.
    """
    found = TAKES.get(_RENAMED.get(name, name), frozenset()) if said is None else frozenset(said)
    if list(languages) == ["en"]:
        found -= {TRANSLATION}
    return found - {HOTWORDS} if name in _BEAM_NEEDED and options.get("beam") == 1 else found


def load_recognizer(name: str, files: Sequence[ModelFile] = (), **options: Scalar) -> Recognizer:
    """Load the recognizer `name` with the files and options of its card; called in a worker process.

    If there are files, they are passed as the argument `files`, a mapping from role to path.

    Raises:
        UnknownName: no recognizer has this name.
        ImportError: its library is not installed; the message names the extra.
    """
    if name in _RENAMED:
        _log.warning("the recognizer `%s` is now called `%s`; the old name goes in 0.4", name, _RENAMED[name])
        name = _RENAMED[name]
    try:
        made = RECOGNIZERS.load(name)
    except ImportError as error:
        if name in EXTRAS:
            raise ImportError(f"{error}: pip install 'speechpipe[{EXTRAS[name]}]'") from error
        raise
    given = {"files": {file.role: file.path for file in files}} if files else {}
    return cast("Recognizer", made(**given, **options))
