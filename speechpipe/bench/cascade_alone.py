"""A bundle's VAD and recognizer in one process, without a server: for tools that only need what is heard."""

import numpy as np

from speechpipe.cascade.asr import BatchRecognizer, DecodeOptions, Piece, load_recognizer
from speechpipe.cascade.catalog.factories import segmenter
from speechpipe.cascade.vad import Closed, load_component
from speechpipe.types import Bundle, Samples, Transcript


class CascadeAlone:
    """The VAD and the recognizer of a bundle. Used by one thread at a time."""

    def __init__(self, bundle: Bundle) -> None:
        """Load both; their files must be on this machine."""
        self._bundle = bundle
        self._vad = load_component(bundle.vad)
        self._recognizer = load_recognizer(bundle.asr.implementation, bundle.asr.files, **bundle.asr.options)

    def transcripts(self, samples: Samples) -> list[Transcript]:
        """Return the transcripts of an upload's segments. `samples`: (n,) at 16 kHz."""
        frame = self._vad.frame_samples
        frames = np.pad(samples, (0, -len(samples) % frame)).reshape(-1, frame)
        scores = self._vad.open().probabilities(frames)
        levels = (10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-12)).astype(np.float32)
        cutter = segmenter(self._bundle, frame)
        events = [*cutter.push(scores, levels), *cutter.finish(len(samples))]
        found = [event.segment for event in events if isinstance(event, Closed)]
        options = DecodeOptions(offline=True, group="upload")
        pieces = [Piece(samples[segment.start : segment.end], options) for segment in found]
        if isinstance(self._recognizer, BatchRecognizer):
            return self._recognizer.transcribe(pieces) if pieces else []
        return [self._alone(piece) for piece in pieces]

    def _alone(self, piece: Piece) -> Transcript:
        stream = self._recognizer.open(piece.options)
        stream.feed(piece.samples)
        return stream.finish()
