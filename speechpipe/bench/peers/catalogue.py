"""The table of peers: which are installed, and what they answer on an episode."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import numpy as np

from speechpipe.bench.baselines import Answer, Baseline, nothing_moved
from speechpipe.monitor.blame.normal import Normal
from speechpipe.monitor.cases import Cases

FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,  # of NumPy's linear algebra, too
)
"""What a library may raise on data that it was not written for."""

FAILED = ("none",)


@dataclass(frozen=True)
class Peer:
    """A published method: `METHODS[name]` in `module` of this package."""

    name: str
    module: str
    every: int = 1  # a slow one judges every n-th episode; not 2 or 3, which miss some of the harmless shifts


PEERS = (
    Peer("BARO", "baro"),
    Peer("nsigma", "baro"),
    Peer("CIRCA", "rcaeval"),
    Peer("PyRCA HT", "pyrca"),
    Peer("RCD", "pyrca"),
    Peer("epsilon-diagnosis", "pyrca"),
    Peer("dowhy.gcm", "dowhy", 5),
)


@cache
def installed() -> Mapping[str, Baseline]:
    """Return the peers whose libraries can be imported, by name."""
    found: dict[str, Baseline] = {}
    with warnings.catch_warnings():  # some of the libraries set filters of their own
        warnings.simplefilter("ignore")
        for peer in PEERS:
            try:
                methods = import_module(f"{__package__}.{peer.module}").METHODS
            except ImportError:
                continue
            found[peer.name] = methods[peer.name]
    return found


def answers(
    normal: Normal, cases: Cases, seed: int, peers: Mapping[str, Baseline] | None = None
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Return the rankings of the peers (default: all installed) on an episode, and the names of those that failed.

    None of them ever says that nothing is wrong: if no metric has moved (`nothing_moved`), that is their answer.
    `seed` is the episode's number: the slow ones skip most. One that fails has blamed no stage.
    """
    rankings: dict[str, tuple[str, ...]] = {}
    failed = []
    nothing = nothing_moved(normal, cases)
    known = installed() if peers is None else peers
    for number, peer in enumerate(PEERS):
        if peer.name not in known or seed % peer.every:
            continue
        found: Answer | None = nothing
        if found is None:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = known[peer.name](normal, cases, np.random.default_rng([seed, number]))
            except FAILURES:
                failed.append(peer.name)
        rankings[peer.name] = FAILED if found is None else found.ranking
    return rankings, tuple(failed)
