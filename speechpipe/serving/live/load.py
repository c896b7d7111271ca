"""What the machine can still take, from what it was measured to do: no fixed count of sessions.

Two measures. How much CPU a second of live audio costs here and now (server and live workers together) says how
many sessions would fit. How late audio is worked on says how things really are, whatever else runs on the machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

HALF_LIFE_S = 10.0
PRIOR_COST = 0.05
"""CPU seconds per audio second that are assumed before anything was measured."""

MEASURED_AFTER_S = 3.0
"""Audio after which the measured cost is believed."""

LATE_S = (0.3, 0.7, 1.5)
"""Audio that is worked on later than this: thin partial results, drop them, take no new session."""

BUSY = 0.15
STEP_S = {False: 0.032, True: 0.192}

RETRY_AFTER_S = 5.0


class Level(IntEnum):
    """The order of degradation. Final results are never given up."""

    NORMAL = 0
    THIN_PARTIALS = 1
    NO_PARTIALS = 2
    NO_NEW_SESSIONS = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """What is read off every half second; CPU and audio count up for ever."""

    at: float
    cpu_s: float
    audio_s: float
    rate: float  # audio seconds a second that the open sessions send, each new one counted as 1
    late_s: Sequence[float]  # of every session: how late its audio is worked on


class Load:
    """Fed with samples; a pure function of them."""

    def __init__(self, cores: int, limit: float) -> None:
        self._budget = cores * limit
        self._cores = cores
        self._last: Sample | None = None
        self._cpu_s = 0.0
        self._audio_s = 0.0
        self.rate = 0.0
        self.late_s = 0.0
        self.level = Level.NORMAL

    def update(self, sample: Sample) -> None:
        """Take the next sample."""
        if (last := self._last) is not None and sample.at > last.at:
            decay = 0.5 ** ((sample.at - last.at) / HALF_LIFE_S)
            # CPU counted by a worker that died is lost: a negative difference says nothing.
            self._cpu_s = self._cpu_s * decay + max(0.0, sample.cpu_s - last.cpu_s)
            self._audio_s = self._audio_s * decay + max(0.0, sample.audio_s - last.audio_s)
        self._last = sample
        self.rate = sample.rate
        late = sorted(sample.late_s)
        # The 90th percentile: one session that is stuck does not close the door to all.
        self.late_s = late[int(0.9 * (len(late) - 1))] if late else 0.0
        self.level = Level(sum(self.late_s > limit for limit in LATE_S))

    @property
    def cost(self) -> float:
        """CPU seconds per second of live audio."""
        return self._cpu_s / self._audio_s if self._audio_s >= MEASURED_AFTER_S else PRIOR_COST

    @property
    def busy(self) -> float:
        """Share of the cores that the open sessions need."""
        return self.cost * self.rate / self._cores

    @property
    def step_s(self) -> float:
        """Audio that is worth a step: a frame of the VAD; six where there is much to do, which costs half."""
        return STEP_S[self.busy >= BUSY or self.level is not Level.NORMAL]

    @property
    def room(self) -> int:
        """How many more sessions would fit."""
        if self.level is Level.NO_NEW_SESSIONS:
            return 0
        return max(0, int(self._budget / max(self.cost, 1e-6) - self.rate))

    def refusal(self, opened_since: int) -> str | None:
        """Say why no new session fits, `opened_since` having been opened after the last sample; None if one does."""
        if self.level is Level.NO_NEW_SESSIONS:
            return f"audio is worked on {self.late_s:.1f} s late"
        if self.rate + opened_since > 0 and self.room < opened_since + 1:
            return f"{self.rate:.0f} live sessions need {self.cost * self.rate:.1f} of {self._budget:.1f} CPU cores"
        return None
