"""Whisper in short and shared windows against 30 s windows and against faster-whisper, on the same weights.

`python benchmarks/whisper_windows.py [MANIFEST ...]` compares on the read clips and on further manifests' clips: single
clips and the same clips joined with faint noise between them (words wrong, CPU seconds for each second of audio), word
times, and what is written over 20 minutes in which nobody speaks. Texts are compared by Whisper's own normaliser.
"""

import argparse
import contextlib
import difflib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import jiwer
import numpy as np
import soundfile
from measure import RATE, Board, Recording, add_record, read_speech
from non_speech import non_speech

from speechpipe.cascade.asr import DecodeOptions, Piece
from speechpipe.cascade.asr.whisper import windows
from speechpipe.cascade.asr.whisper.recognizer import WhisperRecognizer
from speechpipe.cascade.vad import Closed, load_vad
from speechpipe.cascade.vad.segmenter import Segmenter, SegmenterOptions
from speechpipe.config import Settings
from speechpipe.types import Samples, Transcript

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "2000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "HF_HUB_OFFLINE": "1",
}
"""Of a worker. Both sides run in it; faster-whisper in its own would pay for pages that are mapped and unmapped."""


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

    def __str__(self) -> str:
        return f"{self.wer:.4f} ({self.errors} of {self.words}); {self.cost:.4f}"


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


def joined(clips: Sequence[Recording]) -> Joined:
    """Shuffle clips and put 0.6 to 1.4 s of faint noise before each."""
    draw = np.random.default_rng(0)
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


# ---- what is compared ----


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


def compare_single(recognizer: WhisperRecognizer, clips: Sequence[Recording], board: Board, name: str) -> None:
    """Single clips in the shortest windows and in 30 s windows, by turns."""
    short, long = score(), score()
    texts: list[tuple[str, str, str]] = []
    for clip in clips:
        options = DecodeOptions(offline=True)
        with timed(short):
            first = recognizer.transcribe([Piece(clip.samples, options)])[0]
        with longest_windows(), timed(long):
            second = recognizer.transcribe([Piece(clip.samples, options)])[0]
        texts.append((clip.text, first.text, second.text))
    for reference, first_text, second_text in texts:
        short.add(reference, first_text)
        long.add(reference, second_text)
    short.audio_s = long.audio_s = sum(len(clip.samples) for clip in clips) / RATE
    board.add(f"{name}: 30 s windows: words wrong; CPU-s a second", "", str(long))
    board.add("  shortest windows", f"<= {long.wer + 0.003:.4f}", str(short), short.wer <= long.wer + 0.003)
    ratio = short.cpu_s / long.cpu_s
    board.add("  CPU over 30 s windows", "<= 0.5", f"{ratio:.2f}", ratio <= 0.5)


def compare_joined(
    recognizer: WhisperRecognizer, folder: Path, clips: Sequence[Recording], board: Board, rounds: int
) -> None:
    """The clips joined: packed, each segment alone, 30 s windows, and faster-whisper with its own VAD filter."""
    from faster_whisper import WhisperModel

    audio = joined(clips)
    peer = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    packed, alone, long, theirs, timed_theirs = (score() for _ in range(5))
    for one in (packed, alone, long, theirs, timed_theirs):
        one.audio_s = rounds * len(audio.samples) / RATE
    again = 0.0
    for number in range(rounds):
        with timed(packed):
            spans = segments(audio.samples)
            pieces = [audio.samples[start:end] for start, end in spans]
            found = transcribe(recognizer, pieces, "session")
        with timed(theirs):
            heard, _ = peer.transcribe(audio.samples, language="en", beam_size=1, vad_filter=True)
            text = " ".join(segment.text for segment in heard)
        with timed(timed_theirs):
            heard, _ = peer.transcribe(audio.samples, language="en", beam_size=1, vad_filter=True, word_timestamps=True)
            list(heard)
        with timed(alone):
            single = transcribe(recognizer, pieces, "")
        if number:
            continue
        with longest_windows(), timed(long):
            longest = transcribe(recognizer, pieces, "")
        long.audio_s /= rounds
        for transcripts, into in ((found, packed), (single, alone), (longest, long)):
            of_clips(spans, [one.text for one in transcripts], audio, into)
        theirs.add(" ".join(clip.text for clip in audio.clips), text)
        whole = score()
        whole.add(" ".join(clip.text for clip in audio.clips), " ".join(one.text for one in found))
        again = sum(one.facts.get("again", 0) > 0 for one in found) / max(len(found), 1)
    seconds = len(audio.samples) / RATE
    board.add(f"{len(audio.clips)} clips joined ({seconds:.0f} s), segments in 30 s windows", "", str(long))
    limit = long.wer + 0.003
    board.add("  each segment alone, shortest windows", f"<= {limit:.4f}", str(alone), alone.wer <= limit)
    board.add("  several in a window (with VAD)", f"<= {limit:.4f}", str(packed), packed.wer <= limit)
    board.add("  segments that were decoded again", "", f"{again:.1%}")
    board.add("  faster-whisper, vad_filter, beam 1: of the whole text", "", str(theirs))
    board.add("  ours, of the whole text", f"<= {theirs.wer:.4f}", f"{whole.wer:.4f}", whole.wer <= theirs.wer)
    ratio = packed.cpu_s / theirs.cpu_s
    with_words = packed.cpu_s / timed_theirs.cpu_s
    board.add(
        "  CPU over faster-whisper's; over it with word times", "<= 0.9", f"{ratio:.2f}; {with_words:.2f}", ratio <= 0.9
    )


