"""Files read to the end, for tests of what comes out."""

import tempfile
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np

from speechpipe.cascade.audio import AudioInfo
from speechpipe.cascade.audio.source import AudioSource, ChannelChoice
from speechpipe.types import SAMPLE_RATE_HZ, Samples

LOUD = 0.03


@dataclass(frozen=True)
class Read:
    """What one file gave."""

    audio: Samples
    info: AudioInfo
    warnings: dict[str, str]

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return len(self.audio) / SAMPLE_RATE_HZ

    def sounds(self, apart_s: float = 1.0) -> list[tuple[float, float]]:
        """(begin, end) in seconds of what is loud, joined over shorter pauses than `apart_s`."""
        loud = np.flatnonzero(np.abs(self.audio) > LOUD)
        if not len(loud):
            return []
        cuts = np.flatnonzero(np.diff(loud) > apart_s * SAMPLE_RATE_HZ)
        begins, ends = [loud[0], *loud[cuts + 1]], [*loud[cuts], loud[-1]]
        return [(float(a) / SAMPLE_RATE_HZ, float(b) / SAMPLE_RATE_HZ) for a, b in zip(begins, ends, strict=True)]


def read_whole(data: bytes, choice: ChannelChoice | None = None, max_s: float | None = None) -> Read:
    """Read the first session of a file from its first byte to its last."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        source = AudioSource(cast("BinaryIO", file), choice or ChannelChoice(), max_s)
        try:
            audio = np.concatenate([blocks[0] for blocks in source.blocks()])
            return Read(audio, source.info, {item.code: item.message for item in source.notices})
        finally:
            source.close()
