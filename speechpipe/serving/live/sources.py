"""Files and standard input as the bytes of a live stream, for `speechpipe listen`."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechpipe.cascade.audio.source import AudioSource, ChannelChoice
from speechpipe.cascade.audio.wire_format import WireFormat
from speechpipe.errors import BadInput
from speechpipe.foundation.text_files import standard_input
from speechpipe.types import SAMPLE_RATE_HZ

STEP_S = 0.1
STEP_BYTES = round(STEP_S * SAMPLE_RATE_HZ) * 2


@dataclass(frozen=True)
class Pace:
    """The speed of a source: real time, or as fast as it is read."""

    real_time: bool

    def apply(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield blocks of `STEP_S`; in real time, each when it is due."""
        begun = time.monotonic()
        for number, block in enumerate(blocks, 1):
            if self.real_time and (wait := begun + number * STEP_S - time.monotonic()) > 0:
                time.sleep(wait)
            yield block


def file_blocks(file: str, raw: WireFormat | None, pace: Pace) -> tuple[WireFormat, Iterator[bytes]]:
    """Return the format and the blocks of a file or of standard input (`-`).

    `raw`: the format of raw samples; None: the file is decoded.

    Raises:
        BadInput: the file cannot be read.
    """
    if file == "-":
        # Read as it arrives: the writer sets the speed.
        descriptor = standard_input().fileno()
        return raw or WireFormat(), iter(lambda: os.read(descriptor, STEP_BYTES), b"")
    if raw is not None:
        assert raw.rate is not None
        return raw, pace.apply(_raw_file(Path(file), round(raw.rate * STEP_S) * 2))
    try:
        source = AudioSource(Path(file).open("rb"), ChannelChoice())  # noqa: SIM115 - the source closes it
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror}") from error
    return WireFormat("linear16", SAMPLE_RATE_HZ), pace.apply(_decoded(source))


def _raw_file(path: Path, step: int) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while block := stream.read(step):
            yield block


def _decoded(source: AudioSource) -> Iterator[bytes]:
    rest = b""
    for (block,) in source.blocks():
        # The factor by which decoders divide, so that 16-bit files are unchanged.
        rest += np.clip(np.rint(block * 32768), -32768, 32767).astype("<i2").tobytes()
        size = len(rest) // STEP_BYTES * STEP_BYTES
        yield from (rest[start : start + STEP_BYTES] for start in range(0, size, STEP_BYTES))
        rest = rest[size:]
    source.close()
    if rest:
        yield rest
