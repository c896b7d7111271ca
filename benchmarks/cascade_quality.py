"""Figure 1: what VAD costs and saves. `python benchmarks/cascade_quality.py`

Every comparison is with the recognizer alone on the same samples: on whole clips, on the true spans of the clips
inside long non-speech, and on everything.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from measure import BUNDLE, RATE, TUNED, BareDecoder, Board, Recording, measured, noises, read_speech, wer

from speechpipe.app import compose
from speechpipe.config import Settings
from speechpipe.serving.service import Service
from speechpipe.serving.transcription.transcriber import Result, Transcription, TranscriptionRequest
from speechpipe.types import Samples

CLIPS_PER_FILE = 6
NON_SPEECH = 0.6
SNR_DB = 20.0
SLACK_S = 0.5  # a word may reach so far out of its span: padding, and the recognizer's own idea of word ends


@dataclass(frozen=True)
class LongFile:
    """Clips in non-speech; spans in samples."""

    samples: Samples
    spans: list[tuple[int, int]]
    texts: list[str]

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def set_into_non_speech(clips: list[Recording], seed: int) -> list[LongFile]:
    """Put clips into digital silence so that NON_SPEECH of each file is none of them."""
    random = np.random.default_rng(seed)
    files = []
    for first in range(0, len(clips), CLIPS_PER_FILE):
        group = clips[first : first + CLIPS_PER_FILE]
        speech = sum(len(clip.samples) for clip in group)
        silence = speech * NON_SPEECH / (1 - NON_SPEECH)
        shares = random.dirichlet(np.full(len(group) + 1, 4.0))
        gaps = np.maximum(shares * silence, RATE).astype(int)
        pieces, spans, at = [], [], 0
        for gap, clip in zip(gaps, group, strict=False):
            pieces += [np.zeros(gap, np.float32), clip.samples]
            spans.append((at + gap, at + gap + len(clip.samples)))
            at = spans[-1][1]
        pieces.append(np.zeros(gaps[-1], np.float32))
        files.append(LongFile(np.concatenate(pieces), spans, [clip.text for clip in group]))
    return files


def with_noise(file: LongFile, noise: Samples) -> LongFile:
    """Let noise run through the whole file, SNR_DB below the mean level of its speech."""
    speech = np.concatenate([file.samples[start:end] for start, end in file.spans])
    repeated = np.resize(noise, len(file.samples))
    scale = np.sqrt(np.mean(speech**2) / np.mean(repeated**2)) * 10 ** (-SNR_DB / 20)
    return LongFile(np.clip(file.samples + scale * repeated, -1, 1).astype(np.float32), file.spans, file.texts)


def cascade(service: Service, samples: Samples) -> Result:
    """Transcribe samples as an upload."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audio.flac"
        soundfile.write(path, samples, RATE)
        with path.open("rb") as file:
            transcription = Transcription(service, file, TranscriptionRequest(service.engine.champion))
            for _ in transcription.run():
                pass
            return transcription.result


def stray_words(result: Result, spans: list[tuple[int, int]]) -> list[str]:
    """Words that lie outside every true span."""
    bounds = [(start / RATE - SLACK_S, end / RATE + SLACK_S) for start, end in spans]
    return [
        word.text
        for _, utterance in result.utterances
        for word in utterance.transcript.words
        if not any(start <= (word.start_s + word.end_s) / 2 <= end for start, end in bounds)
    ]


def on_spans(decoder: BareDecoder, files: list[LongFile]) -> float:
    """WER of the recognizer given the true spans."""
    texts = [" ".join(decoder.text(file.samples[start:end]) for start, end in file.spans) for file in files]
    return wer([(file.text, text) for file, text in zip(files, texts, strict=True)])


def on_everything(decoder: BareDecoder, files: list[LongFile]) -> float:
    """CPU seconds of decoding all samples."""
    with measured() as cost:
        for file in files:
            decoder.text(file.samples)
    return cost.cpu_s


def compare(board: Board, service: Service, name: str, files: list[LongFile]) -> None:
    """One condition: the cascade against true spans (WER) and against decoding everything (CPU)."""
    raw = BareDecoder()
    everything = on_everything(raw, files)
    with measured() as ours:
        results = [cascade(service, file.samples) for file in files]
    true_spans = on_spans(raw, files)
    real = wer([(file.text, result.text) for file, result in zip(files, results, strict=True)])
    ratio = ours.cpu_s / everything
    stray = [word for file, result in zip(files, results, strict=True) for word in stray_words(result, file.spans)]
    limit = true_spans + 0.02
    board.add(
        f"{name}: WER (recognizer on true spans: {true_spans:.3f})", f"<= {limit:.3f}", f"{real:.3f}", real <= limit
    )
    board.add(f"{name}: CPU over decoding everything", "<= 0.6", f"{ratio:.2f}", ratio <= 0.6)
    board.add(f"{name}: words out of non-speech", "0", f"{len(stray)} {' '.join(stray[:5])}", not stray)


def compare_with_itself(board: Board, service: Service, name: str, files: list[LongFile]) -> None:
    """The same against the very decoder settings of the bundle: what is left is VAD's alone."""
    same = BareDecoder(**BUNDLE)
    everything = on_everything(same, files)
    with measured() as ours:
        for file in files:
            cascade(service, file.samples)
    board.add(f"{name}: WER on true spans, the bundle's own decoder settings", "", f"{on_spans(same, files):.3f}")
    board.add(f"{name}: CPU over decoding everything, those settings", "", f"{ours.cpu_s / everything:.2f}")


def main() -> None:
    """Print the table."""
    clips = read_speech()
    board = Board(f"Cascade quality: {len(clips)} read clips (few: differences count, not levels)")
    default, raw, same = (BareDecoder(**options) for options in ({"loglevel": "FATAL"}, TUNED, BUNDLE))
    rates = [wer([(clip.text, decoder.text(clip.samples)) for clip in clips]) for decoder in (default, raw, same)]
    with compose(Settings(bundle="embedded", workers=1)) as service:
        whole = wer([(clip.text, cascade(service, clip.samples).text) for clip in clips])
        names = ("its defaults", "tuned by hand", "the bundle's settings")
        for name, value in zip(names, rates, strict=True):
            board.add(f"whole clips: WER, bare PocketSphinx, {name}", "", f"{value:.3f}")
        limit = min(rates) + 0.01
        board.add("whole clips: WER, cascade", f"<= {limit:.3f}", f"{whole:.3f}", whole <= limit)
        silent = set_into_non_speech(clips, seed=1)
        compare(board, service, "(a) 60 % digital silence", silent)
        compare_with_itself(board, service, "(a) 60 % digital silence", silent)
        for name, noise in noises().items():
            noisy = [with_noise(file, noise) for file in silent]
            compare(board, service, f"(b) 60 % {name} at 20 dB", noisy)
            if name == "white":
                compare_with_itself(board, service, f"(b) 60 % {name} at 20 dB", noisy)
    board.show()


if __name__ == "__main__":
    main()
