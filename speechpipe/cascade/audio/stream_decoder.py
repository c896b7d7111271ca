"""Live audio off the wire: bytes as they arrive -> 16 kHz channels.

Raw encodings are converted here; containers are recognised by their first bytes and go to FFmpeg. Bytes are a
stream: a message may end in the middle of a sample, the rest comes with the next one.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from speechpipe.cascade.audio import DECODERS
from speechpipe.cascade.audio.g711 import G711
from speechpipe.cascade.audio.mixdown import Mixdown
from speechpipe.cascade.audio.resample import Resampler
from speechpipe.cascade.audio.signatures import (
    JUDGED_S,
    MAGIC_BYTES,
    MPEG_BYTES,
    container,
    may_be_mpeg,
    mistaken,
    not_live,
)
from speechpipe.cascade.audio.wav_stream import WavReader
from speechpipe.cascade.audio.wire_format import RAW, WireFormat
from speechpipe.errors import UndecodableAudio
from speechpipe.types import SAMPLE_RATE_HZ, Notice, Samples

JUDGED_PIECES = 10
"""Seconds of raw audio, at the beginning, that are compared with other encodings."""


class WireDecoder:
    """State of one connection's audio; used by one thread at a time.

    Raw audio comes back from `feed`. A container is decoded on a thread of its own: its samples come from `take`.
    """

    def __init__(self, wire: WireFormat, on_samples: Callable[[], None] = lambda: None) -> None:
        """Expect audio of this format; `on_samples` is called from another thread when a container gave samples."""
        self.format = wire
        self.notices: list[Notice] = []
        self.container = ""  # set once known
        self.received_bytes = 0
        self._on_samples = on_samples
        self._rest = b""
        self._begun = False
        self._late: list[Samples] | None = None  # of a drain before it was known what this is
        self._wav: WavReader | None = None
        self._stream: Any = None
        self._judge: Judge | None = None
        self._mixdown = Mixdown()
        self._resamplers: list[Resampler] = []

    # ---- bytes in ----

    def feed(self, data: bytes) -> list[Samples] | None:
        """Take the next bytes; return (n,) samples at 16 kHz for each transcribed channel, or None.

        Raises:
            UndecodableAudio: not what was announced, and nothing else that is known.
        """
        self.received_bytes += len(data)
        if not self._begun:
            self._rest += data
            if len(self._rest) < self._needed:
                return None
            data, self._rest = self._rest, b""
            self._begin(data)
        return self._take_in(data)

    def _take_in(self, data: bytes) -> list[Samples] | None:
        if self._stream is not None:
            self._stream.feed(data)
            return None
        if self._wav is None:
            return self._channels(self._raw(data)) if data else None
        blocks: list[Samples] | None = None
        for part in self._wav.sound(data, self._start):  # in turn: a second recording may have another format
            blocks = _joined(blocks, self._channels(self._raw(part)))
        if self._wav.another is not None:
            rest, self._wav, self._resamplers = self._wav.another, None, []
            self._open(str(container(rest, certain=True)), rest)
        return blocks

    def finish(self) -> list[Samples] | None:
        """End the audio; return what was left. A container's samples still come from `take`, until `exhausted`.

        Raises:
            UndecodableAudio: not what was announced, and nothing else that is known.
        """
        first: list[Samples] | None = None
        if not self._begun and self._rest:
            data, self._rest = self._rest, b""
            self._begin(data)
            first = self._take_in(data)
        if self._stream is not None:
            self._stream.finish()
            return None
        if self._wav is not None:
            self._wav.finish()
        if self._rest:
            self.notices.append(Notice("partial_sample", f"{len(self._rest)} bytes at the end are no whole sample"))
        if self._judge is not None:
            self.notices += self._judge.last()
        return _joined(first, self._tails())

    # ---- what a container gave ----

    @property
    def full(self) -> bool:
        """Whether bytes should be held back for a while."""
        return self._stream is not None and bool(self._stream.full)

    @property
    def has_samples(self) -> bool:
        """Whether `take` has something to return or to raise."""
        return self._late is not None or (self._stream is not None and bool(self._stream.has_samples))

    @property
    def exhausted(self) -> bool:
        """After `finish`: whether everything has been taken but for `flush`."""
        return self._late is None and (self._stream is None or bool(self._stream.exhausted))

    def drain(self) -> None:
        """Have a container decoded as far as its bytes are whole: nothing follows for now; see `drained`.

        Raises:
            UndecodableAudio: as `feed`.
        """
        if not self._begun and len(self._rest) >= MAGIC_BYTES:  # raw audio that begins as MPEG audio does
            data, self._rest = self._rest, b""
            self._begin(data)
            self._late = self._take_in(data)
        if self._stream is not None:
            self._stream.drain()

    @property
    def drained(self) -> bool:
        """After `drain`: whether everything that was fed before has been taken."""
        return not self.has_samples and (self._stream is None or bool(self._stream.drained))

    @property
    def held_bytes(self) -> int:
        """Memory that is held for what has not been taken."""
        return 0 if self._stream is None else int(self._stream.held_bytes)

    def waiting_s(self, now: float) -> float:
        """Return for how long samples wait to be taken; `now` is time.monotonic()."""
        return 0.0 if self._stream is None else float(self._stream.waiting_s(now))

    def take(self, most_s: float) -> list[Samples] | None:
        """Return what is decoded, about `most_s` seconds of it at most; as `feed`.

        Raises:
            SpeechpipeError: the bytes cannot be decoded; once, after what could be.
        """
        if self._late is not None:
            late, self._late = self._late, None
            return late
        block = self._stream.take(most_s) if self._stream is not None else None
        if block is not None and not self._resamplers:
            info = self._stream.info
            self._mixdown = Mixdown(info.layout, info.rate_hz)
            self._start(WireFormat(self.format.encoding or "opus", info.rate_hz, info.channels))
        return self._channels(block)

    def flush(self) -> list[Samples] | None:
        """Return the last samples of a container, once `exhausted`."""
        if self._stream is None:
            return None
        self.notices += self._stream.notices
        return self._tails()

    def abort(self) -> int:
        """Give up what is not decoded yet; return how many bytes that was."""
        return int(self._stream.abort()) if self._stream is not None else 0

    # ---- what is it ----

    @property
    def _needed(self) -> int:
        """Bytes that are needed to know what this is."""
        raw = self.format.encoding in RAW
        return MPEG_BYTES if raw and len(self._rest) >= MAGIC_BYTES and may_be_mpeg(self._rest) else MAGIC_BYTES

    def _begin(self, data: bytes) -> None:
        self._begun = True
        raw = self.format.encoding in RAW
        if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
            self._wav, self.container = WavReader(), "wav"
            return
        name = container(data, certain=raw)
        if name is not None:
            if raw:
                message = (
                    f"encoding {self.format.encoding} was declared, the audio is a {name} container: it is believed"
                )
                self.notices.append(Notice("encoding_mismatch", message))
                self.format = replace(self.format, encoding=None)
            self._open(name)
            return
        if (file := not_live(data)) is not None:
            raise UndecodableAudio(f"this is {file}, which is not decoded live: send it as an upload")
        if not raw:
            raise UndecodableAudio("the first bytes belong to no container that is known here")
        self._start(self.format)
        self._judge = Judge(self.format.encoding or "", self.format.channels, round(self.format.bytes_per_s))

    def _open(self, name: str, data: bytes = b"") -> None:
        self.container = name
        self._stream = DECODERS.load("ffmpeg-stream")(name, self._on_samples)
        self._stream.feed(data)

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
        self.format, self._rest = replace(wire, multichannel=declared.multichannel), b""
        assert wire.rate is not None
        self._resamplers = [Resampler(wire.rate) for _ in range(self.format.sessions)]

    # ---- samples ----

    def _raw(self, data: bytes) -> Samples | None:
        encoding, channels = self.format.encoding or "linear16", self.format.channels
        if self._judge is not None and (notice := self._judge.hear(data)) is not None:
            self.notices.append(notice)
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

    def _tails(self) -> list[Samples] | None:
        return [np.clip(resampler.finish(), -1.0, 1.0) for resampler in self._resamplers] or None

    @property
    def rate_hz(self) -> int:
        """Samples per second of the audio as sent, once known."""
        return self.format.rate or SAMPLE_RATE_HZ


def _joined(first: list[Samples] | None, last: list[Samples] | None) -> list[Samples] | None:
    if first is None or last is None:
        return first or last
    return [np.concatenate(pair) for pair in zip(first, last, strict=True)]


class Judge:
    """Hears the first seconds of raw audio, and says once if they sound like another encoding."""

    def __init__(self, encoding: str, channels: int, bytes_per_s: int) -> None:
        self._encoding = encoding
        self._channels = channels
        self._piece = max(1, round(bytes_per_s * JUDGED_S) // 24) * 24
        self._left = JUDGED_PIECES
        self._waiting = bytearray()

    def hear(self, data: bytes) -> Notice | None:
        """Take the next bytes; return the warning, if this is the moment for it."""
        if not self._left:
            return None
        self._waiting += data
        while self._left and len(self._waiting) >= self._piece:
            piece = bytes(self._waiting[: self._piece])
            del self._waiting[: self._piece]
            self._left -= 1
            if (notice := self._judged(piece)) is not None:
                return notice
        return None

    def last(self) -> list[Notice]:
        """Return what is to be said of what was left."""
        notice = self._judged(bytes(self._waiting)) if self._left else None
        return [] if notice is None else [notice]

    def _judged(self, piece: bytes) -> Notice | None:
        found = mistaken(piece, self._encoding, self._channels)
        if found is None:
            return None
        self._left = 0
        self._waiting = bytearray()
        message = f"the audio was declared as {self._encoding} and sounds like {found}: hardly a word can be recognised"
        return Notice("encoding_mismatch", message)
