"""The decoding of several pieces: windows are planned, decoded, judged, and what is doubtful is decoded again.

What is doubtful about several pieces together is decoded again alone, and what is doubtful alone once more in a longer
window. What that says stays, shortened where it repeats itself.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from speechpipe.cascade.asr import Piece
from speechpipe.cascade.asr.acoustic import guards as acoustic
from speechpipe.cascade.asr.whisper import guards
from speechpipe.cascade.asr.whisper.decoding import Encoded, Guess, Model
from speechpipe.cascade.asr.whisper.features import FRAME_SAMPLES, FRAMES_S, Frames, LogMel, window
from speechpipe.cascade.asr.whisper.results import Found, Heard, joined, mean_log, transcript
from speechpipe.cascade.asr.whisper.tasks import Asked, Task, Text
from speechpipe.cascade.asr.whisper.vocabulary import UNSPACED, Vocabulary
from speechpipe.cascade.asr.whisper.windows import LENGTHS, Part, brief, cut, lone, packed
from speechpipe.cascade.asr.whisper.words import Share, apart, said, sounding
from speechpipe.types import NullCause, Transcript

TOGETHER = 8
"""Most windows whose text is generated at once. More save little, and each holds 1 to 5 MB of encoder output."""

SURE_LANGUAGE = 0.7
"""Probability of the language of several pieces, below which each is asked for its own."""

UNSURE_LOG_PROB = -0.8
"""Mean log-probability of a part's words in a shared window, below which it is decoded alone."""

NOTHING: Encoded = np.zeros((0, 0), np.float32)
"""In place of an encoder's output that is not kept."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Thresholds of the card, see `WhisperRecognizer`."""

    no_speech: float
    log_prob: float


