"""People beside the machine: how much it may do alone, which results they look at, and what that says of all others.

Knows texts, times and confidences, no audio and no recognizer.
"""

from enum import StrEnum


class ReviewReason(StrEnum):
    """What a review is for; in the order in which they are served."""

    DEGREE = "degree"  # somebody waits: nothing is delivered without a person
    UNSURE = "unsure"  # somebody waits for what the machine was not sure of
    DISAGREEMENT = "disagreement"  # two bundles heard different things
    DOUBTFUL = "doubtful"  # little confidence
    AUDIT = "audit"  # drawn at random


PRIORITY = {
    ReviewReason.DEGREE: 40.0,
    ReviewReason.UNSURE: 30.0,
    ReviewReason.DISAGREEMENT: 20.0,
    ReviewReason.DOUBTFUL: 10.0,
    ReviewReason.AUDIT: 0.0,
}
WAITED_FOR = 50.0
"""What somebody waits for comes before everything that nobody waits for."""


class TaskState(StrEnum):
    """Where a task is."""

    OPEN = "open"
    LEASED = "leased"  # somebody works on it; open again when the lease ends
    DONE = "done"
    UNASKED = "unasked"  # of an upload that waits for a person, a channel that needs none
    SKIPPED = "skipped"  # several people could not do it
    EXPIRED = "expired"  # its audio is gone

    @property
    def over(self) -> bool:
        """Whether nobody will be asked again."""
        return self not in (TaskState.OPEN, TaskState.LEASED)

    @property
    def failed(self) -> bool:
        """Whether there is no answer and will be none."""
        return self in (TaskState.SKIPPED, TaskState.EXPIRED)
