"""Log-mel features as Whisper was trained on (Radford et al., 2022, section 2.2): 25 ms windows, a frame every 10 ms.

`LogMel` gives the logarithm of the mel energies of one piece of audio; `window` puts pieces into one input of fixed
length and brings it into the range that the model expects, which depends on the loudest frame of all.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from speechpipe.types import SAMPLE_RATE_HZ, Samples

Frames = npt.NDArray[np.float32]

FRAME_SAMPLES = 160
"""Samples from one frame to the next."""

FRAMES_S = SAMPLE_RATE_HZ // FRAME_SAMPLES
FFT_SAMPLES = 400
BLOCK_FRAMES = 400
"""Frames transformed at once: their spectra stay in the processor's cache."""

LEAST_ENERGY = 1e-10
RANGE = 8.0
"""Energies more than 80 dB below the loudest are raised to that level."""


def frames_of(samples: int) -> int:
    """Return how many frames so many samples have."""
    return samples // FRAME_SAMPLES


def mel_filters(bands: int) -> Frames:
    """Return the (bands, 201) weights of triangular filters on Slaney's mel scale, each of area 1."""
    hertz = np.fft.rfftfreq(FFT_SAMPLES, 1 / SAMPLE_RATE_HZ)
    # Linear up to 1 kHz (mel 15), logarithmic above; the last edge is at 8 kHz.
    steps = np.log(6.4) / 27
    mels = np.linspace(0.0, 15 + np.log(SAMPLE_RATE_HZ / 2 / 1000) / steps, bands + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(steps * (mels - 15)))
    widths = np.diff(edges)
    distance = edges[:, None] - hertz[None]
    rising, falling = -distance[:-2] / widths[:-1, None], distance[2:] / widths[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    found: Frames = (triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)
    return found


class LogMel:
    """Computes the features of pieces of audio."""

    def __init__(self, bands: int = 80) -> None:
        """Prepare the filters; `bands`: 80, or 128 for large-v3 and turbo."""
        self.bands = bands
        self._filters = np.ascontiguousarray(mel_filters(bands).T)
        self._window = np.hanning(FFT_SAMPLES + 1)[:-1].astype(np.float32)

    def __call__(self, samples: Samples) -> Frames:
        """Return the (bands, frames) log10 mel energies of (n,) samples, a frame for every whole 10 ms.

        Samples before the first and after the last are mirrored and silent respectively, as the model was trained.
        """
        frames = frames_of(len(samples))
        padded = np.zeros(len(samples) + FFT_SAMPLES + FRAME_SAMPLES, np.float32)
        half = FFT_SAMPLES // 2
        padded[half : half + len(samples)] = samples
        mirrored = padded[half + 1 : FFT_SAMPLES + 1]
        padded[:half] = mirrored[::-1]
        found = np.empty((self.bands, frames), np.float32)
        spans = np.lib.stride_tricks.sliding_window_view(padded, FFT_SAMPLES)[::FRAME_SAMPLES]
        for start in range(0, frames, BLOCK_FRAMES):
            block = spans[start : min(start + BLOCK_FRAMES, frames)] * self._window
            spectrum = np.fft.rfft(block, axis=-1)
            power = np.square(spectrum.real)
            power += np.square(spectrum.imag)
            energy = power @ self._filters
            found[:, start : start + len(block)] = np.log10(np.maximum(energy, LEAST_ENERGY, out=energy), out=energy).T
        return found


def window(parts: Sequence[tuple[int, Frames]], bands: int, frames: int) -> Frames:
    """Return the (bands, frames) input of the model with each part at its first frame, and silence elsewhere.

    Silence is the lowest value of the input's own range, as in the features of a recording. Zeros, which other programs
    pad with, are louder than many a whisper, and more short pieces are recognised wrongly with them.
    """
    loudest = max((float(part.max()) for _, part in parts if part.size), default=np.log10(LEAST_ENERGY))
    least = max(loudest - RANGE, float(np.log10(LEAST_ENERGY)))
    made = np.full((bands, frames), least, np.float32)
    for start, part in parts:
        np.maximum(part, least, out=made[:, start : start + part.shape[1]])
    made += 4.0
    made /= 4.0
    return made
