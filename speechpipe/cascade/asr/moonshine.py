"""Moonshine (Jeffries et al., 2024) by Hugging Face's transformers, the extra `moonshine`.

The model gives no word times; words are placed by dynamic time warping of its cross-attention, as for Whisper. It is
guarded against text on silence as Whisper is. Not verified with released weights: no model hub was reachable where this
was written.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

# Must come before transformers, which imports torchaudio itself and fails if that fails.
import speechpipe.cascade.asr.torchaudio_import  # noqa: F401  # isort: skip
from transformers import AutoTokenizer, MoonshineForConditionalGeneration

from speechpipe.cascade.asr import BufferedStream, DecodeOptions, transcript_of
from speechpipe.cascade.asr.acoustic import guards
from speechpipe.types import SAMPLE_RATE_HZ, NullCause, Samples, Transcript, Word

LEAST_SAMPLES = 1024
"""Least samples for which its convolutions give a frame."""

TOKENS_S = 6.5
"""Most tokens per second of audio, the authors' limit; more would be a decoding loop."""

Matrix = npt.NDArray[np.float64]


class MoonshineRecognizer:
    """Files: `model` (`model.safetensors`), with configuration and tokenizer in the same folder."""

    def __init__(self, files: Mapping[str, Path], threads: int = 1) -> None:
        """Load the model.

        Raises:
            OSError: a file is missing or broken.
        """
        torch.set_num_threads(int(threads))
        folder = str(files["model"].parent)
        files["model"].stat()
        made: Any = MoonshineForConditionalGeneration
        self._model = made.from_pretrained(folder, local_files_only=True, attn_implementation="eager").eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def open(self, options: DecodeOptions) -> "MoonshineStream":
        """Begin a segment."""
        del options
        return MoonshineStream(self)

    @torch.inference_mode()
    def decode(self, samples: Samples) -> Transcript:
        """Return the transcript of (n,) samples."""
        if len(samples) < LEAST_SAMPLES or guards.silent(samples):
            return Transcript.null(NullCause.EMPTY, "silence")
        most = max(2, round(TOKENS_S * len(samples) / SAMPLE_RATE_HZ))
        found = self._model.generate(
            input_values=torch.from_numpy(samples)[None],
            max_new_tokens=most,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            output_attentions=True,
        )
        tokens = found.sequences[0, 1:].tolist()  # without the start token
        chances = [
            float(scores[0].log_softmax(-1)[token].exp()) for scores, token in zip(found.scores, tokens, strict=False)
        ]
        attention = _mean_attention(found.cross_attentions)
        words = self._words(tokens, chances, attention, len(samples) / SAMPLE_RATE_HZ)
        text = " ".join(word.text for word in words)
        if text and (why := guards.objection(text, len(samples))):
            return Transcript.null(NullCause.EMPTY, f"rejected as hallucination {text[:40]!r}: {why}")
        return transcript_of(words)

    def _words(self, tokens: list[int], chances: list[float], attention: Matrix, length_s: float) -> list[Word]:
        ends = set(self._tokenizer.all_special_ids)
        kept = [place for place, token in enumerate(tokens[: len(attention)]) if token not in ends]
        if not kept:
            return []
        frames = warp(attention[kept])
        frame_s = length_s / attention.shape[1]
        words: list[Word] = []
        previous, group = "", list[int]()
        for index in range(len(kept)):
            text = self._text(tokens, kept[: index + 1])
            piece, previous = text[len(previous) :], text
            if piece.startswith(" ") and group:
                words.append(self._word(tokens, [kept[one] for one in group], chances, _span(frames, group, frame_s)))
                group = []
            group.append(index)
        words.append(self._word(tokens, [kept[one] for one in group], chances, _span(frames, group, frame_s)))
        return [word for word in words if word.text]

    def _text(self, tokens: list[int], places: list[int]) -> str:
        return str(self._tokenizer.decode([tokens[place] for place in places]))

    def _word(self, tokens: list[int], places: list[int], chances: list[float], span_s: tuple[float, float]) -> Word:
        confidence = float(np.exp(np.mean([np.log(max(chances[place], 1e-9)) for place in places])))
        return Word(self._text(tokens, places).strip(), *span_s, min(1.0, confidence))


def _span(frames: list[tuple[int, int]], group: list[int], frame_s: float) -> tuple[float, float]:
    return frames[group[0]][0] * frame_s, (frames[group[-1]][1] + 1) * frame_s


class MoonshineStream(BufferedStream):
    """One segment."""

    def __init__(self, recognizer: MoonshineRecognizer) -> None:
        super().__init__()
        self._recognizer = recognizer

    def decode(self, samples: Samples) -> Transcript:
        """Return the transcript of (n,) samples."""
        return self._recognizer.decode(samples)


def _mean_attention(attentions: Any) -> Matrix:
    """Return the (tokens, frames) cross-attention, averaged over layers and heads."""
    steps = [
        torch.stack([layer[0, :, -1, :] for layer in step]).mean(dim=(0, 1)).double().numpy() for step in attentions
    ]
    return np.stack(steps)


def warp(weights: Matrix) -> list[tuple[int, int]]:
    """Return the first and last frame of each token on the best monotone path through (tokens, frames) weights."""
    tokens, frames = weights.shape
    cost = -np.log(np.maximum(weights, 1e-9))
    total = np.full((tokens, frames), np.inf)
    total[0] = np.cumsum(cost[0])
    stayed = np.ones((tokens, frames), bool)
    for token in range(1, tokens):
        for frame in range(frames):
            stay = total[token, frame - 1] if frame else np.inf
            step = total[token - 1, frame - 1] if frame else total[token - 1, 0]
            stayed[token, frame] = stay < step
            total[token, frame] = cost[token, frame] + min(stay, step)
    spans = [[frames, -1] for _ in range(tokens)]
    token, frame = tokens - 1, frames - 1
    while frame >= 0:
        spans[token] = [min(spans[token][0], frame), max(spans[token][1], frame)]
        if token and not stayed[token, frame]:
            token -= 1
        if frame == 0 and token:  # more tokens than frames: the remaining tokens get the first frame
            spans[token - 1] = [0, 0]
            token -= 1
            continue
        frame -= 1
    return [(min(first, max(last, 0)), max(last, 0)) for first, last in spans]
