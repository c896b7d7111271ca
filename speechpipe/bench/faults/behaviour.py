"""The simulated behaviour of users, and client faults: the behaviour changes and the models do not."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, slots=True)
class Habits:
    """Probability of each user action, given the word error rate `wrong`."""

    redo: float = 0.02
    redo_wrong: float = 0.25
    typing: float = 0.02
    typing_wrong: float = 0.10
    abandon: float = 0.01
    abandon_wrong: float = 0.04

    def draw(self, wrong: float, random: np.random.Generator) -> list[str]:
        """Return the kinds of feedback on one text; `wrong` is in 0..1."""
        chances = {
            "redo": self.redo + self.redo_wrong * wrong,
            "switch_to_typing": self.typing + self.typing_wrong * wrong,
            "abandon": self.abandon + self.abandon_wrong * wrong,
        }
        return [kind for kind, chance in chances.items() if random.random() < chance]


def spoil(name: str, value: float, habits: Habits) -> Habits:
    """Return the habits of users after a fault of their client."""
    if name == "redo_button_moved":
        return replace(habits, redo=habits.redo * (1 - value), redo_wrong=habits.redo_wrong * (1 - value))
    if name == "text_box_hidden":
        return replace(habits, typing=habits.typing + value)
    return habits
