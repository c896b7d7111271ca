"""The CTC network: convolutions over frequency and time, bidirectional recurrent layers, an output layer of letters.

Structure of Deep Speech 2 (Amodei et al., 2016), about a hundred times smaller. docs/decisions/0013 lists alternatives
that were tried.
"""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from speechpipe.cascade.asr.acoustic import NetworkConfig
from speechpipe.cascade.asr.acoustic.frontend import Frontend, mask

SUBSAMPLING = 3
"""Feature frames per output frame; an output frame is 30 ms."""


class CtcNetwork(nn.Module):
    """Maps (batch, n) samples at 16 kHz to (batch, frames, symbols) log-probabilities."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.frontend = Frontend(config)
        half = -(-config.mels // 2)
        self.first = nn.Conv2d(1, config.channels, 5, stride=(SUBSAMPLING, 2), padding=2)
        self.second = nn.Conv2d(config.channels, config.channels, 3, stride=(1, 2), padding=1)
        self.recurrent = nn.GRU(
            config.channels * -(-half // 2),
            config.hidden,
            config.layers,
            batch_first=True,
            bidirectional=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.letters = nn.Linear(2 * config.hidden, config.symbols)

    def forward(self, samples: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log-probabilities and the (batch,) numbers of frames."""
        return self.of_features(*self.frontend(samples, lengths))

    def of_features(self, features: torch.Tensor, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same for (batch, frames, mels) features, which training may have augmented."""
        frames = -(-frames // SUBSAMPLING)
        x = torch.relu(self.first(features[:, None]))
        # Set frames behind a segment's end to 0 after every layer, so that the result does not depend on the batch.
        inside = mask(frames, x.shape[2])[:, None]
        x = torch.relu(self.second(x * inside)) * inside
        x = self.dropout(x.permute(0, 2, 1, 3).flatten(2))
        packed = pack_padded_sequence(x, frames.cpu(), batch_first=True, enforce_sorted=False)
        x, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=x.shape[1])
        return self.letters(self.dropout(x)).log_softmax(-1), frames
