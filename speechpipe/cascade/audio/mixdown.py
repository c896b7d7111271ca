"""Mixes channels to mono, by the layout of the channels and without cancelling speech in opposite phase."""

from dataclasses import dataclass, field

import numpy as np

from speechpipe.types import Samples

CANCELLED_SHARE = 0.25
"""A mix counts as cancelled if its power is less than this share of that of uncorrelated channels, which is the mean
power of the channels divided by their number."""

AUDIBLE_POWER = 1e-8
"""-80 dBFS; quieter channels are not checked for cancellation."""

WEIGHTS = {"FL": 1.0, "FR": 1.0, "FC": 2**0.5, "LFE": 0.0, "LFE2": 0.0, "FLC": 1.0, "FRC": 1.0}
OTHER_WEIGHT = 2**-0.5
"""Weights of channels: both sides of the stereo mix of ITU-R BS.775-3, table 2, added. Centre +3 dB, surrounds -3 dB,
no LFE."""

ASSUMED = {
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
"""Layouts (FFmpeg's defaults) of files without one. Other numbers of channels are more often several microphones."""

CENTRE_POWER = 1e-6
"""-60 dBFS; a quieter centre channel contains no dialogue."""

CENTRE_SHARE = 10**-1.5
CENTRE_SHARE_ASSUMED = 10**-1.2
"""The centre may be this far below the loudest other channel: 15 dB, or 12 dB if the layout is assumed."""

SPEAKS_SHARE = 10**-2.0
TALKERS_RATIO = 4.0
"""Other channels are speakers, not music, if they are 6 dB louder while the centre is 20 dB below its own maximum."""

HOLD_DB_S = 1.0
"""The level of a silent channel decays by so many dB per second, so that pauses between words do not switch the mix."""


@dataclass
class Mixdown:
    """Averages channels, or uses the loudest channel where the average would cancel. Used by one thread at a time.

    A call with one inverted channel sounds right on headphones, but its average is silence, and the transcript would be
    empty.

    Surround sound is weighted by its layout. Films have dialogue in the centre channel, and music and effects in the
    others, so the centre is used alone while it has sound: the mix is for a recognizer, not for listeners.
    """

    layout: tuple[str, ...] | None = None
    rate_hz: int = 48_000
    mixed: int = 0  # frames seen
    cancelled: int = 0  # frames for which the loudest channel was used
    centred: int = 0  # frames for which the centre was used alone
    _cross: float = field(default=0.0, repr=False)
    _power: list[float] = field(default_factory=lambda: [0.0, 0.0], repr=False)
    _surround: "_Surround | None" = field(default=None, repr=False)

    def feed(self, block: Samples, slice_frames: int = 8192) -> Samples:
        """Return the (frames,) mix of a (frames, channels) block; the loudest channel is chosen per slice."""
        frames, channels = block.shape
        self.mixed += frames
        if channels == 1:
            return np.ascontiguousarray(block[:, 0])
        self._correlate(block)
        if self._surround is None:
            self._surround = _Surround.of(self.layout, channels)
        surround = self._surround
        if surround.plain:
            mix: Samples = block.mean(axis=1, dtype=np.float32)
        else:
            mix = surround.mix(block, slice_frames, self.rate_hz)
        if surround.centred:
            self.centred += frames
            return mix
        heard = surround.heard
        for start in range(0, frames, slice_frames):
            part = block[start : start + slice_frames]
            power = np.mean(np.square(part[:, heard]), axis=0)
            mean_power = float(power.mean())
            kept = float(np.mean(np.square(mix[start : start + slice_frames])))
            if mean_power > AUDIBLE_POWER and kept < surround.least_kept * mean_power:
                mix[start : start + slice_frames] = part[:, heard[int(power.argmax())]]
                self.cancelled += len(part)
        return mix

    def _correlate(self, block: Samples) -> None:
        left, right = block[:, 0], block[:, 1]
        self._cross += float(np.dot(left, right))
        self._power[0] += float(np.dot(left, left))
        self._power[1] += float(np.dot(right, right))

    @property
    def correlation(self) -> float | None:
        """Correlation of the first two channels so far, -1..1; None for mono or silence."""
        scale = (self._power[0] * self._power[1]) ** 0.5
        return self._cross / scale if scale > 0 else None


@dataclass
class _Surround:
    """The weights of one layout, and whether the centre is used alone."""

    weights: Samples  # (channels,), with sum 1, so that the mix cannot clip
    centre: int | None
    share: float
    heard: list[int]  # channels that can contain speech: all but an LFE channel named by the file
    plain: bool
    levels: Samples  # (channels,) power with slow decay, see HOLD_DB_S
    least_kept: float
    now: Samples | None = None
    centred: bool = False

    @staticmethod
    def of(layout: tuple[str, ...] | None, channels: int) -> "_Surround":
        places = layout if layout is not None and len(layout) == channels else ASSUMED.get(channels)
        levels = np.zeros(channels, np.float32)
        if channels <= 2 or places is None:
            even = np.full(channels, 1 / channels, np.float32)
            return _Surround(even, None, 0.0, list(range(channels)), True, levels, CANCELLED_SHARE / channels)
        weights = np.array([WEIGHTS.get(place, OTHER_WEIGHT) for place in places], np.float32)
        if not weights.any():
            weights[:] = 1.0
        weights /= weights.sum()
        centre = places.index("FC") if "FC" in places else None
        named = layout is not None
        heard = [index for index in range(channels) if weights[index] > 0 or not named]
        share = CENTRE_SHARE if named else CENTRE_SHARE_ASSUMED
        least = CANCELLED_SHARE * float(np.square(weights[weights > 0]).min()) * len(heard) / channels
        return _Surround(weights, centre, share, heard, False, levels, least)

    def mix(self, block: Samples, slice_frames: int, rate_hz: int) -> Samples:
        """Return the (frames,) mix of a (frames, channels) block; the use of the centre is decided once per block."""
        slices = np.arange(0, len(block), slice_frames)
        powers = np.stack([np.mean(np.square(block[at : at + slice_frames]), axis=0) for at in slices])
        self.levels = np.maximum(self.levels * 10 ** (-HOLD_DB_S * len(block) / rate_hz / 10), powers.max(axis=0))
        target = self.weights
        self.centred = self._use_centre(powers)
        if self.centred:
            target = np.zeros_like(self.weights)
            target[self.centre] = 1.0
        mix: Samples = block @ target
        if self.now is not None and not np.array_equal(self.now, target):
            first = block[:slice_frames]
            ramp = np.linspace(0.0, 1.0, len(first), dtype=np.float32)  # no click where the weights change
            mix[:slice_frames] = (first @ self.now) * (1 - ramp) + mix[:slice_frames] * ramp
        self.now = target
        return mix

    def _use_centre(self, powers: Samples) -> bool:
        """Decide from the (slices, channels) powers of a block whether to use the centre alone."""
        if self.centre is None:
            return False
        beside = [index for index in self.heard if index != self.centre and self.weights[index] > 0]
        centre, others = float(self.levels[self.centre]), float(self.levels[beside].max(initial=0.0))
        if centre < CENTRE_POWER or others < AUDIBLE_POWER or centre < self.share * others:
            return False
        # Music continues during speech. Channels that are active when the centre is not have speakers of their own.
        speaks = powers[:, self.centre] > SPEAKS_SHARE * powers[:, self.centre].max()
        if not speaks.any():
            return self.centred
        bed = powers[:, beside].max(axis=1)
        return bool(speaks.all()) or float(bed[~speaks].mean()) < TALKERS_RATIO * float(bed[speaks].mean())
