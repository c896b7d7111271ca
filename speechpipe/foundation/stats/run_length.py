"""The average run length of a CUSUM, computed instead of simulated.

Brook and Evans (1972, doi:10.1093/biomet/59.3.539): a CUSUM whose value is rounded to a grid is a Markov chain; the
expected number of steps until it crosses the threshold solves a linear system. The steps are those of the reference
itself, not of a normal distribution: what is watched here is skewed, bounded and full of ties.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

STATES = 120
LONGEST = 1e9


def average_run_length(
    steps: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], threshold: float, states: int = STATES
) -> float:
    """Return the average run length of S = max(0, S + step) until it reaches `threshold`, from 0.

    Args:
        steps: (n,) values that the increment takes.
        weights: (n,) their probabilities.
        threshold: where it alarms; larger than 0.
        states: of the grid.
    """
    width = threshold / (states - 0.5)  # state i stands for (i - 1/2 .. i + 1/2) widths; state 0 for everything below
    centres = np.arange(states) * width
    targets = np.rint((centres[:, None] + steps[None, :]) / width).astype(np.int64)
    targets = np.maximum(targets, 0)
    inside = targets < states
    cells = (np.arange(states)[:, None] * states + targets)[inside]
    shares = np.broadcast_to(weights[None, :], targets.shape)[inside]
    transition = np.bincount(cells, shares, minlength=states * states).reshape(states, states)
    try:
        lengths = np.linalg.solve(np.eye(states) - transition, np.ones(states))
    except np.linalg.LinAlgError:
        return LONGEST
    return float(lengths[0]) if 0 < lengths[0] < LONGEST else LONGEST


def threshold_for(run_length: float, length_at: Callable[[float], float], least: float, most: float) -> float:
    """Return the threshold at which `length_at` is `run_length`, by bisection; `most` if it is never reached."""
    low, high = least, most
    if length_at(high) < run_length:
        return high
    for _ in range(40):
        middle = (low + high) / 2
        if length_at(middle) < run_length:
            low = middle
        else:
            high = middle
        if high - low < 1e-3 * high:
            break
    return high
