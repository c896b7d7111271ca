"""A file as a stream of 16 kHz channels: decode -> repair -> mix or split -> resample, with the limits checked."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from speechpipe.audio import AudioDecoder, AudioInfo, open_audio
from speechpipe.audio.mixdown import Mixdown
from speechpipe.audio.resample import Resampler
from speechpipe.errors import InvalidParameter, TooLarge
from speechpipe.types import Notice, Samples

OVER_FULL_SCALE = 1.0
CANCELLED_NOTICE_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class ChannelChoice:
    """Which channels become sessions: the mix (default), one of them, or each on its own."""

    channel: int | None = None
    multichannel: bool = False

    def __post_init__(self) -> None:
        if self.multichannel and self.channel is not None:
            raise InvalidParameter("choose one channel or all of them apart, not both", param="channel")


class AudioSource:
    """Yields one list of 16 kHz blocks per decoded block: a single mono block, or one for each channel.

    Shapes: each block is (n,) float32 with every value finite and in [-1, 1].
    """

    def __init__(self, file: BinaryIO, choice: ChannelChoice, max_s: float | None = None) -> None:
        """Open `file`.

        Raises:
            EmptyAudio, UndecodableAudio: from `open_audio`.
            InvalidParameter: the chosen channel does not exist.
            TooLarge: the container says it is longer than `max_s` seconds.
        """
        self._decoder: AudioDecoder = open_audio(file)
        self._max_s = max_s
        self._choice = choice
        self._mixdown = Mixdown()
        self._nonfinite = 0
        self._over_scale = 0
        self._decoded = 0
        self.wall_s = 0.0  # spent in decoding, repair, mixing and resampling
        try:
            self._check_header()
        except BaseException:
            self._decoder.close()
            raise
        self.sessions = self.info.channels if choice.multichannel else 1
        self._resamplers = [Resampler(self.info.rate_hz) for _ in range(self.sessions)]

    @property
    def info(self) -> AudioInfo:
        """What the file says of itself."""
        return self._decoder.info

    @property
    def decoded_s(self) -> float:
        """Seconds decoded so far, before resampling."""
        return self._decoded / self.info.rate_hz

    @property
    def channel_correlation(self) -> float | None:
        """Correlation of the first two channels so far."""
        return self._mixdown.correlation

    def _check_header(self) -> None:
        info = self.info
        if self._choice.channel is not None and not 0 <= self._choice.channel < info.channels:
            message = f"channel {self._choice.channel} does not exist; the file has {info.channels} (0-based)"
            raise InvalidParameter(message, param="channel")
        # A container that says it is too long is believed: refusing later would cost hours of decoding.
        if self._max_s is not None and (info.claimed_s or 0.0) > self._max_s:
            raise _too_long(info.claimed_s or 0.0, self._max_s)

    def blocks(self) -> Iterator[list[Samples]]:
        """Decode to the end.

        Raises:
            TooLarge: more than `max_s` seconds came out, whatever the header said.
        """
        decoded = self._decoder.blocks()
        while True:
            begun = time.perf_counter()
            block = next(decoded, None)
            if block is None:
                break
            self._decoded += len(block)
            if self._max_s is not None and self.decoded_s > self._max_s:
                raise _too_long(self.decoded_s, self._max_s)
            channels = self._channels(self._repair(block))
            resampled = [
                _bounded(resampler.feed(channel)) for resampler, channel in zip(self._resamplers, channels, strict=True)
            ]
            self.wall_s += time.perf_counter() - begun
            yield resampled
        yield [_bounded(resampler.finish()) for resampler in self._resamplers]

    def _repair(self, block: Samples) -> Samples:
        # Float files may hold anything; one NaN would poison the VAD's state for the rest of the session.
        finite = np.isfinite(block)
        if not finite.all():
            self._nonfinite += int(block.size - np.count_nonzero(finite))
            block = np.nan_to_num(block, nan=0.0, posinf=1.0, neginf=-1.0)
        peak = float(np.abs(block).max(initial=0.0))
        if peak > OVER_FULL_SCALE:
            self._over_scale += int(np.count_nonzero(np.abs(block) > OVER_FULL_SCALE))
            block = np.clip(block, -1.0, 1.0)
        return block

    def _channels(self, block: Samples) -> list[Samples]:
        if self._choice.multichannel:
            return [np.ascontiguousarray(block[:, index]) for index in range(block.shape[1])]
        if self._choice.channel is not None:
            return [np.ascontiguousarray(block[:, self._choice.channel])]
        return [self._mixdown.feed(block)]

    @property
    def notices(self) -> list[Notice]:
        """What a listener should know; complete once `blocks` has ended."""
        notices = list(self._decoder.notices)
        if self._nonfinite:
            notices.append(Notice("non_finite_samples", f"{self._nonfinite} NaN or infinite samples were replaced"))
        if self._over_scale:
            notices.append(Notice("over_full_scale", f"{self._over_scale} samples beyond full scale were clipped"))
        mixed = self._mixdown
        if mixed.cancelled > CANCELLED_NOTICE_SHARE * max(mixed.mixed, 1):
            seconds = mixed.cancelled / self.info.rate_hz
            notices.append(
                Notice("phase_cancellation", f"channels cancel each other for {seconds:.1f} s; the loudest was taken")
            )
        return notices

    def close(self) -> None:
        """Release the file."""
        self._decoder.close()


def _bounded(samples: Samples) -> Samples:
    return np.clip(samples, -1.0, 1.0)


def _too_long(seconds: float, limit: float) -> TooLarge:
    return TooLarge(f"{seconds:.0f} s of audio or more; at most {limit:.0f} s are taken", cause="audio_too_long")
