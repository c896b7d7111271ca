"""What a live client says of its audio."""

from dataclasses import dataclass

from speechpipe.cascade.audio import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ
from speechpipe.errors import InvalidParameter

RAW = {"linear16": 2, "mulaw": 1, "alaw": 1}
"""Bytes per sample of the encodings that have no container."""

CONTAINED = ("flac", "opus")
"""Encodings that come in a container, which says the rest."""

DEFAULT_RATE_HZ = {"mulaw": 8_000, "alaw": 8_000}
"""Telephone encodings have one rate in practice; guessing that of linear16 would transcribe noise."""


@dataclass(frozen=True, slots=True)
class WireFormat:
    """What the client says of its audio. `encoding` None: a container that says it itself."""

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
        """Samples per second, where they are known beforehand."""
        return self.rate_hz or DEFAULT_RATE_HZ.get(self.encoding or "")

    @property
    def sessions(self) -> int:
        """How many channels are transcribed apart."""
        return self.channels if self.multichannel else 1

    @property
    def bytes_per_s(self) -> float:
        """Bytes of a second; for containers a bound that hardly any exceeds."""
        if self.encoding in RAW and self.rate is not None:
            return float(RAW[self.encoding] * self.channels * self.rate)
        return 32_000.0
