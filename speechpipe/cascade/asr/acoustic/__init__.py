"""What recognizers share, and those who train them.

Of a small CTC recognizer: `frontend` makes features of samples, `network` makes letters' probabilities of features,
`lattice` makes words of those, `weights` keeps a network in a file. CTC: Graves et al., "Connectionist temporal
classification", ICML 2006. `guards`: against text that nobody said.
"""

from dataclasses import dataclass

BLANK = 0
"""The CTC symbol that stands for no letter; letters follow it in the order of the alphabet."""

ALPHABET = " abcdefghijklmnopqrstuvwxyz'"


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The shape of a network; stands in the file of its weights. Frequencies in Hz, windows in samples at 16 kHz."""

    alphabet: str = ALPHABET
    mels: int = 40
    low_hz: float = 60.0
    high_hz: float = 3800.0  # telephone audio and wide-band audio look alike below it
    window: int = 400  # 25 ms
    hop: int = 160  # 10 ms
    channels: int = 32  # of the convolutions over frequency and time
    hidden: int = 128  # of a recurrent layer, in each direction
    layers: int = 2
    dropout: float = 0.25

    @property
    def symbols(self) -> int:
        """Outputs of the network: the letters and the blank."""
        return len(self.alphabet) + 1
