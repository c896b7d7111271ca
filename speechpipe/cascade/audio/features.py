"""Acoustic features of a waveform, accumulated block by block.

They depend on the samples only and not on the VAD, so that a report can distinguish bad input from a bad VAD.
"""

import numpy as np
import numpy.typing as npt

from speechpipe.types import SAMPLE_RATE_HZ, AudioFeatures, Samples

FRAME = 512  # 32 ms at 16 kHz
BLOCK = 16 * FRAME
"""Samples that are collected before they are processed; live audio comes in small pieces."""

SPECTRUM_STRIDE = 4  # one frame in four is enough for a mean spectrum, and the FFT is the expensive part
ZERO_RUN = 128  # 8 ms
FLOOR_DB = -100.0
CLIP_LEVEL = 0.999
SNR_RANGE_DB = (0.0, 60.0)
HIGH_BAND_BIN = 4_000 * FRAME // SAMPLE_RATE_HZ  # 128
ROLL_OFF = 0.99
PAUSE_FRAMES = 16
"""Half a second: the silence that ends a segment in most VAD settings."""

PAUSE_SHARE, PAUSE_DB = 0.6, 25.0
"""A pause is below the loud frames by so much of their distance to the quiet ones, or by so many dB if that is less."""

NEVER = -(2**40)  # frames since the last loud one, while none was loud
_WINDOW = np.hanning(FRAME).astype(np.float32)
_LEVELS = np.arange(FLOOR_DB, 1.0)  # 1 dB bins, -100..0 dBFS


class FeatureAccumulator:
    """Sums, a histogram of frame levels and a mean spectrum, in constant memory. Used by one thread at a time."""

    def __init__(self) -> None:
        self._samples = 0
        self._sum = 0.0
        self._power = 0.0
        self._peak = 0.0
        self._clipped = 0
        self._zero_run = 0
        self._levels: npt.NDArray[np.int64] = np.zeros(len(_LEVELS), np.int64)
        self._quiet: npt.NDArray[np.int64] = np.full(len(_LEVELS), NEVER)  # frames since one of at least this level
        self._pauses: npt.NDArray[np.int64] = np.zeros(len(_LEVELS), np.int64)  # between two frames of at least it
        self._spectrum: npt.NDArray[np.float64] = np.zeros(FRAME // 2 + 1)
        self._counted = 0
        self._rest: Samples = np.zeros(0, np.float32)
        self._waiting: list[Samples] = []
        self._waiting_samples = 0

    def feed(self, samples: Samples) -> None:
        """Take (n,) samples at 16 kHz."""
        self._waiting.append(samples)
        self._waiting_samples += len(samples)
        if self._waiting_samples >= BLOCK:
            self._take_waiting()

    def _take_waiting(self) -> None:
        if not self._waiting_samples:
            return
        samples = np.concatenate(self._waiting) if len(self._waiting) > 1 else self._waiting[0]
        self._waiting, self._waiting_samples = [], 0
        self._samples += len(samples)
        self._sum += float(samples.sum(dtype=np.float64))
        self._power += float(np.dot(samples, samples))
        magnitude = np.abs(samples)
        self._peak = max(self._peak, float(magnitude.max()))
        self._clipped += int(np.count_nonzero(magnitude >= CLIP_LEVEL))
        held = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        size = len(held) // FRAME * FRAME
        self._rest = held[size:].copy()
        if size:
            self._frames(held[:size].reshape(-1, FRAME))

    def _frames(self, frames: Samples) -> None:
        power = np.einsum("ij,ij->i", frames, frames) / FRAME
        # A run of zeros shorter than a lost packet (10 or 20 ms), but longer than occurs in quiet audio by chance.
        self._zero_run += int(np.count_nonzero(~frames.reshape(-1, ZERO_RUN).any(axis=1))) * ZERO_RUN
        levels = 10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))
        bins = np.clip(np.rint(levels - FLOOR_DB), 0, len(_LEVELS) - 1).astype(np.int64)
        self._levels += np.bincount(bins, minlength=len(_LEVELS))
        for level in bins.tolist():  # what is loud is known at the end only, so pauses are counted for each level
            self._pauses[: level + 1] += self._quiet[: level + 1] >= PAUSE_FRAMES
            self._quiet[: level + 1] = 0
            self._quiet[level + 1 :] += 1
        first = -self._counted % SPECTRUM_STRIDE  # every fourth frame of the session, for any size of blocks
        self._counted += len(frames)
        spectra = np.fft.rfft(frames[first::SPECTRUM_STRIDE] * _WINDOW, axis=1)
        self._spectrum += np.einsum("ij,ij->j", spectra.real, spectra.real) + np.einsum(
            "ij,ij->j", spectra.imag, spectra.imag
        )

    def result(self) -> AudioFeatures:
        """Return the features of all samples so far; silence has a level of -100 dBFS."""
        self._take_waiting()
        count = max(self._samples, 1)
        mean = self._sum / count
        return AudioFeatures(
            duration_s=self._samples / SAMPLE_RATE_HZ,
            level_dbfs=_decibel(self._power / count),
            peak_dbfs=_decibel(self._peak**2),
            clipped_share=self._clipped / count,
            zero_run_share=min(1.0, self._zero_run / count),
            dc_offset=mean,
            snr_db=self._snr_db(),
            bandwidth_hz=self._bandwidth_hz(),
            high_band_share=self._high_band_share(),
            stretches=self._stretches(),
        )

    def _snr_db(self) -> float | None:
        """Estimate the SNR as the distance of the 95th from the 10th percentile of frame levels."""
        if (found := self._percentiles()) is None:
            return None
        noise, signal = found
        return None if signal <= FLOOR_DB else float(np.clip(signal - noise, *SNR_RANGE_DB))

    def _stretches(self) -> int | None:
        """Return the number of stretches of sound with half a second of quiet between them; 0 for silence."""
        if (found := self._percentiles()) is None:
            return None
        noise, signal = found
        if signal <= FLOOR_DB:
            return 0
        least = signal - min(PAUSE_DB, PAUSE_SHARE * (signal - noise))
        return int(self._pauses[int(np.ceil(least - FLOOR_DB))]) + 1

    def _percentiles(self) -> tuple[float, float] | None:
        """Return the 10th and the 95th percentile of frame levels in dBFS; None for too little audio."""
        frames = int(self._levels.sum())
        if frames < 10:  # a third of a second, too little for percentiles
            return None
        share = np.cumsum(self._levels) / frames
        return float(_LEVELS[int(np.searchsorted(share, 0.10))]), float(_LEVELS[int(np.searchsorted(share, 0.95))])

    def _bandwidth_hz(self) -> float | None:
        """Return the frequency below which 99 % of the energy is, without DC; None for silence."""
        energy = self._spectrum[2:]
        total = float(energy.sum())
        if total <= 0:
            return None
        bin_ = 2 + int(np.searchsorted(np.cumsum(energy), ROLL_OFF * total))
        return bin_ * SAMPLE_RATE_HZ / FRAME

    def _high_band_share(self) -> float | None:
        total = float(self._spectrum[2:].sum())
        return float(self._spectrum[HIGH_BAND_BIN:].sum()) / total if total > 0 else None


def frame_levels_db(frames: Samples) -> Samples:
    """Return the level of each of (n, frame) frames in dBFS, floored at -100; shape (n,)."""
    power = np.einsum("ij,ij->i", frames, frames) / frames.shape[1]
    levels: Samples = (10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))).astype(np.float32)
    return levels


def _decibel(power: float) -> float:
    return float(10 * np.log10(max(power, 10 ** (FLOOR_DB / 10))))
