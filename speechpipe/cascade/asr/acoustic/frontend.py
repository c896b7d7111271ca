"""Features: a log-mel spectrogram, independent of gain and of a microphone's noise floor."""

import torch

from speechpipe.cascade.asr.acoustic import NetworkConfig
from speechpipe.cascade.asr.torchaudio_import import torchaudio
from speechpipe.types import SAMPLE_RATE_HZ

FLOOR_NATS = 9.0
"""Range of features below the segment's loudest band: 9 nats = 39 dB. Lower levels are set to 0, because room noise
differs between microphones and has no information about the words."""

FFT = 512


class Frontend(torch.nn.Module):
    """Samples to features in [0, 1]: 1 is a segment's loudest band, 0 is the floor or less."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self._hop = config.hop
        self._mel = torchaudio.transforms.MelSpectrogram(
            SAMPLE_RATE_HZ,
            n_fft=FFT,
            win_length=config.window,
            hop_length=config.hop,
            f_min=config.low_hz,
            f_max=config.high_hz,
            n_mels=config.mels,
            pad_mode="constant",
        )

    def lengths(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the number of frames for numbers of samples, both (batch,)."""
        return samples // self._hop + 1

    def forward(self, samples: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (batch, frames, mels) features and (batch,) numbers of frames of (batch, n) zero-padded samples.

        The features of a segment do not depend on the batch: frames behind its end are 0, which is the floor.
        """
        spectrum = torch.log(self._mel(samples) + 1e-10).transpose(1, 2)
        frames = self.lengths(lengths)
        inside = mask(frames, spectrum.shape[1])
        loudest = spectrum.masked_fill(~inside, -torch.inf).amax(dim=(1, 2), keepdim=True)
        features = ((spectrum - loudest) / FLOOR_NATS + 1.0).clamp(min=0.0)
        return features * inside, frames


def mask(lengths: torch.Tensor, most: int) -> torch.Tensor:
    """Return a (batch, most, 1) bool mask of the positions before each length."""
    return (torch.arange(most, device=lengths.device)[None, :] < lengths[:, None])[:, :, None]
