"""Features: a log-mel spectrogram that knows neither gain nor the noise floor of a microphone."""

import torch

from speechpipe.cascade.asr.acoustic import NetworkConfig
from speechpipe.cascade.asr.torchaudio_import import torchaudio
from speechpipe.types import SAMPLE_RATE_HZ

FLOOR_NATS = 9.0
"""Of a segment only what is less than 39 dB below its loudest band counts. What a quiet room is made of differs
between microphones and says nothing of the words."""

FFT = 512


class Frontend(torch.nn.Module):
    """Samples to features in [0, 1]: 1 is a segment's loudest band, 0 the floor and everything below."""

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
        """Return the frames of so many samples, both (batch,)."""
        return samples // self._hop + 1

    def forward(self, samples: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Turn (batch, n) samples, zero behind each one's length, into (batch, frames, mels) and (batch,) frames.

        A segment's features are the same in any batch: what lies behind its end is 0, as the floor is.
        """
        spectrum = torch.log(self._mel(samples) + 1e-10).transpose(1, 2)
        frames = self.lengths(lengths)
        inside = mask(frames, spectrum.shape[1])
        loudest = spectrum.masked_fill(~inside, -torch.inf).amax(dim=(1, 2), keepdim=True)
        features = ((spectrum - loudest) / FLOOR_NATS + 1.0).clamp(min=0.0)
        return features * inside, frames


def mask(lengths: torch.Tensor, most: int) -> torch.Tensor:
    """Return (batch, most, 1) of bool: what lies before each one's length."""
    return (torch.arange(most, device=lengths.device)[None, :] < lengths[:, None])[:, :, None]
