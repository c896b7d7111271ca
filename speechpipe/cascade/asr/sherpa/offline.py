"""Recognizers that decode a complete segment: transducers, such as NVIDIA's Parakeet, and SenseVoice."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from speechpipe.cascade.asr import BufferedStream, DecodeOptions
from speechpipe.cascade.asr.acoustic import guards
from speechpipe.cascade.asr.sherpa import library, words
from speechpipe.cascade.asr.sherpa.files import metadata, present
from speechpipe.cascade.asr.sherpa.vocabulary import Vocabulary
from speechpipe.errors import BadInput, InvalidParameter
from speechpipe.types import SAMPLE_RATE_HZ, NullCause, Samples, Transcript

LEAST = 6400
"""Samples to which a shorter segment is padded: these models need several frames."""

LANGUAGES = ("auto", "zh", "en", "ja", "ko", "yue")
"""Of SenseVoice."""

NEMO = ("vocab_size", "subsampling_factor", "pred_rnn_layers", "pred_hidden")
SENSE_VOICE = (
    "vocab_size",
    "lfr_window_size",
    "lfr_window_shift",
    "normalize_samples",
    "with_itn",
    "without_itn",
    *(f"lang_{name}" for name in LANGUAGES),
)
"""What the library needs in the metadata of such a model."""


class TransducerRecognizer:
    """Files: `encoder`, `decoder`, `joiner` (ONNX) and `tokens`, as sherpa-onnx's scripts export them from NeMo."""

    def __init__(self, files: Mapping[str, Path], beam: int = 1, boost: float = 1.5, threads: int = 1) -> None:
        """Load the model.

        Args:
            files: see the class.
            beam: 1: greedy search; more: beam search with so many hypotheses, which takes hotwords. Parakeet with a
                beam is reported to lose the text of some segments
                (https://github.com/k2-fsa/sherpa-onnx/issues/3267).
            boost: what a token of a hotword adds to the logarithm of a hypothesis's probability.
            threads: CPU threads.

        Raises:
            BadInput: a file is broken, or is not that of such a model.
            OSError: one is missing.
        """
        given = present(files, "encoder", "decoder", "joiner", "tokens")
        self.vocabulary = Vocabulary.read(given["tokens"])
        count = int(metadata(given["encoder"], *NEMO)["vocab_size"]) + 1  # NeMo does not count the blank
        metadata(given["decoder"])
        metadata(given["joiner"])
        pieces = self.vocabulary.pieces
        if len(pieces) != count or pieces[-1] != "<blk>":
            message = f"tokens.txt has {len(pieces)} tokens, the last is {pieces[-1]!r}; the model has {count}"
            raise BadInput(f"{message}, the last is '<blk>'", cause="weights_broken")
        self.beam = int(beam)
        self._model = library.transducer(
            given, "nemo_transducer", self.vocabulary, beam=self.beam, boost=float(boost), threads=int(threads)
        )

    def open(self, options: DecodeOptions) -> "OfflineStream":
        """Begin a segment. Hotwords that the model cannot write are left out, and all of them if `beam` is 1."""
        hotwords = self.vocabulary.hotwords(options.hotwords) if self.beam > 1 else ""
        return OfflineStream(lambda samples: self._decode(samples, hotwords))

    def _decode(self, samples: Samples, hotwords: str) -> Transcript:
        found = _decoded(self._model, self._model.create_stream(hotwords or None), samples)
        decoded = words.Decoded(found.text, found.tokens, found.timestamps, found.durations, found.ys_log_probs)
        return words.transcript(decoded, len(samples) / SAMPLE_RATE_HZ)


class SenseVoiceRecognizer:
    """SenseVoice (An et al., 2024): Chinese, Cantonese, English, Japanese, Korean. Files: `model` (ONNX), `tokens`.

    It gives words no confidence.
    """

    def __init__(
        self, files: Mapping[str, Path], language: str = "auto", numbers: bool = True, threads: int = 1
    ) -> None:
        """Load the model.

        Args:
            files: see the class.
            language: of all segments (the library takes it when a model is loaded); auto: the model finds out.
            numbers: write numbers as digits, and punctuation.
            threads: CPU threads.

        Raises:
            InvalidParameter: it does not know the language.
            BadInput: a file is broken, or is not that of such a model.
            OSError: one is missing.
        """
        if language not in LANGUAGES:
            raise InvalidParameter(
                f"asr.language must be one of {', '.join(LANGUAGES)}, not {language!r}", param="asr.language"
            )
        given = present(files, "model", "tokens")
        found = metadata(given["model"], *SENSE_VOICE)
        pieces = Vocabulary.read(given["tokens"]).pieces
        if len(pieces) < int(found["vocab_size"]):
            message = f"tokens.txt has {len(pieces)} tokens, the model {found['vocab_size']}"
            raise BadInput(message, cause="weights_broken")
        self._model = library.sense_voice(given, language, numbers=bool(numbers), threads=int(threads))

    def open(self, options: DecodeOptions) -> "OfflineStream":
        """Begin a segment."""
        del options
        return OfflineStream(self._decode)

    def _decode(self, samples: Samples) -> Transcript:
        found = _decoded(self._model, self._model.create_stream(), samples)
        decoded = words.Decoded(found.text, found.tokens, found.timestamps)
        language = str(found.lang).strip("<|>")
        return words.transcript(decoded, len(samples) / SAMPLE_RATE_HZ, language=language)


class OfflineStream(BufferedStream):
    """One segment."""

    def __init__(self, decode: Callable[[Samples], Transcript]) -> None:
        super().__init__()
        self._decode = decode

    def decode(self, samples: Samples) -> Transcript:
        """Return the transcript of (n,) samples."""
        if guards.silent(samples):
            return Transcript.null(NullCause.EMPTY, "silence")
        found = self._decode(samples)
        if found.text and (why := guards.objection(found.text, len(samples))):
            return Transcript.null(NullCause.EMPTY, f"rejected as hallucination {found.text[:40]!r}: {why}")
        return found


def _decoded(model: Any, stream: Any, samples: Samples) -> Any:
    """Return the library's result for (n,) samples."""
    padded = np.pad(samples, (0, max(0, LEAST - len(samples))))
    stream.accept_waveform(SAMPLE_RATE_HZ, np.ascontiguousarray(padded, np.float32))
    model.decode_stream(stream)
    return stream.result
