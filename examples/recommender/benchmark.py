"""Does blame name the stage at fault in the recommender cascade? Called by `speechpipe bench blame --second`."""

import zlib
from collections.abc import Iterator

import numpy as np

from examples.recommender.cascade import CASCADE
from examples.recommender.shop import FAULTS, SEVERITIES, Shop, Visits
from speechpipe.monitor.blame.normal import fit
from speechpipe.monitor.blame.verdict import blame
from speechpipe.monitor.cases import Cases, joined

REFERENCE, AFTER = 500, 300


def judged(seeds: int, healthy: int) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Yield (fault, severity, stage at fault, stages as blame ranks them); fault "" is health.

    Three in ten come with a harmless shift: tastes that drift, or a wave of new users; of the healthy, half do.
    """
    shop = Shop()
    for fault, (stage, values) in FAULTS.items():
        for severity, value in zip(SEVERITIES, values, strict=True):
            for seed in range(seeds):
                shift = ("drift", "new users")[seed % 2] if seed % 10 < 3 else ""
                yield fault, severity, stage, _one(shop, fault, value, seed, shift)
    for seed in range(healthy):
        shift = ("drift", "new users")[seed // 2 % 2] if seed % 2 else ""
        yield "", "", "none", _one(shop, "", 0.0, 100_000 + seed, shift)


def _one(shop: Shop, fault: str, value: float, seed: int, shift: str) -> tuple[str, ...]:
    random = np.random.default_rng([seed, zlib.crc32(f"{fault}{value}{shift}".encode())])
    before = int(random.integers(300, 600))
    pinned = _cases(shop, shop.visits(REFERENCE, random), 0, random)
    first = _cases(shop, shop.visits(before, random), REFERENCE, random)
    moved = {"drift": 0.3 if shift == "drift" else 0.0, "new_users": 0.3 if shift == "new users" else 0.0}
    rest = _cases(shop, shop.visits(AFTER, random, **moved), REFERENCE + before, random, fault, value)
    traffic = Cases(first.names, np.concatenate([first.at, rest.at]), np.concatenate([first.values, rest.values]))
    return blame(fit(CASCADE, pinned), traffic).ranking


def _cases(
    shop: Shop, visits: Visits, start: int, random: np.random.Generator, fault: str = "", value: float = 0.0
) -> Cases:
    at = start + np.arange(len(visits.tastes), dtype=float)
    return joined(CASCADE, shop.records(visits, at, random, "", fault, value))
