"""What the benchmarks of Whisper share: scores by Whisper's own normaliser, audio, and how it is decoded."""

import contextlib
import difflib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import jiwer
import numpy as np
import soundfile
from measure import RATE, Recording

from speechpipe.cascade.asr import DecodeOptions, Piece
from speechpipe.cascade.asr.whisper import windows
from speechpipe.cascade.asr.whisper.recognizer import WhisperRecognizer
from speechpipe.cascade.vad import Closed, load_vad
from speechpipe.cascade.vad.segmenter import Segmenter, SegmenterOptions
from speechpipe.types import Samples, Transcript

# ---- scores ----


@dataclass
class Score:
    """Word errors of texts, and the CPU that they took for so much audio."""

    errors: int = 0
    words: int = 0
    cpu_s: float = 0.0
    audio_s: float = 0.0
    normal: Any = field(repr=False, default=None)

    def add(self, reference: str, text: str) -> None:
        """Count the errors of one text."""
        said, heard = self.normal(reference), self.normal(text)
        if said and heard:
            found = jiwer.process_words(said, heard)
            self.errors += found.insertions + found.deletions + found.substitutions
        else:
            self.errors += len(said.split()) + len(heard.split())
        self.words += len(said.split())

    @property
    def wer(self) -> float:
        """Share of words wrong."""
        return self.errors / max(self.words, 1)

    @property
    def cost(self) -> float:
        """CPU seconds for each second of audio."""
        return self.cpu_s / max(self.audio_s, 1e-9)

    @property
    def quality(self) -> str:
        """Share and number of words wrong."""
        return f"{self.wer:.4f} ({self.errors} of {self.words})"

    def __str__(self) -> str:
        return f"{self.quality}; {self.cost:.4f}"


def score() -> Score:
    """Return an empty score."""
    from whisper_normalizer.english import EnglishTextNormalizer

    return Score(normal=EnglishTextNormalizer())


@contextlib.contextmanager
def timed(into: Score) -> Iterator[None]:
    """Add the CPU seconds of the block."""
    begun = time.process_time()
    yield
    into.cpu_s += time.process_time() - begun


@contextlib.contextmanager
def longest_windows() -> Iterator[None]:
    """Make the recognizer use 30 s windows for everything."""
    with mock.patch.object(windows, "LENGTHS", (3000,)):
        yield


# ---- audio ----


def more(manifests: Sequence[Path]) -> list[Recording]:
    """Return the clips of manifests that have a text."""
    found = []
    for manifest in manifests:
        for row in map(json.loads, manifest.read_text().splitlines()):
            if row.get("text"):
                audio = soundfile.read(manifest.parent / row["audio"], dtype="float32")[0]
                found.append(Recording(row["audio"], audio, row["text"]))
    return found


@dataclass
class Joined:
    """Clips after each other with faint noise between them, and where each lies."""

    samples: Samples
    spans: list[tuple[int, int]]
    clips: list[Recording]


def joined(clips: Sequence[Recording], seed: int = 0) -> Joined:
    """Shuffle clips and put 0.6 to 1.4 s of faint noise before each."""
    draw = np.random.default_rng(seed)
    shuffled = [clips[number] for number in draw.permutation(len(clips))]
    parts: list[Samples] = []
    spans, at = [], 0
    for clip in shuffled:
        pause = draw.normal(0, 2e-4, int(draw.uniform(0.6, 1.4) * RATE)).astype(np.float32)
        parts += [pause, clip.samples]
        at += len(pause)
        spans.append((at, at + len(clip.samples)))
        at += len(clip.samples)
    return Joined(np.concatenate(parts), spans, shuffled)


def segments(samples: Samples) -> list[tuple[int, int]]:
    """Return the segments of the default VAD with the default parameters."""
    vad = load_vad("silero")
    frame = vad.frame_samples
    frames = np.pad(samples, (0, -len(samples) % frame)).reshape(-1, frame)
    stream = vad.open()
    scores = np.concatenate([stream.probabilities(frames[at : at + 512]) for at in range(0, len(frames), 512)])
    levels = (10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-12)).astype(np.float32)
    segmenter = Segmenter(SegmenterOptions(), frame)
    events = [*segmenter.push(scores, levels), *segmenter.finish(len(samples))]
    return [(event.segment.start, event.segment.end) for event in events if isinstance(event, Closed)]


# ---- decoding ----


def transcribe(recognizer: WhisperRecognizer, pieces: Sequence[Samples], group: str) -> list[Transcript]:
    """Return the transcripts of pieces, decoded as many at once as a worker does."""
    found: list[Transcript] = []
    waiting: list[Piece] = []
    for samples in pieces:
        waiting.append(Piece(samples, DecodeOptions(offline=True, group=group)))
        if sum(len(piece.samples) for piece in waiting) >= recognizer.batch_s * RATE:
            found += recognizer.transcribe(waiting)
            waiting = []
    return [*found, *recognizer.transcribe(waiting)]


def of_clips(pieces: Sequence[tuple[int, int]], texts: Sequence[str], audio: Joined, into: Score) -> None:
    """Score the text of each clip: that of the segments that lie in it. Text beside all clips is wrong."""
    given: list[list[str]] = [[] for _ in audio.clips]
    for (start, end), text in zip(pieces, texts, strict=True):
        overlaps = [min(end, last) - max(start, first) for first, last in audio.spans]
        best = int(np.argmax(overlaps))
        if overlaps[best] > 0:
            given[best].append(text)
        else:
            into.add("", text)
    for clip, found in zip(audio.clips, given, strict=True):
        into.add(clip.text, " ".join(found))


def differences(first: Sequence[tuple[str, float]], second: Sequence[tuple[str, float]]) -> list[float]:
    """Return by how many seconds the starts of the words differ that both have."""
    mine, theirs = (["".join(filter(str.isalnum, text.lower())) for text, _ in words] for words in (first, second))
    blocks = difflib.SequenceMatcher(None, mine, theirs, autojunk=False).get_matching_blocks()
    return [
        abs(first[block.a + number][1] - second[block.b + number][1])
        for block in blocks
        for number in range(block.size)
    ]
