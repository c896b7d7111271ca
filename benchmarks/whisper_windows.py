"""Whisper in short and shared windows against 30 s windows and against faster-whisper, on the same weights.

`python benchmarks/whisper_windows.py [MANIFEST ...]` compares on the read clips and the clips of manifests: the VAD
with the recognizer against the recognizer alone, single clips and the same clips joined with faint noise between them
(words wrong, CPU seconds for each second of audio), the read clips in non-speech, word times, and what is written over
20 minutes without speech. Texts are compared by Whisper's own normaliser.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from cascade_quality import SLACK_S, LongFile, set_into_non_speech, with_noise
from measure import RATE, Board, Recording, add_record, noises, read_speech
from non_speech import non_speech
from whisper_clips import (
    Score,
    differences,
    joined,
    longest_windows,
    more,
    of_clips,
    score,
    segments,
    timed,
    transcribe,
)

from speechpipe.cascade.asr import DecodeOptions, Piece
from speechpipe.cascade.asr.whisper.recognizer import WhisperRecognizer
from speechpipe.config import Settings
from speechpipe.types import Samples, Transcript

PARTS = ("cascade", "noise", "single", "joined", "times", "non-speech")
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "2000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "HF_HUB_OFFLINE": "1",
}
"""Of a worker. Both sides run in it; faster-whisper in its own would pay for pages that are mapped and unmapped."""


def cascade(recognizer: WhisperRecognizer, samples: Samples) -> tuple[list[tuple[int, int]], list[Transcript]]:
    """Return the segments of the VAD, in samples, and the transcript of each, decoded as those of an upload."""
    spans = segments(samples)
    return spans, transcribe(recognizer, [samples[start:end] for start, end in spans], "session")


def text_of(transcripts: Sequence[Transcript]) -> str:
    """Return all text."""
    return " ".join(one.text for one in transcripts)


def compare_cascade(recognizer: WhisperRecognizer, clips: Sequence[Recording], board: Board) -> None:
    """VAD and recognizer on each clip against the recognizer alone with 30 s windows on the whole clip."""
    ours, bare = score(), score()
    for clip in clips:
        ours.add(clip.text, text_of(cascade(recognizer, clip.samples)[1]))
        with longest_windows():
            bare.add(clip.text, text_of(transcribe(recognizer, [clip.samples], "")))
    limit = min(bare.wer + 0.005, 0.1)
    beside = f"30 s windows without VAD: {bare.wer:.4f}"
    what = f"words wrong on {len(clips)} read clips, with VAD and the shortest windows ({beside})"
    board.add(what, f"<= {limit:.4f}", ours.quality, ours.wer <= limit)


def compare_in_noise(recognizer: WhisperRecognizer, clips: Sequence[Recording], board: Board) -> None:
    """The read clips in files of which 60 % are not speech, silent or with noise running through."""
    silent = set_into_non_speech(list(clips), seed=1)
    files = {"digital silence": silent}
    files |= {name: [with_noise(file, noise) for file in silent] for name, noise in noises().items()}
    for name, some in files.items():
        ours, true = score(), score()
        stray: list[str] = []
        for file in some:
            spans, found = cascade(recognizer, file.samples)
            ours.add(file.text, text_of(found))
            stray += stray_words(file, spans, found)
            with longest_windows():
                true.add(file.text, text_of(transcribe(recognizer, [file.samples[a:b] for a, b in file.spans], "")))
        limit = true.wer + 0.02
        asked = f"<= {limit:.4f}; 0"
        measured = f"{ours.quality}; {len(stray)} {' '.join(stray[:5])}"
        board.add(f"60 % {name}: words wrong on the true spans, 30 s windows", "", true.quality)
        board.add("  with VAD; words out of non-speech", asked, measured, ours.wer <= limit and not stray)


def stray_words(file: LongFile, spans: Sequence[tuple[int, int]], found: Sequence[Transcript]) -> list[str]:
    """Return the words that lie outside of all true spans."""
    bounds = [(first / RATE - SLACK_S, last / RATE + SLACK_S) for first, last in file.spans]
    return [
        word.text
        for (start, _), one in zip(spans, found, strict=True)
        for word in one.words
        if not any(first <= start / RATE + (word.start_s + word.end_s) / 2 <= last for first, last in bounds)
    ]


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


class Peer:
    """faster-whisper with the same weights: its own pipeline with VAD filter, or the batched one."""

    def __init__(self, folder: Path, *, batch: int = 0, words: bool = False) -> None:
        from faster_whisper import BatchedInferencePipeline, WhisperModel

        model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
        self._options = {"language": "en", "beam_size": 1, "vad_filter": True, "word_timestamps": words}
        self._options |= {"batch_size": batch} if batch else {}
        self._transcribe = BatchedInferencePipeline(model).transcribe if batch else model.transcribe

    def text(self, samples: Samples) -> str:
        """Return the text of a recording."""
        heard, _ = self._transcribe(samples, **self._options)
        return " ".join(segment.text for segment in heard)


def compare_joined(
    recognizer: WhisperRecognizer, folder: Path, clips: Sequence[Recording], board: Board, rounds: int
) -> None:
    """The clips joined: packed, each segment alone, 30 s windows, and faster-whisper's two pipelines.

    Each round joins them in another order: which words a recognizer misses depends on where its windows begin.
    """
    peers = {
        "its pipeline with VAD filter": Peer(folder),
        "the same with word times": Peer(folder, words=True),
        "its batched pipeline, 8": Peer(folder, batch=8),
        "its batched pipeline, 16": Peer(folder, batch=16),
    }
    scores = {name: score() for name in ("packed", "alone", "30 s", *peers)}
    whole, again, count = score(), 0, 0
    for number in range(rounds):
        audio = joined(clips, number)
        reference = " ".join(clip.text for clip in audio.clips)
        pieces = [audio.samples[start:end] for start, end in segments(audio.samples)]
        with timed(scores["packed"]):
            spans, packed = cascade(recognizer, audio.samples)
        for name, peer in peers.items():
            with timed(scores[name]):
                text = peer.text(audio.samples)
            scores[name].add(reference, text)
        with timed(scores["alone"]):
            alone = transcribe(recognizer, pieces, "")
        with longest_windows(), timed(scores["30 s"]):
            longest = transcribe(recognizer, pieces, "")
        for transcripts, name in ((packed, "packed"), (alone, "alone"), (longest, "30 s")):
            of_clips(spans, [one.text for one in transcripts], audio, scores[name])
        whole.add(reference, text_of(packed))
        again += sum(one.facts.get("again", 0) > 0 for one in packed)
        count += len(packed)
        for one in scores.values():
            one.audio_s += len(audio.samples) / RATE
    seconds = scores["packed"].audio_s
    board.add(
        f"{len(clips)} clips joined in {rounds} orders ({seconds:.0f} s), segments in 30 s windows",
        "",
        str(scores["30 s"]),
    )
    limit = scores["30 s"].wer + 0.003
    for name, what in (("alone", "each segment alone, shortest windows"), ("packed", "several in a window (with VAD)")):
        board.add(f"  {what}", f"<= {limit:.4f}", str(scores[name]), scores[name].wer <= limit)
    board.add("  segments that were decoded again", "", f"{again / max(count, 1):.1%}")
    report_peers(board, scores, whole, list(peers))


def report_peers(board: Board, scores: dict[str, Score], whole: Score, peers: Sequence[str]) -> None:
    """Compare with faster-whisper: the errors of the whole text, and the CPU."""
    for name in peers:
        board.add(f"  faster-whisper, {name}", "", str(scores[name]))
    plain = scores[peers[0]]
    board.add("  ours, of the whole text", f"<= {plain.wer:.4f}", whole.quality, whole.wer <= plain.wer)
    best = min((name for name in peers if "batched" in name), key=lambda name: scores[name].cpu_s)
    for name, most in ((peers[0], 0.9), (best, 1.5)):
        ratio = scores["packed"].cpu_s / scores[name].cpu_s
        board.add(f"  CPU over {name}", f"<= {most}", f"{ratio:.2f}", ratio <= most)


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


def over_non_speech(recognizer: WhisperRecognizer, minutes: float, board: Board) -> None:
    """What is written where there is no speech: by the recognizer alone, and behind the VAD."""
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
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--limit", type=int, help="clips at most, of each kind")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=20.0)
    add_record(parser)
    given = parser.parse_args()
    if given.record and (given.only or not given.manifests):
        parser.error("what is recorded is all parts in one run, with further clips: see tools/prompts.py")
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
    wanted = given.only or PARTS
    recognizer = WhisperRecognizer({"model": given.weights / "model.bin"}, language="en")
    recognizer.transcribe([Piece(np.random.default_rng(0).normal(0, 0.01, RATE).astype(np.float32))])
    sets = {"read clips": read_speech(), "further clips": more(given.manifests)}
    # Parameters were chosen on the read clips, so the others are taken where there are others.
    unseen = [clip for clip in sets["further clips"] or sets["read clips"] if len(clip.samples) <= 29 * RATE]
    board = Board("Whisper tiny.en, int8, one thread")
    for name, clips in sets.items():
        if "single" in wanted and clips:
            compare_single(recognizer, clips[: given.limit], board, f"{len(clips[: given.limit])} {name}")
    if "cascade" in wanted:
        compare_cascade(recognizer, sets["read clips"], board)
    if "noise" in wanted:
        compare_in_noise(recognizer, sets["read clips"], board)
    if "joined" in wanted:
        compare_joined(recognizer, given.weights, unseen[: given.limit], board, given.rounds)
    if "times" in wanted:
        compare_times(recognizer, given.weights, unseen[: given.limit], board)
    if "non-speech" in wanted:
        over_non_speech(recognizer, given.minutes, board)
    board.show()


if __name__ == "__main__":
    main()
