"""Parts of recognizers that training uses too.

Of the CTC recognizer: `frontend` (samples to features), `network` (features to probabilities of letters), `lattice`
(probabilities to words), `weights` (file format). CTC: Graves et al., "Connectionist temporal classification", ICML
2006. `guards` rejects hallucinated texts.
"""

from dataclasses import dataclass

BLANK = 0
"""The CTC blank symbol; the letters follow it in the order of the alphabet."""

ALPHABET = " abcdefghijklmnopqrstuvwxyz'"


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The shape of a network, stored in its weights file. Windows are in samples at 16 kHz."""

    alphabet: str = ALPHABET
    mels: int = 40
    low_hz: float = 60.0
    high_hz: float = 3800.0  # below it telephone audio and wide-band audio are alike
    window: int = 400  # 25 ms
    hop: int = 160  # 10 ms
    channels: int = 32  # of the convolutions over frequency and time
    hidden: int = 128  # units of a recurrent layer in each direction
    layers: int = 2
    dropout: float = 0.25

    @property
    def symbols(self) -> int:
        """Number of outputs of the network: the letters and the blank."""
        return len(self.alphabet) + 1
