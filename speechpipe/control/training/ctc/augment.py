"""Augmentation of training data: speed, gain, room, noise, telephone codec, vocal tract length, masks.

Seeded: the same seed and example give the same samples. Speed: Ko et al., "Audio augmentation for speech recognition",
2015. Vocal tract length: Jaitly & Hinton, 2013. Masks: Park et al., "SpecAugment", 2019. Rooms: Ko et al., "A study on
data augmentation of reverberant speech", 2017.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from speechpipe.cascade.asr.torchaudio_import import torchaudio
from speechpipe.types import SAMPLE_RATE_HZ, Samples

audio = torchaudio.functional
TELEPHONE_HZ = 8000
MASKED_FRAMES, MASKED_MELS = 8, 6
SPEED_STEP = 0.05
"""Speeds are multiples of this, because resampling is cheap if the rates have a large common divisor."""


@dataclass(frozen=True, slots=True)
class AugmentOptions:
    """How often each change is made (0 to 1), and its range."""

    speed: float = 0.8
    speed_range: tuple[float, float] = (0.8, 1.25)
    gain: float = 0.5
    gain_db: tuple[float, float] = (-20.0, 10.0)  # clipped at full scale
    room: float = 0.3
    room_decay_s: tuple[float, float] = (0.05, 0.4)  # to -60 dB
    noise: float = 0.5
    snr_db: tuple[float, float] = (5.0, 35.0)
    codec: float = 0.2
    warp: float = 0.8
    warp_range: tuple[float, float] = (0.85, 1.18)
    masks: float = 0.7


@dataclass(frozen=True)
class Augmentation:
    """Changes samples, then features. Generates noises and rooms if none are given."""

    options: AugmentOptions = AugmentOptions()
    noises: Sequence[Samples] = ()
    rooms: Sequence[Samples] = ()
    seed: int = 0

    def samples(self, given: Samples, *key: int) -> Samples:
        """Return changed samples of the same words; `key` (epoch, index of the example) selects the random changes."""
        draw = np.random.default_rng([self.seed, *key])
        wave, options = torch.from_numpy(given), self.options
        if draw.random() < options.speed:
            low, high = (round(bound / SPEED_STEP) for bound in options.speed_range)
            wave, _ = audio.speed(wave, SAMPLE_RATE_HZ, float(draw.integers(low, high + 1) * SPEED_STEP))
        if draw.random() < options.room:
            wave = self._room(wave, draw)
        if draw.random() < options.noise:
            wave = self._noise(wave, draw)
        if draw.random() < options.gain:
            wave = audio.gain(wave, draw.uniform(*options.gain_db)).clamp(-1.0, 1.0)
        if draw.random() < options.codec:
            wave = telephone(wave)
        return wave.numpy()

    def _room(self, wave: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
        if self.rooms:
            response = torch.from_numpy(self.rooms[int(draw.integers(len(self.rooms)))])
        else:
            length = round(draw.uniform(*self.options.room_decay_s) * SAMPLE_RATE_HZ)
            decay = np.exp(-6.9 * np.arange(length) / length)  # e**-6.9 is -60 dB
            tail = draw.normal(0.0, 1.0, length) * decay * draw.uniform(0.02, 0.15)
            tail[0] = 1.0
            response = torch.from_numpy(tail.astype(np.float32))
        # The library transforms at the given length, and lengths with large prime factors are slow.
        spare = fast_length(len(wave) + len(response) - 1) - (len(wave) + len(response) - 1)
        padded = torch.nn.functional.pad(wave, (0, spare))
        heard = audio.fftconvolve(padded, response)[: len(wave)]
        scaled: torch.Tensor = heard * (wave.norm() / heard.norm().clamp(min=1e-6))
        return scaled

    def _noise(self, wave: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
        if self.noises:
            source = self.noises[int(draw.integers(len(self.noises)))]
            start = draw.integers(max(1, len(source) - len(wave)))
            noise = np.resize(source[start:], len(wave))
        else:
            noise = draw.normal(0.0, 1.0, len(wave)).astype(np.float32)
            if draw.random() < 0.5:  # room noise is mostly low-frequency
                noise = np.cumsum(noise).astype(np.float32)
                noise -= np.convolve(noise, np.ones(200, np.float32) / 200, "same")
        snr = torch.tensor(draw.uniform(*self.options.snr_db))
        if float(wave.norm()) == 0.0 or not noise.any():
            return wave
        noisy: torch.Tensor = audio.add_noise(wave, torch.from_numpy(noise), snr).float()
        return noisy

    def features(self, features: torch.Tensor, frames: torch.Tensor, *key: int) -> torch.Tensor:
        """Return changed (batch, frames, mels) features of the same words: other vocal tract lengths, and masks."""
        draw = np.random.default_rng([self.seed, 1, *key])
        warps = np.where(
            draw.random(len(features)) < self.options.warp, draw.uniform(*self.options.warp_range, len(features)), 1.0
        )
        changed = warped(features, torch.from_numpy(warps).float())
        # torchaudio's masks are not used: they share torch's global generator with dropout.
        for row, length in zip(changed, frames.tolist(), strict=True):
            if draw.random() < self.options.masks:
                for axis, size, most in ((0, length, MASKED_FRAMES), (1, row.shape[1], MASKED_MELS)):
                    width = int(draw.integers(min(most, size // 3) + 1))
                    start = int(draw.integers(size - width + 1))
                    row.narrow(axis, start, width).zero_()
        return changed


def fast_length(least: int) -> int:
    """Return the next power of two."""
    return 1 << (least - 1).bit_length()


def warped(features: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Stretch the frequency axis of (batch, frames, mels) by (batch,) factors; its ends stay fixed."""
    mels, device = features.shape[2], features.device
    factors = factors.to(device)
    target = torch.arange(mels, device=device)[None, :] * factors[:, None]
    # Above three quarters of the axis the map is linear to its end, so that no band is lost.
    knee = 0.75 * mels / factors.clamp(min=1.0)[:, None]
    line = torch.arange(mels, device=device)[None, :].expand_as(target)
    end = knee * factors[:, None]
    above = end + (line - knee) * ((mels - 1) - end) / ((mels - 1) - knee)
    target = torch.where(line <= knee, target, above).clamp(0, mels - 1)
    low = target.floor().long().clamp(max=mels - 2)
    share = (target - low)[:, None, :]
    index = low[:, None, :].expand(-1, features.shape[1], -1)
    return features.gather(2, index) * (1 - share) + features.gather(2, index + 1) * share


def telephone(wave: torch.Tensor) -> torch.Tensor:
    """Return (n,) samples as after G.711: 8 kHz, 8 bits mu-law."""
    narrow = audio.resample(wave, SAMPLE_RATE_HZ, TELEPHONE_HZ).clamp(-1.0, 1.0)
    coded = audio.mu_law_decoding(audio.mu_law_encoding(narrow, 256), 256)
    wide: torch.Tensor = audio.resample(coded, TELEPHONE_HZ, SAMPLE_RATE_HZ)[: len(wave)]
    return wide
