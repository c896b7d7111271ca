"""How much the machine may do alone with the results of a session, and who a text is from."""

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
