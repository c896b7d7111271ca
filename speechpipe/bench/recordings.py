"""Recordings joined to one recording with pauses, like a conversation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from speechpipe.cascade.audio.source import AudioSource, ChannelChoice
from speechpipe.types import SAMPLE_RATE_HZ, Samples

PAUSE_S = 1.0


def joined(paths: Sequence[Path]) -> Samples:
    """Return (n,) samples at 16 kHz of all files, with a pause after each.

    Raises:
        BadInput: a file cannot be read.
    """
    parts: list[Samples] = []
    for path in paths:
        with path.open("rb") as file:
            source = AudioSource(file, ChannelChoice())
            parts += [block for (block,) in source.blocks()]
            source.close()
        parts.append(np.zeros(round(PAUSE_S * SAMPLE_RATE_HZ), np.float32))
    return np.concatenate(parts)
