"""Silero VAD v6 (MIT, https://github.com/snakers4/silero-vad) through onnxruntime, without importing torch.

The wheel's *sequence* model scores many frames in one call and returns its LSTM state. The same graph therefore serves
live streams (one frame per call) and uploads (blocks of 512 frames), with the same probabilities.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime

from speechpipe.errors import StageFailed
from speechpipe.types import Samples

FRAME = 512
CONTEXT = 64  # samples of the previous frame, which the model expects before each frame
STATE_SHAPE = (1, 1, 128)
MODEL = "data/silero_vad_16k_sequence.onnx"


class SileroVad:
    """One onnxruntime session for all streams (`run` is thread-safe and releases Python's lock)."""

    frame_samples = FRAME

    def __init__(self, threads: int = 1) -> None:
        """Load the model.

        Raises:
            StageFailed: the `silero-vad` package or its model file is missing.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads would take CPU from the recognizers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(model_path()), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def open(self) -> "SileroStream":
        """Return a stream with initial state."""
        return SileroStream(self._session)


class SileroStream:
    """LSTM state and left context of one session."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._h = np.zeros(STATE_SHAPE, np.float32)
        self._c = np.zeros(STATE_SHAPE, np.float32)
        self._context = np.zeros(CONTEXT, np.float32)

    def probabilities(self, frames: Samples) -> Samples:
        """Score (n, 512) frames; shape (n,)."""
        rows = np.empty((len(frames), CONTEXT + FRAME), np.float32)
        rows[:, CONTEXT:] = frames
        rows[0, :CONTEXT] = self._context
        rows[1:, :CONTEXT] = frames[:-1, -CONTEXT:]
        inputs = {"input": rows, "h": self._h, "c": self._c}
        scores, self._h, self._c = self._session.run(None, inputs)
        self._context = frames[-1, -CONTEXT:].copy()
        result: Samples = np.asarray(scores, np.float32).reshape(-1)
        return result


def model_path() -> Path:
    """Return the path of the model file, without importing `silero_vad` (which would import torch).

    Raises:
        StageFailed: the package or the file is missing.
    """
    spec = find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        raise StageFailed("vad", "the package silero-vad is not installed")
    path = Path(spec.submodule_search_locations[0]) / MODEL
    if not path.exists():
        raise StageFailed("vad", f"{path} is missing; it is part of silero-vad >= 6.2")
    return path
