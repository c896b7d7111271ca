"""Human review: degrees of automation, sampling of results for reviewers, and estimates from their answers.

Depends on texts, times and confidences, not on audio or recognizers.
"""

from enum import StrEnum


class ReviewReason(StrEnum):
    """Why a session is reviewed."""

    DEGREE = "degree"  # the degree of automation delivers nothing without a reviewer
    UNSURE = "unsure"  # the confidence is too low for delivery without a reviewer
    DISAGREEMENT = "disagreement"  # two bundles returned different texts
    DOUBTFUL = "doubtful"  # low confidence, but delivered
    AUDIT = "audit"  # sampled at random


PRIORITY = {
    ReviewReason.DEGREE: 40.0,
    ReviewReason.UNSURE: 30.0,
    ReviewReason.DISAGREEMENT: 20.0,
    ReviewReason.DOUBTFUL: 10.0,
    ReviewReason.AUDIT: 0.0,
}
WAITED_FOR = 50.0
"""Added to the priority of tasks that a client waits for: they come before all others."""


class TaskState(StrEnum):
    """The state of a review task."""

    OPEN = "open"
    LEASED = "leased"  # a reviewer works on it; open again when the lease ends
    DONE = "done"
    UNASKED = "unasked"  # needs no reviewer: another channel of its upload does
    SKIPPED = "skipped"  # several reviewers could not do it
    EXPIRED = "expired"  # its audio was deleted

    @property
    def over(self) -> bool:
        """Whether the task is closed: no reviewer will get it again."""
        return self not in (TaskState.OPEN, TaskState.LEASED)

    @property
    def failed(self) -> bool:
        """Whether it was closed without an answer."""
        return self in (TaskState.SKIPPED, TaskState.EXPIRED)