def compare_times(recognizer: WhisperRecognizer, folder: Path, clips: Sequence[Recording], board: Board) -> None:
    """Starts of words, against 30 s windows and against faster-whisper's word times."""
    from faster_whisper import WhisperModel

    peer = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    own: dict[str, list[float]] = {"30 s windows": [], "faster-whisper": [], "faster-whisper, without first words": []}
    pieces = [clip.samples for clip in clips]
    found = transcribe(recognizer, pieces, "session")
    with longest_windows():
        longest = transcribe(recognizer, pieces, "")
    for clip, mine, long in zip(clips, found, longest, strict=True):
        words = [(word.text, word.start_s) for word in mine.words]
        own["30 s windows"] += differences(words, [(word.text, word.start_s) for word in long.words])
        heard, _ = peer.transcribe(clip.samples, language="en", beam_size=1, word_timestamps=True)
        theirs = [(word.word.strip(), word.start) for segment in heard for word in segment.words or ()]
        own["faster-whisper"] += differences(words, theirs)
        own["faster-whisper, without first words"] += differences(words[1:], theirs[1:])
    for name, values in own.items():
        middle, most = (1000 * np.quantile(values, (0.5, 0.95))).tolist()
        asked = "<= 40, 150 ms" if name == "30 s windows" else ""
        good = middle <= 40 and most <= 150 if asked else None
        board.add(
            f"starts of {len(values)} words against {name}: median, p95", asked, f"{middle:.0f}, {most:.0f} ms", good
        )


def differences(first: Sequence[tuple[str, float]], second: Sequence[tuple[str, float]]) -> list[float]:
    """Return by how many seconds the starts of the words differ that both have."""
    mine, theirs = (["".join(filter(str.isalnum, text.lower())) for text, _ in words] for words in (first, second))
    blocks = difflib.SequenceMatcher(None, mine, theirs, autojunk=False).get_matching_blocks()
    return [
        abs(first[block.a + number][1] - second[block.b + number][1])
        for block in blocks
        for number in range(block.size)
    ]


def over_non_speech(recognizer: WhisperRecognizer, minutes: float, board: Board) -> None:
    """What is written where nobody speaks: by the recognizer alone, and behind the VAD."""
    stretches = non_speech(minutes)
    found = transcribe(recognizer, [samples for _, samples in stretches], "")
    words = [one for one in found if one.text]
    board.add(
        f"{minutes:g} minutes without speech, no VAD: words; texts",
        "",
        f"{sum(len(one.text.split()) for one in words)}; {len(words)}",
    )
    for (name, samples), one in zip(stretches, found, strict=True):
        if one.text:
            print(f"  {name}, {len(samples) / RATE:.1f} s: {one.text!r}", file=sys.stderr)
    audio = np.concatenate([np.concatenate([samples, np.zeros(RATE, np.float32)]) for _, samples in stretches])
    spans = segments(audio)
    behind = transcribe(recognizer, [audio[start:end] for start, end in spans], "session")
    count = sum(len(one.text.split()) for one in behind)
    board.add(f"  behind the VAD ({len(spans)} segments): words", "0", str(count), count == 0)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifests", nargs="*", type=Path, help="further clips with texts")
    parser.add_argument("--weights", type=Path, default=Settings().own_models_dir / "asr/files/whisper-tiny-en-1.0.0")
    parser.add_argument("--only", choices=("single", "joined", "times", "non-speech"), action="append")
    parser.add_argument("--limit", type=int, help="clips at most, of each kind")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=20.0)
    add_record(parser)
    given = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
    wanted = given.only or ["single", "joined", "times", "non-speech"]
    recognizer = WhisperRecognizer({"model": given.weights / "model.bin"}, language="en")
    recognizer.transcribe([Piece(np.random.default_rng(0).normal(0, 0.01, RATE).astype(np.float32))])
    sets = {"read clips": read_speech(), "further clips": more(given.manifests)}
    every = [clip for clips in sets.values() for clip in clips if len(clip.samples) <= 29 * RATE]
    board = Board("Whisper tiny.en, int8, one thread")
    for name, clips in sets.items():
        if "single" in wanted and clips:
            compare_single(recognizer, clips[: given.limit], board, f"{len(clips[: given.limit])} {name}")
    if "joined" in wanted:
        compare_joined(recognizer, given.weights, every[: given.limit], board, given.rounds)
    if "times" in wanted:
        compare_times(recognizer, given.weights, every[: given.limit], board)
    if "non-speech" in wanted:
        over_non_speech(recognizer, given.minutes, board)
    board.show()


if __name__ == "__main__":
    main()
