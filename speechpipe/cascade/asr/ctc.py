"""A small convolutional CTC recognizer on torch, trained with `speechpipe train ctc`.

It decodes complete segments, because its features are relative to the loudest band of the segment. A partial result
decodes the audio so far, which takes about a hundredth of the audio's duration.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from speechpipe.cascade.asr import BufferedStream, DecodeOptions, transcript_of
from speechpipe.cascade.asr.acoustic.lattice import Lexicon, LogProbs, Spelled, best_path
from speechpipe.cascade.asr.acoustic.network import SUBSAMPLING
from speechpipe.cascade.asr.acoustic.weights import load
from speechpipe.errors import BadInput
from speechpipe.types import SAMPLE_RATE_HZ, Samples, Transcript, Word

LEAST_SAMPLES = SAMPLE_RATE_HZ // 100


class CtcRecognizer:
    """Files: `weights` (safetensors) and optionally `lexicon` (one word per line) to restrict the vocabulary."""

    def __init__(self, files: Mapping[str, Path], device: str = "auto", threads: int = 1) -> None:
        """Load the network; `device` is `cpu`, `cuda`, or `auto` (CUDA if available).

        Raises:
            BadInput: the weights or the lexicon are invalid, or `device` is unknown.
            OSError: a file is missing.
        """
        if device not in ("auto", "cpu", "cuda"):
            raise BadInput(f"device must be auto, cpu or cuda, not {device!r}")
        torch.set_num_threads(int(threads))  # several worker processes share the cores
        self._device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self._network = load(files["weights"]).to(self._device)
        config = self._network.config
        self._alphabet = config.alphabet
        self._frame_s = SUBSAMPLING * config.hop / SAMPLE_RATE_HZ
        self._lexicon = Lexicon(read_lexicon(files["lexicon"]), config.alphabet) if "lexicon" in files else None

    def open(self, options: DecodeOptions) -> "CtcStream":
        """Begin a segment."""
        del options
        return CtcStream(self)

    def transcribe(self, segments: Sequence[Samples]) -> list[Transcript]:
        """Return the transcripts of (n,) segments, decoded as one batch; the result does not depend on the batch."""
        found = [transcript_of(())] * len(segments)
        decoded = [index for index, samples in enumerate(segments) if len(samples) >= LEAST_SAMPLES]
        for index, log_probs in zip(decoded, self._log_probs([segments[index] for index in decoded]), strict=True):
            length_s = len(segments[index]) / SAMPLE_RATE_HZ
            found[index] = transcript_of([self._word(spelled, length_s) for spelled in self._spell(log_probs)])
        return found

    @torch.inference_mode()
    def _log_probs(self, segments: Sequence[Samples]) -> list[LogProbs]:
        if not segments:
            return []
        samples = torch.zeros(len(segments), max(map(len, segments)))
        for row, segment in zip(samples, segments, strict=True):
            row[: len(segment)] = torch.from_numpy(np.ascontiguousarray(segment))
        lengths = torch.tensor([len(segment) for segment in segments], device=self._device)
        found, frames = self._network(samples.to(self._device), lengths)
        return [row[:count] for row, count in zip(found.cpu().numpy(), frames.tolist(), strict=True)]

    def _spell(self, log_probs: LogProbs) -> list[Spelled]:
        if self._lexicon is not None:
            return self._lexicon.decode(log_probs)
        return best_path(log_probs, self._alphabet)

    def _word(self, spelled: Spelled, length_s: float) -> Word:
        start_s, end_s = (min(frame * self._frame_s, length_s) for frame in (spelled.start, spelled.end))
        return Word(spelled.text, start_s, end_s, spelled.confidence)


class CtcStream(BufferedStream):
    """One segment."""

    def __init__(self, recognizer: CtcRecognizer) -> None:
        super().__init__()
        self._recognizer = recognizer

    def decode(self, samples: Samples) -> Transcript:
        """Return the transcript of (n,) samples."""
        return self._recognizer.transcribe([samples])[0]


def read_lexicon(path: Path) -> list[str]:
    """Return the words of a lexicon file.

    Raises:
        BadInput: it is not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8").split()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: {error}") from error
