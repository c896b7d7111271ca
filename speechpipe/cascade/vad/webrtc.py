"""The WebRTC project's VAD (Gaussian mixtures on six sub-bands) through `webrtcvad-wheels`.

The detector returns speech or no speech for each 30 ms. The score is the share of speech among the last frames, so
that it can be compared with the segmenter's thresholds.
"""

from collections import deque

import numpy as np
import webrtcvad

from speechpipe.types import SAMPLE_RATE_HZ, Samples

FRAME = 480  # 30 ms: the longest frame that the library accepts, and the cheapest


class WebrtcVad:
    """The options; the detector itself has state, so each stream creates its own."""

    frame_samples = FRAME

    def __init__(self, mode: int = 3, window_frames: int = 5) -> None:
        """Set the aggressiveness `mode` (0..3) and the number of frames of the share."""
        self._mode = int(mode)
        self._window = int(window_frames)

    def open(self) -> "WebrtcStream":
        """Return a stream with its own detector."""
        return WebrtcStream(self._mode, self._window)


class WebrtcStream:
    """The detector and its recent results for one session."""

    def __init__(self, mode: int, window_frames: int) -> None:
        self._vad = webrtcvad.Vad(mode)
        self._recent: deque[bool] = deque(maxlen=window_frames)
        self._window = window_frames

    def probabilities(self, frames: Samples) -> Samples:
        """Score (n, 480) frames; shape (n,)."""
        pcm = (np.clip(frames, -1.0, 1.0) * 32767.0).astype("<i2")
        scores = np.empty(len(frames), np.float32)
        for index, frame in enumerate(pcm):
            self._recent.append(self._vad.is_speech(frame.tobytes(), SAMPLE_RATE_HZ))
            scores[index] = sum(self._recent) / self._window
        return scores
