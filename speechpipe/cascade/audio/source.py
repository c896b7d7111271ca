"""A file as a stream of 16 kHz channels: decode -> scale -> repair -> mix or split -> resample, within the limits."""

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
    """Which channels become sessions: the mix (default), one of them, or each on its own; and of which audio track.

    StreamSessions and tracks are numbered from 0. Without a track the one flagged as default is taken, else the first.
    """

    channel: int | None = None
    multichannel: bool = False
    track: int | None = None

    def __post_init__(self) -> None:
        if self.multichannel and self.channel is not None:
            raise InvalidParameter("choose one channel or all of them apart, not both", param="channel")


class AudioSource:
    """Yields one list of 16 kHz blocks per decoded block: a single mono block, or one for each channel.

    Shapes: each block is (n,) float32 with every value finite and in [-1, 1].
    """

    def __init__(self, file: BinaryIO, choice: ChannelChoice, max_s: float | None = None) -> None:
        """Open `file` (one with a descriptor).

        Raises:
            EmptyAudio: the file has no bytes.
            UndecodableAudio: no decoder knows it, or it says something no recording says of itself.
            InvalidParameter: the chosen channel or track does not exist.
            TooLarge: the container says it is longer than `max_s` seconds.
        """
        self._parts = Parts(file, Wish(choice.track, max_s))
        self._max_s = max_s
        self._choice = choice
        self._lane: _Lane | None = None
        self._nonfinite = 0
        self._over_scale = 0
        self._cancelled_s = self._centred_s = 0.0
        self._scales: list[Notice] = []
        self._loudest: list[Loudest] = []
        self._decoded_s = 0.0
        self.wall_s = 0.0  # spent in decoding, repair, mixing and resampling
        try:
            self._check_header()
        except BaseException:
            self._parts.close()
            raise
        self.sessions = self.info.channels if choice.multichannel else 1
        self._loudest = [Loudest() for _ in range(self.sessions)]

    @property
    def info(self) -> AudioInfo:
        """What the file says of itself, its first recording if it holds several."""
        return self._parts.info

    @property
    def decoded_s(self) -> float:
        """Seconds decoded so far, before resampling."""
        return self._decoded_s

    @property
    def channel_correlation(self) -> float | None:
        """Correlation of the first two channels so far."""
        return None if self._lane is None else self._lane.mixdown.correlation

    def _check_header(self) -> None:
        info = self.info
        if self._choice.channel is not None and not 0 <= self._choice.channel < info.channels:
            message = f"channel {self._choice.channel} does not exist; the file has {info.channels} (0-based)"
            raise InvalidParameter(message, param="channel")
        # Believed as far as the bytes can hold it: refusing later would cost hours of decoding.
        if self._max_s is not None and self._parts.believed_s > self._max_s:
            raise _too_long(self._parts.believed_s, self._max_s)

    def blocks(self) -> Iterator[list[Samples]]:
        """Decode to the end, every recording that the file holds.

        Raises:
            TooLarge: more than `max_s` seconds came out, whatever the header said.
        """
        for decoder in self._parts:
            scaled = self._scaled(decoder)
            self._lane = lane = _Lane(scaled.decoder.info, self._choice, self.sessions, scaled.factor)
            decoded = scaled.decoder.blocks()
            while True:
                begun = time.perf_counter()
                block = next(decoded, None)
                if block is None:
                    break
                self._decoded_s += len(block) / decoder.info.rate_hz
                if self._max_s is not None and self._decoded_s > self._max_s:
                    raise _too_long(self._decoded_s, self._max_s)
                resampled = lane.feed(self._repair(block, lane.scale))
                for loudest, channel in zip(self._loudest, resampled, strict=True):
                    loudest.feed(channel)
                self.wall_s += time.perf_counter() - begun
                yield resampled
            yield lane.finish()
            self._cancelled_s += lane.mixdown.cancelled / decoder.info.rate_hz
            self._centred_s += lane.mixdown.centred / decoder.info.rate_hz

    def _scaled(self, decoder: AudioDecoder) -> "_Scaled":
        """Return the decoder and what to multiply its samples by: floats are looked through once, first."""
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
        # Float files may hold anything; one NaN would poison the VAD's state for the rest of the session.
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
        """What a listener should know; complete once `blocks` has ended."""
        notices = [*self._parts.notices, *self._scales[:1]]
        if self._nonfinite:
            notices.append(Notice("non_finite_samples", f"{self._nonfinite} NaN or infinite samples were replaced"))
        if self._over_scale:
            notices.append(Notice("over_full_scale", f"{self._over_scale} samples beyond full scale were clipped"))
        if self._cancelled_s > CANCELLED_NOTICE_SHARE * self._decoded_s:
            message = f"channels cancel each other for {self._cancelled_s:.1f} s; the loudest was taken"
            notices.append(Notice("phase_cancellation", message))
        if self._centred_s:
            message = f"surround sound: the centre channel alone was taken for {self._centred_s:.1f} s"
            notices.append(Notice("centre_channel", message))
        quiet = [loudest.notices for loudest in self._loudest]
        return notices + (quiet[0] if all(quiet) else [])

    def check_not_empty(self) -> None:
        """Look at what came, once `blocks` has ended.

        Raises:
            EmptyAudio: no sample came; the message says what is wrong with the file, if that is known.
        """
        if not self._decoded_s:
            why = "; ".join(notice.message for notice in self._parts.notices)
            raise EmptyAudio("the file holds no audio samples" + (f": {why}" if why else ""), cause="no_samples")

    def close(self) -> None:
        """Release the file."""
        self._parts.close()


@dataclass(frozen=True, slots=True)
class _Scaled:
    decoder: AudioDecoder
    factor: float = 1.0


class _Lane:
    """The way of one recording's blocks to 16 kHz sessions; the next recording may have another rate."""

    def __init__(self, info: AudioInfo, choice: ChannelChoice, sessions: int, scale: float) -> None:
        self.mixdown = Mixdown(info.layout, info.rate_hz)
        self.scale = scale
        self._choice = choice
        self._sessions = sessions
        self._resamplers = [Resampler(info.rate_hz) for _ in range(sessions)]

    def feed(self, block: Samples) -> list[Samples]:
        """Return what a repaired (frames, channels) block completes, one (n,) block for each session."""
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
    """Return one channel; of a later recording with fewer of them its only one, or silence."""
    if index < block.shape[1]:
        return np.ascontiguousarray(block[:, index])
    return np.ascontiguousarray(block[:, 0]) if block.shape[1] == 1 else np.zeros(len(block), np.float32)


def _bounded(samples: Samples) -> Samples:
    return np.clip(samples, -1.0, 1.0)


def _too_long(seconds: float, limit: float) -> TooLarge:
    return TooLarge(f"{seconds:.0f} s of audio or more; at most {limit:.0f} s are taken", cause="audio_too_long")
