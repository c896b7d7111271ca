"""The measured load of live audio, and how many more sessions fit.

Two measures are used. The CPU time per second of live audio (server and live workers together) gives the number of
sessions that fit. The delay of processing shows overload from any cause, including other programs on the machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

HALF_LIFE_S = 10.0
PRIOR_COST = 0.05
"""CPU seconds per second of audio that are assumed if the warm-up of the workers has not measured it."""

SERVER_COST = 0.01
"""What the server itself adds to the cost that the workers have measured: VAD, websocket, messages."""

MEASURED_AFTER_S = 30.0
"""Seconds of audio, halved every `HALF_LIFE_S`, from which on the measured cost is used, even if it is lower than the
assumed one. At the beginning of speech it is too low, because a segment is decoded at its end."""

LATE_S = (0.3, 0.7, 1.5)
"""Delays of processing from which partial results are thinned, dropped, and new sessions are refused."""

BUSY = 0.15
STEP_S = {False: 0.032, True: 0.192}

RETRY_AFTER_S = 5.0


class Level(IntEnum):
    """Levels of degradation, in order. Final results are sent at every level."""

    NORMAL = 0
    THIN_PARTIALS = 1
    NO_PARTIALS = 2
    NO_NEW_SESSIONS = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """A measurement, taken every half second. `cpu_s` and `audio_s` are totals since the start."""

    at: float
    cpu_s: float
    audio_s: float
    rate: float  # seconds of audio per second of the open sessions; a new session counts as 1
    late_s: Sequence[float]  # delay of processing of each session, in seconds


class Load:
    """The load computed from samples. Depends on them only; changed under the manager's lock."""

    def __init__(self, cores: int, limit: float) -> None:
        self._budget = cores * limit
        self._cores = cores
        self._last: Sample | None = None
        self._cpu_s = 0.0
        self._audio_s = 0.0
        self._prior = PRIOR_COST
        self.rate = 0.0
        self.late_s = 0.0
        self.level = Level.NORMAL

    def update(self, sample: Sample) -> None:
        """Add a sample."""
        if (last := self._last) is not None and sample.at > last.at:
            decay = 0.5 ** ((sample.at - last.at) / HALF_LIFE_S)
            # The CPU time of a worker that has ended is lost, so a negative difference is ignored.
            self._cpu_s = self._cpu_s * decay + max(0.0, sample.cpu_s - last.cpu_s)
            self._audio_s = self._audio_s * decay + max(0.0, sample.audio_s - last.audio_s)
        self._last = sample
        self.rate = sample.rate
        late = sorted(sample.late_s)
        # The 90th percentile, so that one stuck session does not cause refusals.
        self.late_s = late[int(0.9 * (len(late) - 1))] if late else 0.0
        self.level = Level(sum(self.late_s > limit for limit in LATE_S))

    def expect(self, worker_cost: float) -> None:
        """Set the cost to assume before there are measurements: of the workers, as their warm-up says; 0: unknown."""
        self._prior = worker_cost + SERVER_COST if worker_cost else PRIOR_COST

    @property
    def cost(self) -> float:
        """CPU seconds per second of live audio."""
        measured = self._cpu_s / self._audio_s if self._audio_s else 0.0
        return measured if self._audio_s >= MEASURED_AFTER_S else max(self._prior, measured)

    @property
    def busy(self) -> float:
        """Share of the cores that the open sessions need."""
        return self.cost * self.rate / self._cores

    @property
    def step_s(self) -> float:
        """Least audio for a step, in seconds: one VAD frame; six frames under load, which costs half as much."""
        return STEP_S[self.busy >= BUSY or self.level is not Level.NORMAL]

    @property
    def room(self) -> int:
        """Number of further sessions that fit."""
        if self.level is Level.NO_NEW_SESSIONS:
            return 0
        return max(0, int(self._budget / max(self.cost, 1e-6) - self.rate))

    def refusal(self, opened_since: int) -> str | None:
        """Return why no new session fits, if `opened_since` were opened since the last sample; None if one fits."""
        if self.level is Level.NO_NEW_SESSIONS:
            return f"audio is processed {self.late_s:.1f} s late"
        if self.rate + opened_since > 0 and self.room < opened_since + 1:
            return f"{self.rate:.0f} live sessions need {self.cost * self.rate:.1f} of {self._budget:.1f} CPU cores"
        return None
