"""The recognizer `whisper`: what a card may set, and what a client may ask for."""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from speechpipe.cascade.asr import HOTWORDS_LEFT, BufferedStream, DecodeOptions, Piece
from speechpipe.cascade.asr.whisper.batch import Batch, Limits
from speechpipe.cascade.asr.whisper.decoding import Encoded, Model
from speechpipe.cascade.asr.whisper.features import LogMel
from speechpipe.cascade.asr.whisper.tasks import Asked
from speechpipe.cascade.asr.whisper.vocabulary import Vocabulary
from speechpipe.foundation import system
from speechpipe.types import Samples, Transcript

BATCH_S = 60.0
"""Four windows of several pieces: more at once save little."""

PROMPT_TOKENS = 64
"""Tokens of a prompt that are kept, its last ones, and of the hotwords, the first that fit.

Each costs as much as a token of text, and a long list draws the text towards itself.
"""

PROMPT_CHARACTERS = 2000
"""Characters of a prompt that are looked at, its last ones: more than `PROMPT_TOKENS` stand for."""

DETECT = "auto"
WORD = re.compile(r"\w+")


class WhisperRecognizer:
    """Files: `model` (CTranslate2's `model.bin`), with its configuration and vocabulary in the same folder.

    Attributes:
        model: the networks, used by one thread at a time.
        vocabulary: its tokens and languages.
        language: used if the request names none that the model knows.
    """

    batch_s = BATCH_S

    def __init__(  # noqa: PLR0913, PLR0917 - the options of its card
        self,
        files: Mapping[str, Path],
        language: str = DETECT,
        beam: int = 1,
        no_speech: float = 0.6,
        log_prob: float = -1.0,
        compute_type: str = "int8",
        device: str = "auto",
        threads: int = 1,
    ) -> None:
        """Load the model.

        Args:
            files: see the class.
            language: used if the request names none that the model knows; `auto`: the model finds out.
            beam: beam width.
            no_speech: a text is dropped if the model gives a higher probability to no speech, and the text's mean
                log-probability is below `log_prob`.
            log_prob: see `no_speech`; natural logarithm.
            compute_type: of CTranslate2.
            device: of CTranslate2.
            threads: CPU threads.

        Raises:
            BadInput: the vocabulary is not that of a Whisper.
            ValueError, RuntimeError: the file is not a model, or does not support the compute type.
            OSError: a file is missing.
        """
        folder = files["model"].parent
        files["model"].stat()
        self.model = Model(
            folder, device=str(device), compute_type=str(compute_type), threads=int(threads), beam=int(beam)
        )
        self.vocabulary = Vocabulary(folder)
        self._mel = LogMel(self.model.bands)
        self._limits = Limits(float(no_speech), float(log_prob))
        self.language = str(language)
        self._hotwords: tuple[tuple[str, ...], tuple[tuple[str, ...], tuple[int, ...]]] = (), ((), ())
        system.trim_heap()  # the float weights, of which int8 ones were made

    def open(self, options: DecodeOptions) -> "WhisperStream":
        """Begin a segment."""
        return WhisperStream(self, options)

    def transcribe(self, pieces: Sequence[Piece], look: Callable[[], object] | None = None) -> list[Transcript]:
        """Return a transcript for each piece; see `BatchRecognizer`. `look` is called meanwhile."""
        found = self._decoded(pieces, unfinished=False, look=look)
        return [self._telling(one, piece.options) for one, piece in zip(found, pieces, strict=True)]

    def _decoded(
        self, pieces: Sequence[Piece], *, unfinished: bool, look: Callable[[], object] | None = None
    ) -> list[Transcript]:
        """Decode pieces; those with hotwords twice, with and without, on the same output of the encoder.

        A list of hotwords also changes other words, mostly for the worse, and brings words where nothing was said. So
        the text with hotwords counts only if it has one that the text without has not.
        """
        biased = [number for number, piece in enumerate(pieces) if _said(piece.options.hotwords)]
        known: dict[bytes, Encoded] | None = {} if biased else None
        plain = [Piece(piece.samples, replace(piece.options, hotwords=())) for piece in pieces]

        def run(some: Sequence[Piece]) -> list[Transcript]:
            batch = Batch(self.model, self.vocabulary, self._mel, self._limits, known, look)
            return batch.run(some, [self._asked(one.options, unfinished) for one in some])

        found = run(plain)
        if biased:
            again = run([pieces[number] for number in biased])
            for number, other in zip(biased, again, strict=True):
                if _gains(other.text, found[number].text, pieces[number].options.hotwords):
                    found[number] = other
        return found

    def _telling(self, transcript: Transcript, options: DecodeOptions) -> Transcript:
        """Return a transcript that says how many hotwords were left out, if any were."""
        hotwords = _said(options.hotwords)
        left = len(hotwords) - len(self._fitting(hotwords)[0])
        return replace(transcript, facts={**transcript.facts, HOTWORDS_LEFT: float(left)}) if left else transcript

    def partial(self, samples: Samples, options: DecodeOptions) -> str:
        """Return the text of (n,) samples of speech that goes on, without words: cheaper than `transcribe`."""
        return self._decoded([Piece(samples, options)], unfinished=True)[0].text

    def partial_in_steps(self, samples: Samples, options: DecodeOptions) -> Generator[None, None, str]:
        """Make what `partial` returns, on a thread of the library; see `StreamWithSteps`."""
        if _said(options.hotwords):  # decoded twice on one output of the encoder
            return self.partial(samples, options)
        batch = Batch(self.model, self.vocabulary, self._mel, self._limits)
        found = yield from batch.in_steps(Piece(samples, options), self._asked(options, unfinished=True))
        return found.text

    def _asked(self, options: DecodeOptions, unfinished: bool) -> Asked:
        words = options.word_times and not unfinished
        return Asked(self.language_of(options.language), options.translate, self._prompt(options), words, unfinished)

    def language_of(self, wanted: str | None) -> str | None:
        """Return the language to decode in, of a tag like `pt-BR`; None: it must be detected."""
        if not self.model.multilingual:
            return "en"
        for name in (wanted or "", self.language):
            if (code := name.lower().replace("_", "-").split("-")[0]) in self.vocabulary.languages:
                return code
        return None

    def _prompt(self, options: DecodeOptions) -> tuple[int, ...]:
        """Return the tokens that stand for what was said before: the prompt's end, and the hotwords behind it."""
        found: list[int] = []
        if options.prompt and (prompt := options.prompt[-PROMPT_CHARACTERS:].strip()):
            found += self.vocabulary.encode(f" {prompt}")[-PROMPT_TOKENS:]
        found += self._fitting(_said(options.hotwords))[1]
        return (self.vocabulary.before, *found) if found else ()

    def _fitting(self, hotwords: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return the hotwords that there is room for, and the tokens of their list."""
        if hotwords != self._hotwords[0]:  # most often they are those of the call before
            room, kept = PROMPT_TOKENS, []
            for word in hotwords:
                count = len(self.vocabulary.encode(f" {word},"))
                if count <= room:
                    room -= count
                    kept.append(word)
            tokens = self.vocabulary.encode(f" {', '.join(kept)}.")[:PROMPT_TOKENS] if kept else []
            self._hotwords = hotwords, (tuple(kept), tuple(tokens))
        return self._hotwords[1]


def _said(hotwords: Sequence[str]) -> tuple[str, ...]:
    """Return the hotwords that are not blank, trimmed."""
    return tuple(word.strip() for word in hotwords if word.strip())


def _gains(text: str, plain: str, hotwords: Sequence[str]) -> bool:
    """Whether a text has a hotword that the other one has not: as it is written, or its words in other letters."""
    if any(word in text and word not in plain for word in _said(hotwords)):
        return True
    mine, other = _words(text), _words(plain)
    return any(word in mine and word not in other for word in map(_words, _said(hotwords)) if word.strip())


def _words(text: str) -> str:
    """Return the words of a text in lower case, with a space on each side."""
    return f" {' '.join(WORD.findall(text.casefold()))} "


class WhisperStream(BufferedStream):
    """One segment."""

    def __init__(self, recognizer: WhisperRecognizer, options: DecodeOptions) -> None:
        super().__init__()
        self._recognizer = recognizer
        self._options = options

    def partial(self) -> str:
        """Return the text of the audio fed so far."""
        return self._recognizer.partial(self.samples(), self._options)

    def partial_in_steps(self) -> Generator[None, None, str]:
        """Make what `partial` returns; see `StreamWithSteps`."""
        return self._recognizer.partial_in_steps(self.samples(), self._options)

    def decode_looking(self, look: Callable[[], object]) -> Transcript:
        """Return the transcript of the audio fed so far; see `StreamWithSteps`."""
        return self._recognizer.transcribe([Piece(self.samples(), self._options)], look)[0]

    def decode(self, samples: Samples) -> Transcript:
        """Return the transcript of (n,) samples."""
        return self._recognizer.transcribe([Piece(samples, self._options)])[0]
