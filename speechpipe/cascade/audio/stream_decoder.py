"""`WireDecoder`: converts live audio from bytes as they arrive to 16 kHz channels.

Raw encodings are converted here. Containers are detected by their first bytes and decoded by FFmpeg. The bytes are a
stream: a message may end within a sample.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from speechpipe.cascade.audio import DECODERS
from speechpipe.cascade.audio.containers.frames import ID3_HEAD_BYTES, id3_bytes, is_id3
from speechpipe.cascade.audio.frame_ends import LEAST_BEHIND
from speechpipe.cascade.audio.g711 import G711
from speechpipe.cascade.audio.live_formats import (
    JUDGED_S,
    MAGIC_BYTES,
    MPEG_BYTES,
    WITHIN_BYTES,
    container,
    may_be_mpeg,
    mistaken,
    not_live,
    recording_in,
)
from speechpipe.cascade.audio.mixdown import Mixdown
from speechpipe.cascade.audio.resample import Resampler
from speechpipe.cascade.audio.wav_stream import WavReader
from speechpipe.cascade.audio.wire_format import RAW, WireFormat
from speechpipe.errors import UndecodableAudio
from speechpipe.types import SAMPLE_RATE_HZ, Notice, Samples

JUDGED_PIECES = 10
"""Pieces of `JUDGED_S` at the beginning of raw audio that are compared with other encodings."""


class WireDecoder:
    """Decoder of one connection's audio. Used by one thread at a time.

    Samples of raw audio are returned by `feed`. A container is decoded on its own thread, and `take` returns its
    samples.
    """

    def __init__(self, wire: WireFormat, on_samples: Callable[[], None] = lambda: None) -> None:
        """Expect audio of this format; `on_samples` is called on the decoding thread when `take` may have samples."""
        self.format = wire
        self.notices: list[Notice] = []
        self.container = ""  # set once known
        self.received_bytes = 0
        self._on_samples = on_samples
        self._rest = b""
        self._begun = False
        self._seen: bytes | None = b""  # the last bytes of samples; None: a recording was found in them
        self._raw_bytes = 0
        self._tagged = False  # an ID3 tag came before the recording
        self._tag_left = 0  # bytes of it that are still to come
        self._late: list[Samples] | None = None  # samples of a `drain` that came before the format was detected
        self._wav: WavReader | None = None
        self._stream: Any = None
        self._judge: Judge | None = None
        self._mixdown = Mixdown()
        self._resamplers: list[Resampler] = []

    # ---- bytes in ----

    def feed(self, data: bytes) -> list[Samples] | None:
        """Take the next bytes; return (n,) samples at 16 kHz for each session, or None.

        Raises:
            UndecodableAudio: the bytes are neither what was declared nor another known format.
        """
        self.received_bytes += len(data)
        if not self._begun:
            self._rest += data
            self._pass_tags()
            if self._tag_left or len(self._rest) < self._needed:
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
        return self._hear_wav(self._wav, data)

    def _hear_wav(self, wav: WavReader, data: bytes, last: bool = False) -> list[Samples] | None:
        blocks: list[Samples] | None = None
        for part in wav.sound(data, self._start, last):  # one at a time: a second recording may have another format
            blocks = _joined(blocks, self._channels(self._raw(part)))
        if wav.another is not None:
            blocks = _joined(blocks, self._tails())
            self._note_left_out(wav)
            rest, self._wav, self._resamplers = wav.another, None, []
            self._open(str(container(rest, certain=True)), rest)
        return blocks

    def finish(self) -> list[Samples] | None:
        """End the audio; return the last samples. For a container call `take` until `exhausted`.

        Raises:
            UndecodableAudio: the bytes are neither what was declared nor another known format.
        """
        first: list[Samples] | None = None
        if not self._begun and self._rest:
            data, self._rest = self._rest, b""
            self._begin(data)
            first = self._take_in(data)
        if self._tagged and not self._begun:
            raise UndecodableAudio("an ID3 tag without a recording behind it")
        if self._wav is not None:
            first = _joined(first, self._hear_wav(self._wav, b"", last=True))
        if self._stream is not None:
            self._stream.finish()
            return first
        if self._wav is not None:
            self._wav.finish()
            self._note_left_out(self._wav)
        if self._rest:
            message = f"{len(self._rest)} bytes at the end are not a complete sample"
            self.notices.append(Notice("partial_sample", message))
        if self._judge is not None:
            self.notices += self._judge.last()
        return _joined(first, self._tails())

    # ---- samples of a container ----

    @property
    def full(self) -> bool:
        """Whether the caller should wait before it feeds more bytes."""
        return self._stream is not None and bool(self._stream.full)

    @property
    def has_samples(self) -> bool:
        """Whether `take` would return samples or raise."""
        return self._late is not None or (self._stream is not None and bool(self._stream.has_samples))

    @property
    def exhausted(self) -> bool:
        """After `finish`: whether all samples but those of `flush` were taken."""
        return self._late is None and (self._stream is None or bool(self._stream.exhausted))

    def drain(self) -> None:
        """Have all complete frames of a container decoded, as nothing follows for now; see `drained`.

        Raises:
            UndecodableAudio: as `feed`.
        """
        if not self._begun and len(self._rest) >= MAGIC_BYTES:  # raw audio that begins like MPEG audio
            data, self._rest = self._rest, b""
            self._begin(data)
            self._late = self._take_in(data)
        if self._stream is not None:
            self._stream.drain()

    @property
    def drained(self) -> bool:
        """After `drain`: whether all samples of what was fed before were taken."""
        return not self.has_samples and (self._stream is None or bool(self._stream.drained))

    @property
    def held_bytes(self) -> int:
        """Bytes of memory for data that was not taken yet."""
        return 0 if self._stream is None else int(self._stream.held_bytes)

    def waiting_s(self, now: float) -> float:
        """Return for how many seconds the oldest sample has waited; `now` is time.monotonic()."""
        return 0.0 if self._stream is None else float(self._stream.waiting_s(now))

    def take(self, most_s: float) -> list[Samples] | None:
        """Return decoded samples as `feed` does, about `most_s` seconds at most; None if there are none.

        Raises:
            SpeechpipeError: the bytes cannot be decoded; raised once, after all decoded samples were taken.
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
        """Drop what is not decoded yet; return its number of bytes."""
        return int(self._stream.abort()) if self._stream is not None else 0

    # ---- detection of the format ----

    def _pass_tags(self) -> None:
        """Drop ID3v2 tags before the recording, which may be of any kind."""
        while self._tag_left or is_id3(self._rest[:ID3_HEAD_BYTES]):
            if not self._tag_left:
                self._tagged, self._tag_left = True, id3_bytes(self._rest[:ID3_HEAD_BYTES])
            passed = min(self._tag_left, len(self._rest))
            self._tag_left, self._rest = self._tag_left - passed, self._rest[passed:]
            if not self._rest:
                return

    @property
    def _needed(self) -> int:
        """Bytes that are needed to detect the format."""
        raw = self.format.encoding in RAW
        return MPEG_BYTES if raw and len(self._rest) >= MAGIC_BYTES and may_be_mpeg(self._rest) else MAGIC_BYTES

    def _begin(self, data: bytes) -> None:
        self._begun = True
        raw = self.format.encoding in RAW
        if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
            self._wav, self.container = WavReader(), "wav"
            return
        name = container(data, certain=raw and not self._tagged)
        if name is None and self._tagged and not_live(data) is None:
            name = "mp3"  # its frames may begin later
        if name is not None:
            if raw:
                message = f"encoding {self.format.encoding} was declared, but the audio is a {name} container"
                self.notices.append(Notice("encoding_mismatch", message))
                self.format = replace(self.format, encoding=None)
            self._open(name)
            return
        if (file := not_live(data)) is not None:
            raise UndecodableAudio(f"this is {file}, which is not supported live: send it as an upload")
        if not raw:
            raise UndecodableAudio("the first bytes are not those of a supported container")
        self._start(self.format)
        self._judge = Judge(self.format.encoding or "", self.format.channels, round(self.format.bytes_per_s))

    def _note_left_out(self, wav: WavReader) -> None:
        if wav.left_out >= LEAST_BEHIND:
            message = f"{wav.left_out} bytes behind the last sample contained no audio"
            self.notices.append(Notice("audio_damaged", message))

    def _open(self, name: str, data: bytes = b"") -> None:
        self.container = name
        self._stream = DECODERS.load("ffmpeg-stream")(name, self._on_samples)
        self._stream.feed(data)

    def _start(self, wire: WireFormat) -> None:
        declared = self.format
        if declared.rate_hz and wire.rate != declared.rate_hz:
            message = f"sample_rate {declared.rate_hz} was declared, but the audio has {wire.rate}, which is used"
            self.notices.append(Notice("sample_rate_mismatch", message))
        if wire.channels != declared.channels:
            if declared.multichannel:
                message = f"{declared.channels} channels were declared, but the audio has {wire.channels}"
                raise UndecodableAudio(message, cause="unsupported_channels")
            message = f"{declared.channels} channels were declared, but the audio has {wire.channels}, which are mixed"
            self.notices.append(Notice("channels_mismatch", message))
        self.format, self._rest = replace(wire, multichannel=declared.multichannel), b""
        assert wire.rate is not None
        self._resamplers = [Resampler(wire.rate) for _ in range(self.format.sessions)]

    # ---- samples ----

    def _raw(self, data: bytes) -> Samples | None:
        encoding, channels = self.format.encoding or "linear16", self.format.channels
        if self._stream is None and (self._wav is None or self._wav.to_the_end):
            self._look_for_recording(data)
        if self._judge is not None and (notice := self._judge.hear(data)) is not None:
            self.notices.append(notice)
        self._raw_bytes += len(data)
        data = self._rest + data
        size = len(data) // (RAW[encoding] * channels) * RAW[encoding] * channels
        self._rest = data[size:]
        if not size:
            return None
        if encoding == "linear16":
            samples = np.frombuffer(data[:size], "<i2").astype(np.float32) / 32768.0
        else:
            samples = G711[encoding][np.frombuffer(data[:size], np.uint8)]
        return samples.reshape(-1, channels)

    def _look_for_recording(self, data: bytes) -> None:
        """Warn once if a recording with a header begins within the samples: its bytes are taken for samples."""
        if self._seen is None:
            return
        looked = self._seen + data
        if (found := recording_in(looked)) is None:
            self._seen = looked[1 - WITHIN_BYTES :]
            return
        at = self._raw_bytes - len(self._seen) + found[0]
        self._seen = None
        message = (
            f"a recording ({found[1]}) begins {at} bytes into audio declared as {self.format.encoding}: its bytes were "
            "taken for samples; send it on a connection of its own"
        )
        self.notices.append(Notice("encoding_mismatch", message))

    def _channels(self, block: Samples | None) -> list[Samples] | None:
        if block is None or not len(block):
            return None
        if self.format.multichannel:
            columns = [np.ascontiguousarray(block[:, index]) for index in range(block.shape[1])]
        else:
            columns = [self._mixdown.feed(block)]
        if self._stream is not None:  # a codec can output NaN, integers cannot
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
    """Compares the first seconds of raw audio with other encodings, and warns once."""

    def __init__(self, encoding: str, channels: int, bytes_per_s: int) -> None:
        self._encoding = encoding
        self._channels = channels
        self._piece = max(1, round(bytes_per_s * JUDGED_S) // 24) * 24
        self._left = JUDGED_PIECES
        self._waiting = bytearray()

    def hear(self, data: bytes) -> Notice | None:
        """Take the next bytes; return the warning if they complete a piece that seems to have another encoding."""
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
        """Return the warning for the last, incomplete piece, if any."""
        notice = self._judged(bytes(self._waiting)) if self._left else None
        return [] if notice is None else [notice]

    def _judged(self, piece: bytes) -> Notice | None:
        found = mistaken(piece, self._encoding, self._channels)
        if found is None:
            return None
        self._left = 0
        self._waiting = bytearray()
        message = f"the audio was declared as {self._encoding} but seems to be {found}: hardly a word can be recognised"
        return Notice("encoding_mismatch", message)
