"""Degrees of automation of a tenant's results, and the author of a text."""

from enum import StrEnum


class Degree(StrEnum):
    """How much the machine may do alone (after Sheridan & Verplank's scale of automation, 1978, in five steps)."""

    HUMAN_ONLY = "human_only"  # a person transcribes; no recognizer is used
    SHADOW = "shadow"  # a person transcribes; the recognizer's text is compared with it and not shown
    ASSIST = "assist"  # a person edits the recognizer's text
    PARTIAL = "partial"  # confident results are delivered, the others go to a person
    FULL = "full"  # all results are delivered; a random share is reviewed afterwards

    @property
    def below(self) -> "Degree":
        """The next lower degree; of the lowest, itself."""
        order = list(Degree)
        return order[max(0, order.index(self) - 1)]

    def lower_than(self, other: "Degree") -> bool:
        """Whether this degree allows less automation than `other`."""
        order = list(Degree)
        return order.index(self) < order.index(other)

    @property
    def waits(self) -> bool:
        """Whether every text waits for a person."""
        return self in (Degree.HUMAN_ONLY, Degree.SHADOW, Degree.ASSIST)


class Author(StrEnum):
    """The author of a text."""

    MACHINE = "machine"
    HUMAN = "human"
    BOTH = "both"  # a person has confirmed or changed the machine's text
