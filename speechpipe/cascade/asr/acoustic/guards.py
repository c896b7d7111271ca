"""Guards against text that nobody said: what generative recognizers write over silence, noise and music.

Thresholds of compression and of speaking rate are Whisper's (Radford et al., 2022) and human ones.
"""

import zlib

import numpy as np

from speechpipe.types import SAMPLE_RATE_HZ, Samples

MOST_COMPRESSION = 2.4
"""Whisper's: text that repeats itself compresses better than speech does."""

LEAST_COMPRESSED = 24
"""Letters; shorter text says nothing by its compression."""

MOST_LETTERS_S = 30.0
"""A fast speaker says 25 letters a second."""

SILENT_DBFS = -60.0


def silent(samples: Samples) -> bool:
    """Whether (n,) samples hold nothing that could be speech: then nobody is asked what they say."""
    level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
    return level <= 10 ** (SILENT_DBFS / 20)


def objection(text: str, samples: int) -> str:
    """Return why nobody can have said a text in so many samples; empty if somebody can."""
    letters = len(text.replace(" ", ""))
    rate = letters * SAMPLE_RATE_HZ / max(samples, 1)
    if rate > MOST_LETTERS_S:
        return f"{rate:.0f} letters a second"
    if len(text) >= LEAST_COMPRESSED:
        data = text.encode()
        ratio = len(data) / len(zlib.compress(data))
        if ratio > MOST_COMPRESSION:
            return f"it repeats itself: a compression of {ratio:.1f}"
    return ""
