"""Streaming transducers, such as Zipformer (Yao et al., 2024), that write text while they hear.

The model decodes chunks, most often of 320 ms. With `beam` 1 the text only grows. A larger beam is for hotwords.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.asr.acoustic import guards
from speechpipe.cascade.asr.sherpa import library, words
from speechpipe.cascade.asr.sherpa.files import metadata, present
from speechpipe.cascade.asr.sherpa.vocabulary import Vocabulary
from speechpipe.errors import BadInput
from speechpipe.types import SAMPLE_RATE_HZ, NullCause, Samples, Transcript

FRAME = 160
"""Samples of a frame of features."""

LATE = 3200
"""Samples by which a model may write a token after its sound."""

NEEDED: Mapping[str, tuple[str, ...]] = {
    "zipformer2": (
        "encoder_dims",
        "query_head_dims",
        "value_head_dims",
        "num_heads",
        "num_encoder_layers",
        "cnn_module_kernels",
        "left_context_len",
        "T",
        "decode_chunk_len",
    ),
    "zipformer": (
        "encoder_dims",
        "attention_dims",
        "num_encoder_layers",
        "cnn_module_kernels",
        "left_context_len",
        "T",
        "decode_chunk_len",
    ),
}
"""What the library needs in the metadata of an encoder, by the model's type."""


class StreamingRecognizer:
    """Files: `encoder`, `decoder`, `joiner` (ONNX) and `tokens`, as the scripts of icefall export them."""

    def __init__(self, files: Mapping[str, Path], beam: int = 1, boost: float = 1.5, threads: int = 1) -> None:
        """Load the model.

        Args:
            files: see the class.
            beam: 1: greedy search; more: beam search with so many hypotheses, which takes hotwords.
            boost: what a token of a hotword adds to the logarithm of a hypothesis's probability.
            threads: CPU threads.

        Raises:
            BadInput: a file is broken, or is not that of a streaming Zipformer.
            OSError: one is missing.
        """
        given = present(files, "encoder", "decoder", "joiner", "tokens")
        kind = metadata(given["encoder"]).get("model_type", "")
        if kind not in NEEDED:
            message = f"{given['encoder'].name} is not a streaming Zipformer: its model_type is {kind!r}"
            raise BadInput(message, cause="weights_broken")
        self.window = int(metadata(given["encoder"], *NEEDED[kind])["T"]) * FRAME
        self.vocabulary = Vocabulary.read(given["tokens"])
        count = int(metadata(given["decoder"], "vocab_size", "context_size")["vocab_size"])
        metadata(given["joiner"])
        if count > len(self.vocabulary.pieces):  # there may be more: symbols of a decoding graph
            message = f"tokens.txt has {len(self.vocabulary.pieces)} tokens, the decoder {count}"
            raise BadInput(message, cause="weights_broken")
        self.beam = int(beam)
        self.capital = self.vocabulary.capital
        self.model = library.streaming_transducer(
            given, kind, self.vocabulary, beam=self.beam, boost=float(boost), threads=int(threads)
        )

    def open(self, options: DecodeOptions) -> "StreamingStream":
        """Begin a segment. Hotwords that the model cannot write are left out, and all of them if `beam` is 1."""
        hotwords = self.vocabulary.hotwords(options.hotwords) if self.beam > 1 else ""
        return StreamingStream(self, self.model.create_stream(hotwords or None))


class StreamingStream:
    """One segment."""

    def __init__(self, recognizer: StreamingRecognizer, stream: Any) -> None:
        self._recognizer = recognizer
        self._model = recognizer.model
        self._stream = stream
        self._samples = 0
        self._audible = False
        self.stable = 0

    def feed(self, samples: Samples) -> None:
        """Take (n,) samples; decode all complete chunks."""
        if len(samples):
            self._samples += len(samples)
            self._audible = self._audible or not guards.silent(samples)
            self._decode(samples)

    def _decode(self, samples: Samples) -> None:
        self._stream.accept_waveform(SAMPLE_RATE_HZ, np.ascontiguousarray(samples, np.float32))
        while self._model.is_ready(self._stream):
            self._model.decode_stream(self._stream)

    def partial(self) -> str:
        """Return the text so far; its first `stable` characters begin every later result."""
        text = " ".join(str(self._model.get_result_all(self._stream).text).split())
        text = text.lower() if self._recognizer.capital else text
        self.stable = words.settled(text) if self._recognizer.beam == 1 else 0
        return text

    def finish(self) -> Transcript:
        """Decode the rest, with silence behind it, and return the transcript."""
        if not self._audible:
            return Transcript.null(NullCause.EMPTY, "silence" if self._samples else "")
        self._decode(np.zeros(self._recognizer.window + LATE, np.float32))
        found = self._model.get_result_all(self._stream)
        decoded = words.Decoded(found.text, found.tokens, found.timestamps, log_probs=found.ys_probs)
        return words.transcript(decoded, self._samples / SAMPLE_RATE_HZ, capital=self._recognizer.capital)

    def context(self) -> str:
        """Return an empty text: the model has no state between segments."""
        return ""

    def cancel(self) -> None:
        """Drop the segment."""
        self._stream = None
