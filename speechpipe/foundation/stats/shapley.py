"""Exact Shapley values of a change, from all cells of a swap replay, with bootstrap intervals.

Players are stages; a cell says what the metric was of each unit with some players as they are now and the others as
they were. The value of a player is its mean contribution over all orders in which players could be swapped (Shapley,
"A value for n-person games", 1953); with three players that is eight cells, so nothing is approximated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
RESAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class Share:
    """A player's part in the change of the metric, with a 95 % bootstrap interval over units."""

    player: str
    value: float
    low: float
    high: float


def cells(players: Sequence[str]) -> list[frozenset[str]]:
    """Return every set of players that may be "now"; the others are "then"."""
    return [frozenset(some) for size in range(len(players) + 1) for some in combinations(players, size)]


def shapley(
    players: Sequence[str], found: Mapping[frozenset[str], Values], seed: int = 0, resamples: int = RESAMPLES
) -> list[Share]:
    """Return each player's share; they add up to the whole change.

    Args:
        players: their names.
        found: for each of `cells(players)` the (units,) values of the metric. Cells of the same length are resampled
            together, because their units are the same.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        KeyError: a cell is missing.
        ValueError: a cell has no units.
    """
    random = np.random.default_rng(seed)
    lengths = {len(found[cell]) for cell in cells(players)}
    if 0 in lengths:
        raise ValueError("a cell has no units")
    whole = _values(players, {cell: float(found[cell].mean()) for cell in cells(players)})
    picks = {length: random.integers(0, length, (resamples, length)) for length in lengths}
    means = {cell: found[cell][picks[len(found[cell])]].mean(axis=1) for cell in cells(players)}
    drawn = [_values(players, {cell: float(means[cell][number]) for cell in means}) for number in range(resamples)]
    return [
        Share(
            player,
            whole[player],
            *(float(edge) for edge in np.quantile([one[player] for one in drawn], [0.025, 0.975])),
        )
        for player in players
    ]


def _values(players: Sequence[str], mean: Mapping[frozenset[str], float]) -> dict[str, float]:
    count = len(players)
    found = {}
    for player in players:
        others = [other for other in players if other != player]
        found[player] = sum(
            factorial(len(some))
            * factorial(count - len(some) - 1)
            / factorial(count)
            * (mean[some | {player}] - mean[some])
            for some in cells(others)
        )
    return found
