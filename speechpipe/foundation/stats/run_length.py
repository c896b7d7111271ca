"""Average run length of a CUSUM: computed from a linear system, not simulated.

Brook and Evans (1972, doi:10.1093/biomet/59.3.539): a CUSUM whose value is rounded to a grid is a Markov chain. The
expected number of steps until it crosses the threshold solves a linear system. The distribution of steps is that of the
reference data and not a normal one, because the metrics here are skewed, bounded and have many ties.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

STATES = 120
LONGEST = 1e9


def average_run_length(
    steps: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], threshold: float, states: int = STATES
) -> float:
    """Return the expected number of steps until S = max(0, S + step), started at 0, reaches `threshold`.

    Args:
        steps: (n,) values of the increment.
        weights: (n,) their probabilities.
        threshold: larger than 0.
        states: number of grid points.
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
    """Return the threshold in `least`..`most` at which `length_at` is `run_length`, by bisection; else `most`."""
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
