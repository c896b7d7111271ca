"""Float samples that are not scaled to +-1: written as whole numbers (+-32768), or far too loud."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from speechpipe.types import Notice, Samples

FLOAT_CODECS = ("FLOAT", "DOUBLE", "pcm_f")
SCALED_SHARE = 0.01
"""A larger share of the sounding samples beyond full scale is a scale; a smaller one are peaks, which are clipped."""

OUTLIERS = 0.001
INTEGER_BITS = (7, 15, 23, 31)
LEAST_INTEGER_PEAK = 256.0
_LOWEST = -150  # exponents below count as silence


@dataclass(frozen=True, slots=True)
class Scale:
    """What to multiply by."""

    factor: float = 1.0
    notice: Notice | None = None


def scale_of(blocks: Iterable[Samples], most_frames: float = float("inf")) -> Scale:
    """Look through a recording of floats, at most `most_frames` of it, and return its scale."""
    counts = np.zeros(512, np.int64)
    whole = True
    seen = 0
    for block in blocks:
        values = np.abs(block[np.isfinite(block)])
        values = values[values > 0]
        # Exactly full scale is not beyond it.
        exponents = np.clip(np.frexp(values * (1 - 2.0**-20))[1], _LOWEST, 200) - _LOWEST  # value < 2**exponent
        counts += np.bincount(exponents, minlength=len(counts))[: len(counts)]
        whole = whole and bool(np.all(values == np.rint(values)))
        seen += len(block)
        if seen >= most_frames:
            break
    total = int(counts.sum())
    beyond = int(counts[1 - _LOWEST :].sum())
    if total == 0 or beyond <= SCALED_SHARE * total:
        return Scale()
    above = np.cumsum(counts[::-1])[::-1]  # samples with this exponent or a larger one
    bits = int(np.flatnonzero(above > OUTLIERS * total)[-1]) + _LOWEST
    if whole or 2.0**bits > LEAST_INTEGER_PEAK:
        fitting = next((size for size in INTEGER_BITS if size >= bits and (size > 7 or whole)), bits)
        message = f"the float samples are scaled to +-{2**fitting}, not to +-1; they were divided by that"
        return Scale(2.0**-fitting, Notice("rescaled", message))
    message = f"{beyond} samples go beyond full scale; the recording was divided by {2**bits}"
    return Scale(2.0**-bits, Notice("over_full_scale", message))
