"""The audio format that a live client declares."""

from dataclasses import dataclass

from speechpipe.cascade.audio import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ
from speechpipe.errors import InvalidParameter

RAW = {"linear16": 2, "mulaw": 1, "alaw": 1}
"""Bytes per sample of the encodings that have no container."""

CONTAINED = ("flac", "opus")
"""Encodings that are sent in a container, which has rate and channels."""

DEFAULT_RATE_HZ = {"mulaw": 8_000, "alaw": 8_000}
"""Rates of encodings that have only one in practice. linear16 has no default: a wrong rate would give no text."""


@dataclass(frozen=True, slots=True)
class WireFormat:
    """Declared format of live audio. `encoding` None: a container, which describes itself.

    Raises:
        InvalidParameter: a value is unknown or out of bounds, or the rate is missing.
    """

    encoding: str | None = None
    rate_hz: int | None = None
    channels: int = 1
    multichannel: bool = False

    def __post_init__(self) -> None:
        if self.encoding is not None and self.encoding not in (*RAW, *CONTAINED):
            known = ", ".join([*RAW, *CONTAINED])
            message = f"unknown encoding {self.encoding!r}; known: {known}, or none for a container"
            raise InvalidParameter(message, param="encoding")
        if self.encoding in RAW and self.rate is None:
            raise InvalidParameter(f"sample_rate is needed with encoding {self.encoding}", param="sample_rate")
        if self.rate_hz is not None and not MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ:
            message = f"sample_rate {self.rate_hz} is outside {MIN_RATE_HZ}..{MAX_RATE_HZ} Hz"
            raise InvalidParameter(message, param="sample_rate")
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise InvalidParameter(f"channels must be 1 to {MAX_CHANNELS}, not {self.channels}", param="channels")

    @property
    def rate(self) -> int | None:
        """Samples per second, if known before the audio arrives."""
        return self.rate_hz or DEFAULT_RATE_HZ.get(self.encoding or "")

    @property
    def sessions(self) -> int:
        """Number of sessions: of channels that are transcribed separately."""
        return self.channels if self.multichannel else 1

    @property
    def bytes_per_s(self) -> float:
        """Bytes per second of audio; for containers an upper bound that is hardly ever exceeded."""
        if self.encoding in RAW and self.rate is not None:
            return float(RAW[self.encoding] * self.channels * self.rate)
        return 32_000.0
