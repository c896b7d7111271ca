"""Faults inside a server's processes: segmenter, VAD, recognizer and store, each as it is active at that moment.

Each function here takes a module of the service that has just been imported, and wraps what the service will take from
it. Without an active fault the wrapped parts do what they did.

Modules that the hook patches are imported within functions only: this module is imported while they are.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from speechpipe.bench.faults import recognition
from speechpipe.bench.live.active import ActiveFaults
from speechpipe.bench.live.hook import put
from speechpipe.types import SAMPLE_RATE_HZ, NullCause, Samples, Transcript

PARAMETERS = ("vad_threshold", "vad_threshold_low", "vad_min_silence", "vad_min_speech", "vad_padding")
SCORES = ("vad_weights", "vad_normalisation", "vad_state_not_reset", "vad_boundary_offset")
TEXTS = (
    "asr_truncated",
    "asr_repetition",
    "asr_vocabulary",
    "asr_digits_dropped",
    "asr_empty_on_long",
    "confidence_offset",
)
EMPTY, RAISES, FEATURES, SLEEP = "asr_empty", "asr_raises", "asr_feature_scaling", "decode_sleep"
STORE_SLOW = "store_slow"

KEPT_S = 10.0
"""Seconds of other sessions that are kept for a VAD whose state is not reset."""


# ---- VAD ----


def segments(module: ModuleType, faults: ActiveFaults) -> None:
    """Let sessions begin with other parameters of the segmenter."""
    plain = module.segmenter

    def segmenter(bundle: Any, frame_samples: int, **more: Any) -> Any:
        from speechpipe.bench.faults import detection

        changes: dict[str, float] = {}
        for kind in PARAMETERS:
            if (value := faults.value(kind)) is not None:
                changes |= detection.parameters(kind, value)
        if changes:
            bundle = replace(bundle, segmenter={**bundle.segmenter, **changes})
        return plain(bundle, frame_samples, **more)

    put(module, "segmenter", segmenter)


def scores(module: ModuleType, faults: ActiveFaults) -> None:
    """Let VADs give other scores."""
    plain = module.load_component
    put(module, "load_component", lambda component: SwitchedVad(plain(component), faults))


class SwitchedVad:
    """A VAD with the fault that is active when a session begins."""

    def __init__(self, vad: Any, faults: ActiveFaults) -> None:
        self.frame_samples = vad.frame_samples
        self._vad = vad
        self._faults = faults
        self._opened = 0
        self._before: deque[Samples] = deque(maxlen=round(KEPT_S * SAMPLE_RATE_HZ / self.frame_samples))

    def open(self) -> Any:
        """Return a stream with fresh state, unless a fault is active."""
        from speechpipe.bench.faults import detection

        self._opened += 1
        for kind in SCORES:
            if (value := self._faults.value(kind)) is not None:
                before = np.concatenate([*self._before, np.zeros(self.frame_samples, np.float32)])
                return detection.FaultyVad(self._vad, kind, value, before, self._opened).open()
        return _Keeping(self._vad.open(), self._before)


class _Keeping:
    """A stream whose audio is kept, as that of another session."""

    def __init__(self, stream: Any, kept: deque[Samples]) -> None:
        self._stream = stream
        self._kept = kept

    def probabilities(self, frames: Samples) -> Any:
        """Score (n, frame_samples) frames."""
        self._kept.extend(frame.copy() for frame in frames[-(self._kept.maxlen or 1) :])
        return self._stream.probabilities(frames)


# ---- recognizer ----


def recognizers(module: ModuleType, faults: ActiveFaults) -> None:
    """Let recognizers answer wrongly, late or not at all."""
    plain = module.load_recognizer
    batches = module.BatchRecognizer

    def load_recognizer(name: str, files: Sequence[Any] = (), **options: Any) -> Any:
        recognizer = plain(name, files, **options)
        FaultyRecognizer(faults).attach(recognizer, batches=isinstance(recognizer, batches))
        return recognizer

    put(module, "load_recognizer", load_recognizer)


class FaultyRecognizer:
    """The faults of one recognizer. It stays what it is (its class says how it is fed); its methods are wrapped."""

    def __init__(self, faults: ActiveFaults) -> None:
        self._faults = faults
        self._random = np.random.default_rng()
        self._busy = False  # within a wrapped method: what it calls has no faults of its own

    def attach(self, recognizer: Any, *, batches: bool) -> None:
        """Wrap the methods of a recognizer, and of the streams that it opens."""
        opened = recognizer.open
        put(recognizer, "open", lambda options: self._attached(opened(options)))
        if batches:
            plain = recognizer.transcribe
            put(recognizer, "transcribe", lambda pieces, *more: self._together(plain, pieces, *more))

    def _attached(self, stream: Any) -> Any:
        if hasattr(stream, "decode"):  # a stream that keeps its audio and decodes it at the end
            decode = stream.decode
            put(stream, "decode", lambda samples: self._decoded(decode, samples))
            return stream
        feed, finish, fed = stream.feed, stream.finish, [0]

        def feed_changed(samples: Samples) -> None:
            fed[0] += len(samples)
            feed(self._features(samples))

        put(stream, "feed", feed_changed)
        put(stream, "finish", lambda: self._finished(finish, fed[0]))
        return stream

    def _finished(self, finish: Callable[[], Transcript], samples: int) -> Transcript:
        self._delay_or_raise()
        return self._spoiled(finish(), samples)

    def _decoded(self, decode: Callable[[Samples], Transcript], samples: Samples) -> Transcript:
        if self._busy:
            return decode(samples)
        self._busy = True
        try:
            self._delay_or_raise()
            return self._spoiled(decode(self._features(samples)), len(samples))
        finally:
            self._busy = False

    def _together(self, transcribe: Callable[..., list[Transcript]], pieces: Sequence[Any], *more: Any) -> Any:
        if self._busy:
            return transcribe(pieces, *more)
        self._busy = True
        try:
            for _ in pieces:
                self._delay_or_raise()
            changed = [replace(piece, samples=self._features(piece.samples)) for piece in pieces]
            found = transcribe(changed, *more)
            return [self._spoiled(one, len(piece.samples)) for one, piece in zip(found, pieces, strict=True)]
        finally:
            self._busy = False

    def _features(self, samples: Samples) -> Samples:
        value = self._faults.value(FEATURES)
        return samples if value is None else recognition.features(FEATURES, value, samples)

    def _delay_or_raise(self) -> None:
        if (seconds := self._faults.value(SLEEP)) is not None:
            time.sleep(seconds)
        if (share := self._faults.value(RAISES)) is not None and self._random.random() < share:
            raise RuntimeError("an injected failure of the recognizer")

    def _spoiled(self, transcript: Transcript, samples: int) -> Transcript:
        if (share := self._faults.value(EMPTY)) is not None and self._random.random() < share:
            return Transcript.null(NullCause.EMPTY)
        for kind in TEXTS:
            if (value := self._faults.value(kind)) is not None:
                transcript = recognition.spoil(kind, value, transcript, samples / SAMPLE_RATE_HZ, self._random)
        return transcript


# ---- store ----


def store(module: ModuleType, faults: ActiveFaults) -> None:
    """Let each batch of records take longer to be written."""
    name = "_work_off"
    plain = getattr(module.Store, name)

    def work_off(itself: Any) -> None:
        if (seconds := faults.value(STORE_SLOW)) is not None:
            time.sleep(seconds)
        plain(itself)

    put(module.Store, name, work_off)
