"""Rollouts: plans, arms, evidence and decisions. Depends on bundle ids and session records, not on speech.

A candidate is compared with the champion in a randomised experiment: a salted hash of a session's key assigns its arm,
and the evidence is computed from the sessions' records. No candidate is promoted without evidence.
"""

from enum import StrEnum


class Mode(StrEnum):
    """How a step of a plan uses the candidate."""

    SHADOW = "shadow"  # gets copies of sessions; its results are not served
    CANARY = "canary"  # answers a share of the sessions
    BLUE_GREEN = "blue_green"  # answers all new sessions; the champion stays loaded


class Judgement(StrEnum):
    """The decision that the evidence of a step supports."""

    ROLL_BACK = "roll_back"
    PROMOTE = "promote"
    HOLD = "hold"  # inconclusive


class Status(StrEnum):
    """The status of a rollout."""

    RUNNING = "running"
    PAUSED = "paused"  # takes no further step; guards still roll back
    WAITING = "waiting"  # the evidence of the step is complete; an operator must approve
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"

    @property
    def active(self) -> bool:
        """Whether the candidate is still in use."""
        return self in (Status.RUNNING, Status.PAUSED, Status.WAITING)
