"""Many channels to one: by the places of the loudspeakers, and without losing speech in opposite phase."""

from dataclasses import dataclass, field

import numpy as np

from speechpipe.types import Samples

CANCELLED_SHARE = 0.25
"""A mix is called cancelled when it keeps less than this share of what uncorrelated channels would keep
(power 1/channels of the channels' mean power)."""

AUDIBLE_POWER = 1e-8
"""-80 dBFS: below it there is nothing to cancel."""

WEIGHTS = {"FL": 1.0, "FR": 1.0, "FC": 2**0.5, "LFE": 0.0, "LFE2": 0.0, "FLC": 1.0, "FRC": 1.0}
OTHER_WEIGHT = 2**-0.5
"""ITU-R BS.775-3, table 2, both sides of its stereo mix added: centre +3 dB, surrounds -3 dB, no bass channel."""

ASSUMED = {
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
"""Of files that say nothing, as FFmpeg has it. Three, four, five and seven channels are more often microphones."""

CENTRE_POWER = 1e-6
"""-60 dBFS: a centre below it carries no dialogue."""

CENTRE_SHARE = 10**-1.5
CENTRE_SHARE_ASSUMED = 10**-1.2
"""How far below the loudest other channel the centre may be: 15 dB, 12 dB where the layout is only assumed."""

SPEAKS_SHARE = 10**-2.0
TALKERS_RATIO = 4.0
"""The others are talkers, not music, if they are 6 dB louder while the centre is 20 dB below its own loudest."""

HOLD_DB_S = 1.0
"""The level of a channel that falls silent is held up, and falls by so much: pauses between words do not switch."""


@dataclass
class Mixdown:
    """Averages channels; where the average cancels, takes the loudest channel instead.

    A call with one leg inverted sounds fine on headphones and mixes to silence: what a plain average then gives VAD is
    nothing, and the transcript is empty for no visible reason.

    Surround sound is weighted by its layout. Films put dialogue into the centre and music and effects around it, so
    while the centre carries sound, it is taken alone: the mix is for a recognizer, not for listeners.
    """

    layout: tuple[str, ...] | None = None
    rate_hz: int = 48_000
    mixed: int = 0  # frames seen
    cancelled: int = 0  # frames where the loudest channel was taken
    centred: int = 0  # frames where the centre was taken before the others
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
    """The weights of one layout, and whether the centre has the word."""

    weights: Samples  # (channels,), their sum is 1, so nothing can clip
    centre: int | None
    share: float
    heard: list[int]  # channels that may carry speech: all but a bass channel that the file itself names
    plain: bool
    levels: Samples  # (channels,) power, held up
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
        """Return the (frames,) mix of a (frames, channels) block; who has the word is decided for all of it."""
        slices = np.arange(0, len(block), slice_frames)
        powers = np.stack([np.mean(np.square(block[at : at + slice_frames]), axis=0) for at in slices])
        self.levels = np.maximum(self.levels * 10 ** (-HOLD_DB_S * len(block) / rate_hz / 10), powers.max(axis=0))
        target = self.weights
        self.centred = self._centre_has_the_word(powers)
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

    def _centre_has_the_word(self, powers: Samples) -> bool:
        """Decide from the (slices, channels) powers of a block."""
        if self.centre is None:
            return False
        beside = [index for index in self.heard if index != self.centre and self.weights[index] > 0]
        centre, others = float(self.levels[self.centre]), float(self.levels[beside].max(initial=0.0))
        if centre < CENTRE_POWER or others < AUDIBLE_POWER or centre < self.share * others:
            return False
        # Music goes on while somebody speaks. Others who speak when the centre does not are talkers of their own.
        speaks = powers[:, self.centre] > SPEAKS_SHARE * powers[:, self.centre].max()
        if not speaks.any():
            return self.centred
        bed = powers[:, beside].max(axis=1)
        return bool(speaks.all()) or float(bed[~speaks].mean()) < TALKERS_RATIO * float(bed[speaks].mean())