class Batch:
    """Decodes pieces once; see `run`."""

    def __init__(
        self,
        model: Model,
        vocabulary: Vocabulary,
        mel: LogMel,
        limits: Limits,
        known: MutableMapping[bytes, Encoded] | None = None,
        look: Callable[[], object] | None = None,
    ) -> None:
        """Take the parts of a recognizer.

        `known`: windows that were encoded for another run of the same pieces. `look`: called every few milliseconds
        while texts are written.
        """
        self._look = look
        self._model = model
        self._vocabulary = vocabulary
        self._mel = mel
        self._limits = limits
        self._known = known
        self._found: dict[int, Found] = {}

    def run(self, pieces: Sequence[Piece], asked: Sequence[Asked]) -> list[Transcript]:
        """Return a transcript for each piece; `asked` says for each how it is decoded."""
        tasks = list(self._plan(pieces, asked))
        while tasks:
            tasks = [task for some in _batches(tasks) for task in self._decode(some)]
        return [self._transcript(number, piece) for number, piece in enumerate(pieces)]

    def in_steps(self, piece: Piece, asked: Asked) -> Generator[None, None, Transcript]:
        """Decode one piece without the times of its words; each `yield` is to be continued a little later.

        Meanwhile a thread of the library works. Other pieces may be decoded then.
        """
        tasks = list(self._plan([piece], [replace(asked, words=False)]))
        while tasks:
            task = tasks.pop(0)
            language = "en" if not self._model.multilingual else asked.language
            if language is None:  # the encoder's output must say it first
                tasks += self._decode([task])
                continue
            start, most = self._start(language, asked), guards.most_tokens(task.window.frames)
            writing = self._model.begin(self._frames(task), [*asked.prompt, *start], most)
            while (guess := writing.guess) is None:
                yield
            tasks += self._judged([self._text(task, guess, NOTHING, language)], start)
        return self._transcript(0, piece)

    def _plan(self, pieces: Sequence[Piece], asked: Sequence[Asked]) -> Iterable[Task]:
        groups: dict[tuple[str | int, Asked], list[Part]] = defaultdict(list)
        for number, (piece, wish) in enumerate(zip(pieces, asked, strict=True)):
            if len(piece.samples) < FRAME_SAMPLES or acoustic.silent(piece.samples):
                continue
            self._found[number] = Found()
            parts = cut(number, self._mel(piece.samples))
            # The alignment of a translation does not say which words belong to which piece.
            together = piece.options.group if piece.options.group and not wish.translate else number
            groups[together, wish] += parts
        for (_, wish), parts in groups.items():
            for one in map(brief, parts) if wish.unfinished else packed(parts):
                yield Task(one, wish if one.alone else replace(wish, words=True))

    # ---- one round ----

    def _decode(self, tasks: Sequence[Task]) -> list[Task]:
        """Decode windows of one length, keep what is believed, and return what must be decoded again."""
        encoded = [self._encode(self._frames(task)) for task in tasks]
        if self._look is not None:
            self._look()
        again: list[Task] = []
        by_language: dict[str, list[int]] = defaultdict(list)
        for number, task in enumerate(tasks):
            if (language := self._language(task, encoded[number])) is None:
                again += self._alone(task, task.window.parts)
            else:
                by_language[language].append(number)
        for language, numbers in by_language.items():
            again += self._in_language([tasks[one] for one in numbers], [encoded[one] for one in numbers], language)
        return again

    def _frames(self, task: Task) -> Frames:
        """Return the features of a window."""
        parts = [(start, part.mel) for start, part in zip(task.window.starts, task.window.parts, strict=True)]
        return window(parts, self._mel.bands, task.window.length)

    def _encode(self, frames: Frames) -> Encoded:
        if self._known is None:
            return self._model.encode(frames)
        key = hashlib.blake2b(np.ascontiguousarray(frames).data, digest_size=16).digest()
        if key not in self._known:
            self._known[key] = self._model.encode(frames)
        return self._known[key]

    def _language(self, task: Task, encoded: Encoded) -> str | None:
        """Return the language of a window; None if it is not clear that its parts have the same."""
        if not self._model.multilingual:
            return "en"
        if task.asked.language is not None:
            return task.asked.language
        language, probability = self._model.language(encoded)
        return language if task.window.alone or probability >= SURE_LANGUAGE else None

    def _in_language(self, tasks: Sequence[Task], encoded: Sequence[Encoded], language: str) -> list[Task]:
        asked = tasks[0].asked
        start = self._start(language, asked)
        most = max(guards.most_tokens(task.window.frames) for task in tasks)
        beam = guards.WIDER_BEAM if tasks[0].wider else 1
        guesses = self._model.generate(encoded, [*asked.prompt, *start], most, beam, self._look)
        texts = [
            self._text(task, guess, one, language) for task, guess, one in zip(tasks, guesses, encoded, strict=True)
        ]
        return self._judged(texts, start)

    def _start(self, language: str, asked: Asked) -> list[int]:
        """Return the tokens before a text."""
        return self._vocabulary.start_sequence(
            language if self._model.multilingual else None, translate=asked.translate
        )

    def _text(self, task: Task, guess: Guess, encoded: Encoded, language: str) -> Text:
        spaced = task.asked.translate or language not in UNSPACED
        return Text(task, guess, self._vocabulary, encoded, language, spaced)

    def _judged(self, texts: Sequence[Text], start: Sequence[int]) -> list[Task]:
        """Keep what is believed; return what must be decoded again."""
        again: list[Task] = []
        kept: list[Text] = []
        for text in texts:
            if further := self._doubted(text):
                again += further
            else:
                kept.append(text)
        self._place([text for text in kept if text.task.asked.words and text.units], start[:-1])
        for text in kept:
            again += self._accept(text)
        return again

    def _doubted(self, text: Text) -> list[Task]:
        """Return the tasks that replace one whose whole text is doubtful; none if it is believed, or the last try."""
        task = text.task
        if self._unheard(text):
            return self._wider(text) if task.window.alone else self._alone(task, task.window.parts)
        if not text.ran_on or task.wider:
            return []
        if not task.window.alone:
            return [] if text.cut_before_repetition() else self._alone(task, task.window.parts)
        if task.longer or task.window.length == LENGTHS[-1]:
            return []
        part = task.window.parts[0]
        self._found[part.piece].again += 1
        return [replace(task, window=lone(part, task.window.length), longer=True)]

    def _unheard(self, text: Text) -> bool:
        if text.task.wider and (text.ran_on or text.guess.log_prob < self._limits.log_prob):
            return True  # over noise, too, a second try may sound better than the first
        return guards.no_speech(text.guess, self._limits.no_speech, self._limits.log_prob, ran_on=text.ran_on)

    def _wider(self, text: Text) -> list[Task]:
        """Return the task that tries a part once more with more beams, if that may help."""
        unfinished = text.task.asked.unfinished  # the next text of it will be better by itself
        if unfinished or text.task.wider or not guards.hopeless(text.guess, self._limits.no_speech):
            return []
        part = text.task.window.parts[0]
        self._found[part.piece].again += 1
        return [replace(text.task, window=lone(part, start=guards.LEAD_FRAMES), wider=True)]

    def _alone(self, task: Task, parts: Sequence[Part]) -> list[Task]:
        """Return tasks that decode each of some parts of a window alone."""
        for part in parts:
            self._found[part.piece].again += 1
        return [replace(task, window=lone(part)) for part in parts]

    def _together(self, task: Task, parts: Sequence[Part]) -> list[Task]:
        """Return tasks that decode the last parts of a window, which are fewer than all, in a window of their own."""
        for part in parts:
            self._found[part.piece].again += 1
        return [replace(task, window=one) for one in packed(parts)]

    def _place(self, texts: Sequence[Text], start: Sequence[int]) -> None:
        """Find the words' times and confidences."""
        if texts:
            placed = self._model.align(
                [text.encoded for text in texts],
                start,
                [text.tokens for text in texts],
                [text.task.window.frames for text in texts],
            )
            for text, where in zip(texts, placed, strict=True):
                text.words = sounding(said(text.spelled, text.units, where), text.sound)

    # ---- what is kept ----

    def _accept(self, text: Text) -> list[Task]:
        """Keep the words of a window's parts; return tasks for what must be decoded again."""
        task, parts = text.task, text.task.window.parts
        if task.window.alone:
            self._keep(text)
            return []
        shares = apart(task.window, text.words, text.sound)
        spoken = 1 + max((number for number, share in enumerate(shares) if share.words), default=-1)
        if not spoken:
            return self._alone(task, parts)
        doubtful = [number for number in range(spoken) if _doubtful(shares[number], parts[number], spaced=text.spaced)]
        if text.cut:  # the repetition began in the last of them, or in the next
            doubtful = [*(number for number in doubtful if number < spoken - 1), spoken - 1]
            doubtful += [spoken] if spoken < len(parts) else []
            spoken += 1
        for number in range(min(spoken, len(parts))):
            if number not in doubtful:
                self._keep_share(text, number, shares[number])
        # The text ended early. What follows is tried together once more: nothing says that it is difficult.
        return [*self._alone(task, [parts[number] for number in doubtful]), *self._together(task, parts[spoken:])]

    def _keep_share(self, text: Text, number: int, share: Share) -> None:
        part, start = text.task.window.parts[number], text.task.window.starts[number]
        heard = Heard(
            (part.offset - start) / FRAMES_S,
            joined(share.words, spaced=text.spaced),
            tuple(share.words),
            mean_log(share.words),
            sum(word.tokens for word in share.words),
            text.language,
            text.spaced,
        )
        self._found[part.piece].parts.append(heard)

    def _keep(self, text: Text) -> None:
        """Keep what was heard in a part that was decoded alone, unless it is not believed."""
        part, guess = text.task.window.parts[0], text.guess
        found = self._found[part.piece]
        units, dropped = text.units, ""
        if self._unheard(text):
            units, dropped = [], f"no speech (probability {guess.no_speech:.2f})"
        elif text.endless and (phrase := text.repetition):
            units = units[: phrase[1]]
            found.shortened += 1
        words = text.words[: len(units)]
        written = joined(units, spaced=text.spaced)
        found.parts.append(
            Heard(
                (part.offset - text.task.window.starts[0]) / FRAMES_S,
                written,
                tuple(words),
                mean_log(words) if words else guess.log_prob,
                sum(unit.last - unit.first + 1 for unit in units),
                text.language,
                text.spaced,
                dropped,
            )
        )

    def _transcript(self, number: int, piece: Piece) -> Transcript:
        found = self._found.get(number)
        return transcript(found, len(piece.samples)) if found else Transcript.null(NullCause.EMPTY, "silence")


def _doubtful(share: Share, part: Part, *, spaced: bool) -> bool:
    """Whether the words of a part in a shared window may be wrong: it is decoded alone then."""
    if share.doubtful or not share.words or mean_log(share.words) < UNSURE_LOG_PROB:
        return True
    return bool(acoustic.objection(joined(share.words, spaced=spaced), part.frames * FRAME_SAMPLES))


def _batches(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Group tasks whose windows have the same length and that are decoded in the same way, `TOGETHER` at most."""
    alike: dict[Hashable, list[Task]] = defaultdict(list)
    for task in tasks:
        alike[task.window.length, task.asked, task.wider].append(task)
    for some in alike.values():
        for start in range(0, len(some), TOGETHER):
            yield some[start : start + TOGETHER]
