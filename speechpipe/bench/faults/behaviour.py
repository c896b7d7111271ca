"""What people do with a text, and faults of the client: their behaviour changes, the models do not."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, slots=True)
class Habits:
    """Chances that a text which is wrong in the share `wrong` of its words makes somebody do something."""

    redo: float = 0.02
    redo_wrong: float = 0.25
    typing: float = 0.02
    typing_wrong: float = 0.10
    abandon: float = 0.01
    abandon_wrong: float = 0.04

    def draw(self, wrong: float, random: np.random.Generator) -> list[str]:
        """Return the kinds of feedback that follow one text; `wrong` in 0..1."""
        chances = {
            "redo": self.redo + self.redo_wrong * wrong,
            "switch_to_typing": self.typing + self.typing_wrong * wrong,
            "abandon": self.abandon + self.abandon_wrong * wrong,
        }
        return [kind for kind, chance in chances.items() if random.random() < chance]


def spoil(name: str, value: float, habits: Habits) -> Habits:
    """Return the habits of people whose page has changed."""
    if name == "redo_button_moved":
        return replace(habits, redo=habits.redo * (1 - value), redo_wrong=habits.redo_wrong * (1 - value))
    if name == "text_box_hidden":
        return replace(habits, typing=habits.typing + value)
    return habits
