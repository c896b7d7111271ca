"""Scale of float recordings that do not use +-1: written as integers (+-32768), or far too loud."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from speechpipe.types import Notice, Samples

FLOAT_CODECS = ("FLOAT", "DOUBLE", "pcm_f")
SCALED_SHARE = 0.01
"""If more than this share of the non-zero samples exceed full scale, the recording is rescaled; fewer are clipped."""

OUTLIERS = 0.001
INTEGER_BITS = (7, 15, 23, 31)
LEAST_INTEGER_PEAK = 256.0
_LOWEST = -150  # exponents below count as silence


@dataclass(frozen=True, slots=True)
class Scale:
    """The factor for the samples, and the notice about it."""

    factor: float = 1.0
    notice: Notice | None = None


def scale_of(blocks: Iterable[Samples], most_frames: float = float("inf")) -> Scale:
    """Return the scale of a float recording, from at most `most_frames` of its frames."""
    counts = np.zeros(512, np.int64)
    integers = True
    seen = 0
    for block in blocks:
        values = np.abs(block[np.isfinite(block)])
        values = values[values > 0]
        # The factor keeps values of exactly full scale in range.
        exponents = np.clip(np.frexp(values * (1 - 2.0**-20))[1], _LOWEST, 200) - _LOWEST  # value < 2**exponent
        counts += np.bincount(exponents, minlength=len(counts))[: len(counts)]
        integers = integers and bool(np.all(values == np.rint(values)))
        seen += len(block)
        if seen >= most_frames:
            break
    total = int(counts.sum())
    beyond = int(counts[1 - _LOWEST :].sum())
    if total == 0 or beyond <= SCALED_SHARE * total:
        return Scale()
    above = np.cumsum(counts[::-1])[::-1]  # samples with this exponent or a larger one
    bits = int(np.flatnonzero(above > OUTLIERS * total)[-1]) + _LOWEST
    if integers or 2.0**bits > LEAST_INTEGER_PEAK:
        fitting = next((size for size in INTEGER_BITS if size >= bits and (size > 7 or integers)), bits)
        message = f"the float samples are scaled to +-{2**fitting}, not to +-1; they were divided by that"
        return Scale(2.0**-fitting, Notice("rescaled", message))
    message = f"{beyond} samples exceed full scale; the recording was divided by {2**bits}"
    return Scale(2.0**-bits, Notice("over_full_scale", message))
