"""Guards against hallucinations: text that generative recognizers produce for silence, noise and music.

The compression threshold is Whisper's (Radford et al., 2022); the limit of the speaking rate is that of people.
"""

import zlib

import numpy as np

from speechpipe.types import SAMPLE_RATE_HZ, Samples

MOST_COMPRESSION = 2.4
"""Largest compression ratio, Whisper's value: repetitive text compresses better than real speech."""

LEAST_COMPRESSED = 24
"""Shorter texts (in characters) are not checked by compression."""

MOST_LETTERS_S = 30.0
"""Largest rate in letters per second; a fast speaker reaches 25."""

SILENT_DBFS = -60.0


def silent(samples: Samples) -> bool:
    """Whether (n,) samples are too quiet to contain speech, so that decoding is skipped."""
    level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
    return level <= 10 ** (SILENT_DBFS / 20)


def objection(text: str, samples: int) -> str:
    """Return why a text cannot have been spoken in so many samples; empty if it can."""
    letters = len(text.replace(" ", ""))
    rate = letters * SAMPLE_RATE_HZ / max(samples, 1)
    if rate > MOST_LETTERS_S:
        return f"{rate:.0f} letters per second"
    if len(text) >= LEAST_COMPRESSED:
        data = text.encode()
        ratio = len(data) / len(zlib.compress(data))
        if ratio > MOST_COMPRESSION:
            return f"repetitive text, compression ratio {ratio:.1f}"
    return ""
