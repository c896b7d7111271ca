"""Detectors of change. Each watches one metric of one group against a reference that is pinned.

A detector never learns from what it watches: after an alarm the degraded state does not become the new normal.
`update` takes the next value and says how loud the evidence is; 1 is the alarm. State is small and serialisable.

Every detector is made for an *average run length*: the number of values between false alarms while nothing changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from speechpipe.foundation.registry import Registry
from speechpipe.foundation.stats.sketch import Distribution


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a detector says after a value."""

    evidence: float  # over what is needed for an alarm: 1 or more is one
    direction: int = 0  # +1 up, -1 down
    since: int = 0  # values ago that the change most likely began

    @property
    def alarm(self) -> bool:
        """Whether the evidence is enough."""
        return self.evidence >= 1.0


class Detector(Protocol):
    """The reference and what it is made for are given at construction."""

    def update(self, value: float) -> Verdict:
        """Take the next value: 0 or 1 of a share, any number else."""
        ...

    def reset(self) -> None:
        """Begin anew, against the same reference: after an alarm was resolved."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what must be kept to go on after a restart."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        ...


DETECTORS = Registry(
    "detector",
    {
        "bernoulli_cusum": "speechpipe.monitor.detectors.bernoulli:BernoulliCusum",
        "mixture": "speechpipe.monitor.detectors.mixture:MixtureDetector",
        "robust_cusum": "speechpipe.monitor.detectors.robust:RobustCusum",
    },
)

FOR_SHARES = "mixture"
FOR_REALS = "robust_cusum"


def make(name: str, reference: Distribution, run_length: float, **options: float) -> Detector:
    """Return a detector against `reference`, with `run_length` values between false alarms.

    Raises:
        UnknownName: no such row.
        ValueError: the reference is too small to say anything.
    """
    return cast("Detector", DETECTORS.load(name)(reference, run_length, **options))
