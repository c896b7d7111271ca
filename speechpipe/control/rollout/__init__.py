"""Rolling out: plans, arms, evidence, verdicts. Knows bundles by their ids and sessions by what they did, no speech.

A candidate is compared with the champion as a randomised experiment: sessions fall on an arm by a salted hash of their
key, and evidence is a function of the records that they leave. Nothing is promoted without it.
"""

from enum import StrEnum


class Mode(StrEnum):
    """How a step of a plan uses the candidate."""

    SHADOW = "shadow"  # hears copies, answers nobody
    CANARY = "canary"  # answers a share of the sessions
    BLUE_GREEN = "blue_green"  # answers all new sessions; the champion stays warm


class Judgement(StrEnum):
    """What the evidence of a step says."""

    ROLL_BACK = "roll_back"
    PROMOTE = "promote"
    HOLD = "hold"  # inconclusive


class Status(StrEnum):
    """Where a rollout is."""

    RUNNING = "running"
    PAUSED = "paused"  # no step forward; guards still roll back
    WAITING = "waiting"  # the evidence of the step is in; a person is asked
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"

    @property
    def active(self) -> bool:
        """Whether the candidate is still in use."""
        return self in (Status.RUNNING, Status.PAUSED, Status.WAITING)
