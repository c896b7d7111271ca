"""Test whether bytes behind the samples of a file are more samples, by their statistics."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.g711 import G711

Piece = NDArray[np.uint8]

PIECES = 8
PIECE_BYTES = 2**14
MOST_FRAME_BYTES = 64
LEAST_FRAMES = 512
"""With fewer frames nothing can be said."""

CODED_BITS = 7.7
"""Bits per byte: compressed and encrypted data have nearly 8, samples hardly ever so many."""

CODED_MORE = 0.12
SMOOTH = 0.35
"""Correlation of neighbouring frames: near 0 for other data than samples, above 0.7 for speech."""

LESS_SMOOTH = 0.25
QUIET_BITS = 5.0
"""Samples of near silence are noise of few different values."""


def goes_on(file: ByteRange, before: tuple[int, int], after: tuple[int, int], frame: int, law: str = "") -> bool | None:
    """Return whether the bytes `after` (begin, end) are samples like those `before`; None if there are too few.

    Args:
        file: what holds both.
        before: the range of the samples whose length is stated.
        after: the range that follows.
        frame: bytes of one frame of all channels.
        law: `mulaw` or `alaw` for such samples.
    """
    width = frame if 0 < frame <= MOST_FRAME_BYTES else 1
    return alike(_pieces(file, *before, width), _pieces(file, *after, width), law)


def alike(before: Sequence[Piece], after: Sequence[Piece], law: str = "") -> bool | None:
    """Return whether the pieces `after` are samples like those `before`; None if they are too short."""
    old, new = _Judged(before, law), _Judged(after, law)
    if not old.known or not new.known:
        return None
    coded = sum(bits > CODED_BITS and bits > max(old.bits) + CODED_MORE for bits in new.bits)
    if coded * 2 >= len(new.bits):
        return False
    return max(new.smooth) >= min(SMOOTH, max(old.smooth) - LESS_SMOOTH) or max(new.bits) < QUIET_BITS


def frames_of(data: bytes, frame: int) -> Piece:
    """Return (frames, bytes of a frame) of the whole frames in `data`."""
    return np.frombuffer(data[: len(data) // frame * frame], np.uint8).reshape(-1, frame)


def _pieces(file: ByteRange, begin: int, end: int, frame: int) -> list[Piece]:
    """Return pieces of whole frames, spread over the range: (frames, bytes of a frame)."""
    count = max(1, min(PIECES, (end - begin) // PIECE_BYTES))
    step = (end - begin) // count // frame * frame
    places = [begin + step * number for number in range(count)]
    return [frames_of(file.at(place, min(PIECE_BYTES, end - place)), frame) for place in places]


class _Judged:
    """Statistics of pieces: bits per byte, and how alike neighbouring frames are."""

    def __init__(self, pieces: Sequence[Piece], law: str) -> None:
        pieces = [piece for piece in pieces if len(piece) >= LEAST_FRAMES]
        self.known = bool(pieces)
        self.bits = [float(np.mean([_bits(column) for column in piece.T])) for piece in pieces]
        self.smooth = [max(_smoothness(column, law) for column in piece.T) for piece in pieces]


def _bits(column: Piece) -> float:
    """Return the entropy of these bytes in bits, with Miller's and Madow's correction for short data."""
    counts = np.bincount(column, minlength=256)
    share = counts[counts > 0] / len(column)
    return float(-np.sum(share * np.log2(share))) + (len(share) - 1) / (2 * len(column) * math.log(2))


def _smoothness(column: Piece, law: str) -> float:
    """Return the correlation of these bytes with those of the next frame, the better of signed and unsigned ones."""
    column = np.ascontiguousarray(column)
    readings = [G711[law][column]] if law else [column.view(np.int8), column]
    return max(_correlation(values.astype(np.float64)) for values in readings)


def _correlation(values: NDArray[np.float64]) -> float:
    """Return the correlation of neighbouring values; 1 if all are equal."""
    centred = values - values.mean()
    power = float(np.dot(centred, centred))
    return float(np.dot(centred[1:], centred[:-1])) / power if power > 0 else 1.0
