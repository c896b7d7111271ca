"""Change detectors. Each watches one metric of one group against a pinned reference.

A detector never learns from the values it watches, so a degraded state cannot become the new normal. `update` takes
the next value and returns the evidence; 1 raises the alarm. State is small and serialisable.

A detector is built for an *average run length*: the number of values between false alarms while nothing changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from speechpipe.foundation.registry import Registry
from speechpipe.foundation.stats.sketch import Distribution


@dataclass(frozen=True, slots=True)
class Verdict:
    """A detector's output after a value."""

    evidence: float  # divided by what an alarm needs: 1 or more is an alarm
    direction: int = 0  # +1 up, -1 down
    since: int = 0  # how many values ago the change most likely began

    @property
    def alarm(self) -> bool:
        """Whether the evidence is enough for an alarm."""
        return self.evidence >= 1.0


class Detector(Protocol):
    """The protocol of detectors. Reference and run length are given at construction."""

    def update(self, value: float, place: int = 0) -> Verdict:
        """Take the next value: 0 or 1 for a share, any number otherwise.

        `place`: which of several usual shares is that of this value, if the detector has several.
        """
        ...

    def reset(self) -> None:
        """Start again with the same reference, after an alarm was resolved."""
        ...

    def state(self) -> dict[str, Any]:
        """Return the state that `restore` needs after a restart, as JSON data."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state` returned."""
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


def make(name: str, reference: Distribution, run_length: float, **options: Any) -> Detector:
    """Return a detector against `reference`, with `run_length` values between false alarms.

    Raises:
        UnknownName: there is no such detector.
        ValueError: the reference has too few values.
    """
    return cast("Detector", DETECTORS.load(name)(reference, run_length, **options))
