"""The model, run by CTranslate2 (https://github.com/OpenNMT/CTranslate2): encode, generate, align.

Windows are encoded one after the other and decoded several at once. On a CPU a batch makes the encoder slower, because
its activations no longer fit into the cache, and the decoder faster, because it reads its weights once for all.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ctranslate2
import numpy as np
import numpy.typing as npt

from speechpipe.cascade.asr.whisper.features import Frames

FRAME_S = 0.02
"""Seconds of one frame of the encoder's output."""

MOST_TOKENS = 448
"""Positions of the decoder. CTranslate2 leaves half of them to the text."""

LOOK_S = 0.004

AT_ONCE = 2
"""Threads of the library: a window that was begun needs not be waited for. They share the weights."""

Encoded = npt.NDArray[np.float32]
"""The encoder's output for one window, (frames, width)."""


class Guess(NamedTuple):
    """What the decoder wrote for one window.

    `log_prob` is the mean natural logarithm of its tokens' probabilities. `no_speech` is the probability of the token
    that means so.
    """

    tokens: list[int]
    log_prob: float
    no_speech: float


class Placed(NamedTuple):
    """Where the tokens of a text lie: the start of each in seconds and the end of the last, and their probabilities."""

    starts_s: list[float]
    probabilities: list[float]


class Writing:
    """The text of one window that is being written, on a thread of the library."""

    def __init__(self, found: Any) -> None:
        self._found = found

    @property
    def guess(self) -> Guess | None:
        """The text; None while it is being written.

        Raises:
            RuntimeError: the library failed.
        """
        return _guess(self._found.result()) if self._found.done() else None


class Model:
    """A loaded model. Used by one thread at a time, also while a window is written that `begin` has begun."""

    def __init__(self, folder: Path, *, device: str, compute_type: str, threads: int, beam: int) -> None:
        """Load `model.bin` and `config.json`.

        Raises:
            ValueError, RuntimeError: they are not a Whisper, or the device does not support the compute type.
        """
        self._model: Any = ctranslate2.models.Whisper(
            str(folder), device=device, compute_type=compute_type, intra_threads=threads, inter_threads=AT_ONCE
        )
        self._beam = beam
        self.bands = int(self._model.n_mels)
        self.multilingual = bool(self._model.is_multilingual)

    def encode(self, window: Frames) -> Encoded:
        """Encode one (bands, frames) window."""
        given = ctranslate2.StorageView.from_array(np.ascontiguousarray(window[None]))
        found: Encoded = np.array(self._model.encode(given, to_cpu=True), np.float32)[0]
        return found

    def generate(
        self,
        windows: Sequence[Encoded],
        prompt: Sequence[int],
        most: int,
        beam: int = 1,
        look: Callable[[], object] | None = None,
    ) -> list[Guess]:
        """Return the text of each window, of at most `most` tokens. The windows have the same length.

        Args:
            windows: what `encode` returned.
            prompt: the tokens before each text.
            most: see above.
            beam: the beams that are used if the model was loaded with fewer.
            look: called every few milliseconds until the texts are there.
        """
        options = self._options(prompt, most, beam)
        prompts = [list(prompt)] * len(windows)
        if look is None:
            return list(map(_guess, self._model.generate(_batch(windows), prompts, **options)))
        found = self._model.generate(_batch(windows), prompts, asynchronous=True, **options)
        while not all(one.done() for one in found):
            look()
            time.sleep(LOOK_S)
        return [_guess(one.result()) for one in found]

    def begin(self, window: Frames, prompt: Sequence[int], most: int) -> Writing:
        """Begin to encode one (bands, frames) window and to write its text, of at most `most` tokens; return at once.

        The arguments are as in `generate`.
        """
        given = ctranslate2.StorageView.from_array(np.ascontiguousarray(window[None]))
        return Writing(self._model.generate(given, [list(prompt)], asynchronous=True, **self._options(prompt, most))[0])

    def _options(self, prompt: Sequence[int], most: int, beam: int = 1) -> dict[str, Any]:
        return {
            "beam_size": max(self._beam, beam),
            # CTranslate2 lets a text have half of this length, and all that the prompt leaves of it.
            "max_length": min(max(2 * most, len(prompt) + most), MOST_TOKENS),
            "return_scores": True,
            "return_no_speech_prob": True,
        }

    def align(
        self, windows: Sequence[Encoded], start: Sequence[int], texts: Sequence[Sequence[int]], frames: Sequence[int]
    ) -> list[Placed]:
        """Place the tokens of each text in its window by cross-attention. A window's audio has `frames` input frames.

        `start`: the tokens before the text, without the last, which says that there are no time stamps.
        """
        found = self._model.align(_batch(windows), list(start), [list(text) for text in texts], list(frames))
        return [_placed(one) for one in found]

    def language(self, window: Encoded) -> tuple[str, float]:
        """Return the code of the most probable language, and its probability. For multilingual models."""
        name, probability = self._model.detect_language(_batch([window]))[0][0]
        return str(name)[2:-2], float(probability)


def _guess(found: Any) -> Guess:
    return Guess(list(found.sequences_ids[0]), float(found.scores[0]), float(found.no_speech_prob))


def _batch(windows: Sequence[Encoded]) -> Any:
    return ctranslate2.StorageView.from_array(np.stack(windows))


def _placed(found: Any) -> Placed:
    """Take the first frame of each token on the path through (tokens, frames); the last row is the end of the text."""
    path = np.array(found.alignments, np.int32).reshape(-1, 2)
    first = np.flatnonzero(np.diff(path[:, 0], prepend=-1))
    return Placed((path[first, 1] * FRAME_S).tolist(), list(found.text_token_probs))
