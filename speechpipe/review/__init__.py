"""People beside the machine: how much it may do alone, which results they look at, and what that says of all others.

Knows texts, times and confidences, no audio and no recognizer.
"""

from enum import StrEnum


class Degree(StrEnum):
    """How much the machine may do alone (Sheridan & Verplank's scale of automation, 1978, in five steps)."""

    HUMAN_ONLY = "human_only"  # a person writes; the machine is not asked
    SHADOW = "shadow"  # a person writes; the machine listens, is compared, and nobody sees what it says
    ASSIST = "assist"  # a person edits the machine's draft
    PARTIAL = "partial"  # what the machine is sure of is delivered, the rest goes to a person
    FULL = "full"  # the machine answers; a random share is looked at afterwards

    @property
    def below(self) -> "Degree":
        """The next one down; the lowest is its own."""
        order = list(Degree)
        return order[max(0, order.index(self) - 1)]

    def lower_than(self, other: "Degree") -> bool:
        """Whether the machine may do less alone than at `other`."""
        order = list(Degree)
        return order.index(self) < order.index(other)

    @property
    def waits(self) -> bool:
        """Whether every text needs a person first."""
        return self in (Degree.HUMAN_ONLY, Degree.SHADOW, Degree.ASSIST)


class Author(StrEnum):
    """Who a text is from."""

    MACHINE = "machine"
    HUMAN = "human"
    BOTH = "both"  # a person has agreed to the machine's words, or changed them


class Why(StrEnum):
    """What a review is for; in the order in which they are served."""

    DEGREE = "degree"  # somebody waits: nothing is delivered without a person
    UNSURE = "unsure"  # somebody waits for what the machine was not sure of
    DISAGREEMENT = "disagreement"  # two bundles heard different things
    DOUBTFUL = "doubtful"  # little confidence
    AUDIT = "audit"  # drawn at random


PRIORITY = {Why.DEGREE: 40.0, Why.UNSURE: 30.0, Why.DISAGREEMENT: 20.0, Why.DOUBTFUL: 10.0, Why.AUDIT: 0.0}
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
