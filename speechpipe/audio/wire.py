"""Live audio off the wire: bytes as they arrive -> 16 kHz channels.

Raw encodings are converted here; containers are recognised by their first bytes and go to FFmpeg. Bytes are a
stream: a message may end in the middle of a sample, the rest comes with the next one.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from speechpipe.audio import DECODERS, MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ
from speechpipe.audio.mixdown import Mixdown
from speechpipe.audio.resample import Resampler
from speechpipe.errors import InvalidParameter, UndecodableAudio
from speechpipe.types import SAMPLE_RATE_HZ, Notice, Samples

RAW = {"linear16": 2, "mulaw": 1, "alaw": 1}
"""Bytes per sample of the encodings that have no container."""

CONTAINED = ("flac", "opus")
"""Encodings that come in a container, which says the rest."""

DEFAULT_RATE_HZ = {"mulaw": 8_000, "alaw": 8_000}
"""Telephone encodings have one rate in practice; guessing that of linear16 would transcribe noise."""

MAGIC = (
    (0, b"OggS", "ogg"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"fLaC", "flac"),
    (0, b"ID3", "mp3"),
    (0, b"\xff\xfb", "mp3"),
    (0, b"\xff\xf3", "mp3"),
    (0, b"\xff\xf1", "aac"),
    (0, b"\xff\xf9", "aac"),
    (4, b"ftyp", "mp4"),
)
MAGIC_BYTES = 12
MAX_WAV_HEADER = 64 * 1024
WAV_ENCODINGS = {(1, 16): "linear16", (7, 8): "mulaw", (6, 8): "alaw"}  # (format tag, bits) of RFC 2361


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


class WireDecoder:
    """State of one connection's audio; used by one thread at a time."""

    def __init__(self, wire: WireFormat, on_samples: Callable[[], None] = lambda: None) -> None:
        """Expect audio of this format; `on_samples` is called from another thread when a container gave samples."""
        self.format = wire
        self.notices: list[Notice] = []
        self.container = ""  # set once known
        self.received_bytes = 0
        self._on_samples = on_samples
        self._rest = b""
        self._begun = False
        self._wav = False
        self._stream: Any = None
        self._mixdown = Mixdown()
        self._resamplers: list[Resampler] = []

    @property
    def full(self) -> bool:
        """Whether bytes should be held back for a while."""
        return self._stream is not None and self._stream.full

    def feed(self, data: bytes) -> list[Samples] | None:
        """Take the next bytes; return (n,) samples at 16 kHz for each transcribed channel, or None.

        Raises:
            UndecodableAudio: not what was announced, and nothing else that is known.
        """
        self.received_bytes += len(data)
        if not self._begun:
            self._rest += data
            if len(self._rest) < MAGIC_BYTES:
                return None
            data, self._rest = self._rest, b""
            self._begin(data)
        if self._wav:
            data = self._after_wav_header(self._rest + data)
        if self._stream is not None:
            return self._channels(self._checked(self._stream.feed(data)))
        return self._channels(self._raw(data)) if data else None

    def finish(self) -> list[Samples] | None:
        """End the audio; return what was left.

        Raises:
            UndecodableAudio: not what was announced, and nothing else that is known.
        """
        if not self._begun and self._rest:
            data, self._rest = self._rest, b""
            self._begin(data)
            if self._stream is None and not self._wav:
                last = self._raw(data)
                return self._ended(last)
            self._rest = data
        if self._stream is None:
            if self._rest and not self._wav:
                self.notices.append(Notice("partial_sample", f"{len(self._rest)} bytes at the end are no whole sample"))
            return self._ended(None)
        return self._ended(self._checked(self._stream.finish()))

    def abort(self) -> None:
        """Give up."""
        if self._stream is not None:
            self._stream.abort()

    # ---- what is it ----

    def _begin(self, data: bytes) -> None:
        self._begun = True
        if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
            self._wav, self.container = True, "wav"
            return
        if self.format.encoding in RAW:
            self._start(self.format)
            return
        for offset, magic, name in MAGIC:
            if data[offset : offset + len(magic)] == magic:
                self.container = name
                self._stream = DECODERS.load("ffmpeg-stream")(name, self._on_samples)
                return
        raise UndecodableAudio("the first bytes belong to no container that is known here")

    def _start(self, wire: WireFormat) -> None:
        declared = self.format
        if declared.rate_hz and wire.rate != declared.rate_hz:
            message = f"sample_rate {declared.rate_hz} was declared, the audio says {wire.rate}: it is believed"
            self.notices.append(Notice("sample_rate_mismatch", message))
        if wire.channels != declared.channels:
            if declared.multichannel:
                message = f"{declared.channels} channels were declared, the audio has {wire.channels}"
                raise UndecodableAudio(message, cause="unsupported_channels")
            message = f"{declared.channels} channels were declared, the audio has {wire.channels}: they are mixed"
            self.notices.append(Notice("channels_mismatch", message))
        self.format = replace(wire, multichannel=declared.multichannel)
        assert wire.rate is not None
        self._resamplers = [Resampler(wire.rate) for _ in range(self.format.sessions)]

    def _checked(self, samples: Samples | None) -> Samples | None:
        """Learn rate and channels from a container's first samples."""
        if samples is not None and not self._resamplers:
            info = self._stream.info
            self._start(WireFormat(self.format.encoding or "opus", info.rate_hz, info.channels))
        return samples

    def _after_wav_header(self, data: bytes) -> bytes:
        """Read the chunks up to `data`; what follows it is raw."""
        position, found = 12, None
        while len(data) >= position + 8:
            name, size = data[position : position + 4], struct.unpack_from("<I", data, position + 4)[0]
            if name == b"data":
                if found is None:
                    raise UndecodableAudio("wav: no format before the data")
                self._wav, self._rest = False, b""
                self._start(found)
                return data[position + 8 :]
            if name == b"fmt " and len(data) >= position + 24:
                tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, position + 8)
                if tag == 0xFFFE and len(data) >= position + 34:  # WAVE_FORMAT_EXTENSIBLE: the tag is further on
                    tag = struct.unpack_from("<H", data, position + 32)[0]
                if (tag, bits) not in WAV_ENCODINGS:
                    raise UndecodableAudio(f"wav: format {tag} with {bits} bits is not streamed; send 16-bit PCM")
                try:
                    found = WireFormat(WAV_ENCODINGS[tag, bits], rate, channels)
                except InvalidParameter as error:
                    raise UndecodableAudio(f"wav: {error.message}") from error
            position += 8 + size + size % 2
        if len(data) > MAX_WAV_HEADER:
            raise UndecodableAudio("wav: no data chunk")
        self._rest = data
        return b""

    # ---- samples ----

    def _raw(self, data: bytes) -> Samples | None:
        encoding, channels = self.format.encoding or "linear16", self.format.channels
        data = self._rest + data
        whole = len(data) // (RAW[encoding] * channels) * RAW[encoding] * channels
        self._rest = data[whole:]
        if not whole:
            return None
        if encoding == "linear16":
            samples = np.frombuffer(data[:whole], "<i2").astype(np.float32) / 32768.0
        else:
            samples = G711[encoding][np.frombuffer(data[:whole], np.uint8)]
        return samples.reshape(-1, channels)

    def _channels(self, block: Samples | None) -> list[Samples] | None:
        if block is None or not len(block):
            return None
        if self.format.multichannel:
            columns = [np.ascontiguousarray(block[:, index]) for index in range(block.shape[1])]
        else:
            columns = [self._mixdown.feed(block)]
        if self._stream is not None:  # a codec may give anything; integers cannot
            columns = [np.nan_to_num(column) for column in columns]
        resampled = [resampler.feed(column) for resampler, column in zip(self._resamplers, columns, strict=True)]
        if self._stream is None and self.rate_hz == SAMPLE_RATE_HZ:
            return resampled
        return [np.clip(samples, -1.0, 1.0) for samples in resampled]

    def _ended(self, last: Samples | None) -> list[Samples] | None:
        blocks = self._channels(last)
        tails = [np.clip(resampler.finish(), -1.0, 1.0) for resampler in self._resamplers]
        if blocks is None:
            return tails or None
        return [np.concatenate(pair) for pair in zip(blocks, tails, strict=True)]

    @property
    def rate_hz(self) -> int:
        """Samples per second of the audio as sent, once known."""
        return self.format.rate or SAMPLE_RATE_HZ


def _mulaw() -> Samples:
    """ITU-T G.711, mu-law: sign, three bits of exponent, four of mantissa, all inverted."""
    code = ~np.arange(256, dtype=np.uint8)
    magnitude = ((((code & 0x0F).astype(np.int32) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768.0).astype(np.float32)


def _alaw() -> Samples:
    """ITU-T G.711, A-law: even bits inverted."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = ((code & 0x70) >> 4).astype(np.int32)
    mantissa = (code & 0x0F).astype(np.int32) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768.0).astype(np.float32)


G711 = {"mulaw": _mulaw(), "alaw": _alaw()}
