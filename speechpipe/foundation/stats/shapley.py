"""Exact Shapley values of a change of a metric, with bootstrap intervals.

Players are stages. A cell has the metric of each unit with some players in their new version and the others in their
old one. The value of a player is its mean contribution over all orders in which the players could be exchanged
(Shapley, "A value for n-person games", 1953). Three players make eight cells, so that all are computed exactly.
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
    """A player's share of the change of the metric, with its 95 % bootstrap interval over units."""

    player: str
    value: float
    low: float
    high: float


def cells(players: Sequence[str]) -> list[frozenset[str]]:
    """Return all subsets of the players; a cell's members are in their new version."""
    return [frozenset(some) for size in range(len(players) + 1) for some in combinations(players, size)]


def shapley(
    players: Sequence[str], found: Mapping[frozenset[str], Values], seed: int = 0, resamples: int = RESAMPLES
) -> list[Share]:
    """Return each player's share; the shares add up to the total change.

    Args:
        players: names of the players.
        found: for each of `cells(players)` the (units,) values of the metric. Cells of equal length are resampled
            together, because they have the same units.
        seed: of the bootstrap's random numbers.
        resamples: number of bootstrap samples.

    Raises:
        KeyError: a cell is missing.
        ValueError: a cell has no units.
    """
    random = np.random.default_rng(seed)
    lengths = {len(found[cell]) for cell in cells(players)}
    if 0 in lengths:
        raise ValueError("a cell has no units")
    total = _values(players, {cell: float(found[cell].mean()) for cell in cells(players)})
    picks = {length: random.integers(0, length, (resamples, length)) for length in lengths}
    means = {cell: found[cell][picks[len(found[cell])]].mean(axis=1) for cell in cells(players)}
    drawn = [_values(players, {cell: float(means[cell][number]) for cell in means}) for number in range(resamples)]
    return [
        Share(
            player,
            total[player],
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
