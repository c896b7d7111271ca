"""`AudioSource`: a file as blocks of 16 kHz channels (decode, scale, repair, mix or split, resample), within limits."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from speechpipe.cascade.audio import AudioDecoder, AudioInfo, Wish
from speechpipe.cascade.audio.levels import Loudest
from speechpipe.cascade.audio.mixdown import Mixdown
from speechpipe.cascade.audio.parts import Parts
from speechpipe.cascade.audio.resample import Resampler
from speechpipe.cascade.audio.scale import FLOAT_CODECS, scale_of
from speechpipe.errors import EmptyAudio, InvalidParameter, TooLarge
from speechpipe.types import Notice, Samples

OVER_FULL_SCALE = 1.0
CANCELLED_NOTICE_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class ChannelChoice:
    """Channels to transcribe: the mix (default), one of them, or each separately; and the audio track.

    Channels and tracks are numbered from 0. Without `track`, the track flagged as default is used, else the first.
    """

    channel: int | None = None
    multichannel: bool = False
    track: int | None = None

    def __post_init__(self) -> None:
        if self.multichannel and self.channel is not None:
            raise InvalidParameter("choose one channel or multichannel, not both", param="channel")


class AudioSource:
    """A file as blocks at 16 kHz. Used by one thread at a time.

    `blocks` yields a list for each decoded block: one mono block, or one for each channel. Each is (n,) float32, finite
    and in [-1, 1].
    """

    def __init__(self, file: BinaryIO, choice: ChannelChoice, max_s: float | None = None) -> None:
        """Open `file`, which must have a descriptor.

        Raises:
            EmptyAudio: the file has no bytes.
            UndecodableAudio: no decoder can read it, or its rate or number of channels is not supported.
            InvalidParameter: the chosen channel or track does not exist.
            TooLarge: its header says that it is longer than `max_s` seconds.
        """
        self._parts = Parts(file, Wish(choice.track, max_s))
        self._max_s = max_s
        self._choice = choice
        self._converter: _Converter | None = None
        self._nonfinite = 0
        self._over_scale = 0
        self._cancelled_s = self._centred_s = 0.0
        self._scales: list[Notice] = []
        self._loudest: list[Loudest] = []
        self._decoded_s = 0.0
        self.wall_s = 0.0  # time spent in decoding, repair, mixing and resampling
        try:
            self._check_header()
        except BaseException:
            self._parts.close()
            raise
        self.sessions = self.info.channels if choice.multichannel else 1
        self._loudest = [Loudest() for _ in range(self.sessions)]

    @property
    def info(self) -> AudioInfo:
        """Format of the file; of its first recording if it has several."""
        return self._parts.info

    @property
    def decoded_s(self) -> float:
        """Seconds decoded so far, before resampling."""
        return self._decoded_s

    @property
    def channel_correlation(self) -> float | None:
        """Correlation of the first two channels so far, -1..1; None for mono or silence."""
        return None if self._converter is None else self._converter.mixdown.correlation

    def _check_header(self) -> None:
        info = self.info
        if self._choice.channel is not None and not 0 <= self._choice.channel < info.channels:
            message = f"channel {self._choice.channel} does not exist; the file has {info.channels} (0-based)"
            raise InvalidParameter(message, param="channel")
        # Refuse by the header now, as far as it is plausible: refusing later would cost hours of decoding.
        if self._max_s is not None and self._parts.believed_s > self._max_s:
            raise _too_long(self._parts.believed_s, self._max_s)

    def blocks(self) -> Iterator[list[Samples]]:
        """Decode all recordings of the file to the end.

        Raises:
            TooLarge: more than `max_s` seconds were decoded.
        """
        for decoder in self._parts:
            scaled = self._scaled(decoder)
            converter = _Converter(scaled.decoder.info, self._choice, self.sessions, scaled.factor)
            self._converter = converter
            decoded = scaled.decoder.blocks()
            while True:
                begun = time.perf_counter()
                block = next(decoded, None)
                if block is None:
                    break
                self._decoded_s += len(block) / decoder.info.rate_hz
                if self._max_s is not None and self._decoded_s > self._max_s:
                    raise _too_long(self._decoded_s, self._max_s)
                resampled = converter.feed(self._repair(block, converter.scale))
                for loudest, channel in zip(self._loudest, resampled, strict=True):
                    loudest.feed(channel)
                self.wall_s += time.perf_counter() - begun
                yield resampled
            yield converter.finish()
            self._cancelled_s += converter.mixdown.cancelled / decoder.info.rate_hz
            self._centred_s += converter.mixdown.centred / decoder.info.rate_hz

    def _scaled(self, decoder: AudioDecoder) -> "_Scaled":
        """Return the decoder with the scale factor of its samples; float recordings are scanned once for it."""
        if not decoder.info.codec.startswith(FLOAT_CODECS):
            return _Scaled(decoder)
        begun = time.perf_counter()
        scale = scale_of(decoder.blocks(), (self._max_s or float("inf")) * decoder.info.rate_hz)
        if scale.notice is not None:
            self._scales.append(scale.notice)
        decoder = self._parts.again()
        self.wall_s += time.perf_counter() - begun
        return _Scaled(decoder, scale.factor)

    def _repair(self, block: Samples, scale: float) -> Samples:
        # Float files can contain NaN, and one NaN would spoil the VAD's state for the rest of the session.
        finite = np.isfinite(block)
        if not finite.all():
            self._nonfinite += int(block.size - np.count_nonzero(finite))
            block = np.nan_to_num(block, nan=0.0, posinf=1.0, neginf=-1.0)
        if scale != 1.0:
            block = block * np.float32(scale)
        peak = float(np.abs(block).max(initial=0.0))
        if peak > OVER_FULL_SCALE:
            self._over_scale += int(np.count_nonzero(np.abs(block) > OVER_FULL_SCALE))
            block = np.clip(block, -1.0, 1.0)
        return block

    @property
    def notices(self) -> list[Notice]:
        """Notices for the client; complete once `blocks` has ended."""
        notices = [*self._parts.notices, *self._scales[:1]]
        if self._nonfinite:
            notices.append(Notice("non_finite_samples", f"{self._nonfinite} NaN or infinite samples were replaced"))
        if self._over_scale:
            notices.append(Notice("over_full_scale", f"{self._over_scale} samples beyond full scale were clipped"))
        if self._cancelled_s > CANCELLED_NOTICE_SHARE * self._decoded_s:
            message = f"channels cancel each other for {self._cancelled_s:.1f} s; the loudest channel was used there"
            notices.append(Notice("phase_cancellation", message))
        if self._centred_s:
            message = f"surround sound: only the centre channel was used for {self._centred_s:.1f} s"
            notices.append(Notice("centre_channel", message))
        quiet = [loudest.notices for loudest in self._loudest]
        return notices + (quiet[0] if all(quiet) else [])

    def check_not_empty(self) -> None:
        """Check, once `blocks` has ended, that there were samples.

        Raises:
            EmptyAudio: there were none; the message says what is wrong with the file, if that is known.
        """
        if not self._decoded_s:
            why = "; ".join(notice.message for notice in self._parts.notices)
            raise EmptyAudio("the file contains no audio samples" + (f": {why}" if why else ""), cause="no_samples")

    def close(self) -> None:
        """Release the file."""
        self._parts.close()


@dataclass(frozen=True, slots=True)
class _Scaled:
    decoder: AudioDecoder
    factor: float = 1.0


class _Converter:
    """Converts the blocks of one recording to 16 kHz sessions; each recording has its own, as rates may differ."""

    def __init__(self, info: AudioInfo, choice: ChannelChoice, sessions: int, scale: float) -> None:
        self.mixdown = Mixdown(info.layout, info.rate_hz)
        self.scale = scale
        self._choice = choice
        self._sessions = sessions
        self._resamplers = [Resampler(info.rate_hz) for _ in range(sessions)]

    def feed(self, block: Samples) -> list[Samples]:
        """Take a repaired (frames, channels) block; return one (n,) block at 16 kHz for each session."""
        channels = self._channels(block)
        return [_bounded(one.feed(channel)) for one, channel in zip(self._resamplers, channels, strict=True)]

    def finish(self) -> list[Samples]:
        """Return the resamplers' tails."""
        return [_bounded(resampler.finish()) for resampler in self._resamplers]

    def _channels(self, block: Samples) -> list[Samples]:
        if self._choice.multichannel:
            return [_channel(block, index) for index in range(self._sessions)]
        if self._choice.channel is not None:
            return [_channel(block, self._choice.channel)]
        return [self.mixdown.feed(block)]


def _channel(block: Samples, index: int) -> Samples:
    """Return one channel. If a later recording has fewer channels: its only one, or silence."""
    if index < block.shape[1]:
        return np.ascontiguousarray(block[:, index])
    return np.ascontiguousarray(block[:, 0]) if block.shape[1] == 1 else np.zeros(len(block), np.float32)


def _bounded(samples: Samples) -> Samples:
    return np.clip(samples, -1.0, 1.0)


def _too_long(seconds: float, limit: float) -> TooLarge:
    return TooLarge(f"{seconds:.0f} s of audio or more; at most {limit:.0f} s are accepted", cause="audio_too_long")
