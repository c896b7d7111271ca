"""torchaudio's streaming recognizer: Emformer RNN-T (Shi et al., 2021), EMFORMER_RNNT_BASE_LIBRISPEECH.

It decodes steps of 160 ms with 40 ms of look-ahead. A partial result is its best hypothesis. Needs the extra
`emformer`.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentencepiece import SentencePieceProcessor

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.asr.torchaudio_import import torchaudio
from speechpipe.errors import BadInput
from speechpipe.types import SAMPLE_RATE_HZ, NullCause, Samples, Transcript, Word

HOP = 160
SEGMENT_FRAMES, AHEAD_FRAMES = 16, 4
STEP, HEARD = SEGMENT_FRAMES * HOP, (SEGMENT_FRAMES + AHEAD_FRAMES) * HOP
"""Samples from one step to the next, and samples used in one step."""

MOST_TOKENS = 10
"""Most tokens in one step of the encoder (40 ms); more would be a decoding loop."""

GAIN = 32767.0**2
"""Power factor from samples in [-1, 1] to the 16-bit samples that the model was trained with."""

BOUNDARY = "\u2581"
"""SentencePiece's mark at the beginning of a word."""

Tokens = tuple[int, ...]


class EmformerRecognizer:
    """Files: `weights` (a state dict), `stats` (JSON: `mean`, `invstddev` of the features), `tokens` (a SentencePiece
    model) and, for a model of another shape, `config` (JSON: arguments of `torchaudio.models.emformer_rnnt_model`).
    """

    def __init__(self, files: Mapping[str, Path], beam: int = 4, threads: int = 1) -> None:
        """Load the model.

        Raises:
            BadInput: a file is broken.
            OSError: one is missing.
        """
        torch.set_num_threads(int(threads))
        self.beam = int(beam)
        try:
            stats = json.loads(files["stats"].read_text(encoding="utf-8"))
            self._mean, self._scale = torch.tensor(stats["mean"]), torch.tensor(stats["invstddev"])
            self.tokens = SentencePieceProcessor(model_file=str(files["tokens"]))
            self.blank = self.tokens.get_piece_size()
            if "config" in files:
                model = torchaudio.models.emformer_rnnt_model(**json.loads(files["config"].read_text(encoding="utf-8")))
            else:
                model = torchaudio.models.emformer_rnnt_base(num_symbols=self.blank + 1)
            model.load_state_dict(torch.load(files["weights"], map_location="cpu", weights_only=True))
        except (RuntimeError, KeyError, TypeError, EOFError, ValueError) as error:
            message = f"the files are not those of an Emformer: {str(error).splitlines()[0]}"
            raise BadInput(message, cause="weights_broken") from error
        self.search = torchaudio.models.RNNTBeamSearch(model.eval(), self.blank, step_max_tokens=MOST_TOKENS)
        self._mel = torchaudio.transforms.MelSpectrogram(
            SAMPLE_RATE_HZ, n_fft=400, n_mels=len(self._mean), hop_length=HOP
        )

    def open(self, options: DecodeOptions) -> "EmformerStream":
        """Begin a segment."""
        del options
        return EmformerStream(self)

    def features(self, samples: Samples) -> torch.Tensor:
        """Return normalised (frames, mels) features of (n,) samples; power is logarithmic above e, linear below."""
        spectrum = self._mel(torch.from_numpy(samples)).T * GAIN
        curved = torch.where(spectrum > math.e, spectrum.clamp(min=1e-10).log(), spectrum / math.e)
        return (curved - self._mean) * self._scale


class EmformerStream:
    """One segment."""

    def __init__(self, recognizer: EmformerRecognizer) -> None:
        self._recognizer = recognizer
        self._held: Samples = np.zeros(0, np.float32)
        self._heard = 0
        self._state: Any = None
        self._hypotheses: Any = None
        self._steps: list[Tokens] = []  # the best hypothesis after each

    def feed(self, samples: Samples) -> None:
        """Take (n,) samples; decode all complete steps."""
        self._heard += len(samples)
        held = np.concatenate([self._held, samples])
        while len(held) >= HEARD:
            self._step(held[:HEARD])
            held = held[STEP:]
        self._held = held

    @torch.inference_mode()
    def _step(self, samples: Samples) -> None:
        one = self._recognizer
        features = one.features(samples)[: SEGMENT_FRAMES + AHEAD_FRAMES]
        length = torch.tensor([len(features)])
        self._hypotheses, self._state = one.search.infer(
            features, length, one.beam, state=self._state, hypothesis=self._hypotheses
        )
        self._steps.append(tuple(self._hypotheses[0][0][1:]))  # without the blank at the beginning

    def partial(self) -> str:
        """Return the best hypothesis."""
        return " ".join(text for text, _, _ in self._spelled(self._steps[-1] if self._steps else ()))

    def finish(self) -> Transcript:
        """Decode the rest, padded with silence, and return the best hypothesis."""
        while len(self._held) and self._heard >= HOP:
            self._step(np.pad(self._held[:HEARD], (0, max(0, HEARD - len(self._held)))))
            self._held = self._held[STEP:]
        if not self._steps or not (words := self._spelled(self._steps[-1])):
            return Transcript.null(NullCause.EMPTY)
        tokens, score = self._steps[-1], float(self._hypotheses[0][3])
        confidence = math.exp(min(0.0, score / len(tokens)))
        found = tuple(self._word(*word) for word in words)
        return Transcript(" ".join(word.text for word in found), found, confidence)

    def _word(self, text: str, first: int, last: int) -> Word:
        """Place a word from the step in which its first token became stable to that of its last token."""
        tokens = self._steps[-1]
        start, end = (
            next(step for step, seen in enumerate(self._steps) if seen[: place + 1] == tokens[: place + 1])
            for place in (first, last)
        )
        length_s = self._heard / SAMPLE_RATE_HZ
        start_s, end_s = (min(step * STEP / SAMPLE_RATE_HZ, length_s) for step in (start, end + 1))
        return Word(text, min(start_s, end_s), end_s, None)

    def _spelled(self, tokens: Tokens) -> list[tuple[str, int, int]]:
        """Return (word, index of its first token, index of its last token)."""
        spm = self._recognizer.tokens
        ignored = {spm.unk_id(), spm.bos_id(), spm.eos_id(), spm.pad_id()}
        words: list[tuple[str, int, int]] = []
        for place, token in enumerate(tokens):
            if token in ignored:
                continue
            piece = spm.id_to_piece(token)
            if piece.startswith(BOUNDARY) or not words:
                words.append((piece.lstrip(BOUNDARY), place, place))
            else:
                words[-1] = (words[-1][0] + piece, words[-1][1], place)
        return [(text.lower(), first, last) for text, first, last in words if text]

    def context(self) -> str:
        """Return an empty text: segments are independent."""
        return ""

    def cancel(self) -> None:
        """Drop the segment."""
        self._held = np.zeros(0, np.float32)
        self._steps.clear()
