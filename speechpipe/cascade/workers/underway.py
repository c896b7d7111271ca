"""A partial result that a thread of the recognizer's library makes while the worker does other things."""

from collections.abc import Generator

from speechpipe.cascade.workers.spent import Spent


class Underway:
    """One partial result that has been begun. Used on the worker's thread."""

    def __init__(self, number: int, samples: int, steps: Generator[None, None, str], spent: Spent) -> None:
        """Begin it: of the first `samples` samples of the stream `number`. `spent` counts what it takes."""
        self.number, self.samples, self.spent = number, samples, spent
        self.text = ""
        self._steps = steps

    def is_done(self) -> bool:
        """Return whether `text` is there now.

        Raises:
            Exception: what the recognizer raised.
        """
        try:
            next(self._steps)
        except StopIteration as end:
            self.text = end.value
            return True
        return False

    def give_up(self) -> None:
        """Drop it. The library may still be at it for a moment."""
        self._steps.close()
