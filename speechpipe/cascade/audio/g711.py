"""ITU-T G.711 (mu-law and A-law): tables from the 8-bit code to the sample in [-1, 1]."""

import numpy as np

from speechpipe.types import Samples


def _mulaw() -> Samples:
    """Return the mu-law table. Code: sign, three bits of exponent, four of mantissa, all inverted."""
    code = ~np.arange(256, dtype=np.uint8)
    magnitude = ((((code & 0x0F).astype(np.int32) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768.0).astype(np.float32)


def _alaw() -> Samples:
    """Return the A-law table. Code: as mu-law, but with the even bits inverted."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = ((code & 0x70) >> 4).astype(np.int32)
    mantissa = (code & 0x0F).astype(np.int32) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768.0).astype(np.float32)


G711 = {"mulaw": _mulaw(), "alaw": _alaw()}
