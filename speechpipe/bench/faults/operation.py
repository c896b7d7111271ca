"""Faults of the service around the models (workers, router, store), by their effect on the records of a session.

A session is its record and those of its units, as the router would have written them.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from speechpipe.foundation.storage.record import Measure, Record

SLOW_SHARE = 0.5
TIMEOUT_S = 60.0
LEAK_MB = 2_000.0


def spoil(
    name: str, value: float, session: Record, units: Sequence[Record], random: np.random.Generator
) -> tuple[Record, list[Record]]:
    """Return the records that the faulty service would write."""
    if name == "canary_share":
        arm = "canary" if random.random() < value else "champion"
        return replace(session, arm=arm), [replace(unit, arm=arm) for unit in units]
    if name == "duplicated_responses" and random.random() < value:
        twice = [unit for unit in units for _ in (0, 1)]
        return session, [replace(unit, id=f"{unit.id}-{number}") for number, unit in enumerate(reversed(twice))]
    if name == "records_lost":
        return session, [unit for unit in units if random.random() >= value]
    return session, [_unit(name, value, unit, random) for unit in units]


def _unit(name: str, value: float, unit: Record, random: np.random.Generator) -> Record:
    if name == "cpu_contention" and random.random() < SLOW_SHARE:
        wall, queue = unit.measures.get("asr.wall_s"), unit.measures.get("asr.queue_s")
        return _with(unit, {"asr.wall_s": _times(wall, value), "asr.queue_s": _times(queue, value)})
    if name == "worker_timeouts" and random.random() < value:
        return _null(unit, "timeout", TIMEOUT_S)
    if name == "memory_leak_and_restarts" and random.random() < value:
        again = _with(unit, {"asr.attempts": 2, "asr.queue_s": _times(unit.measures.get("asr.queue_s"), 2.0)})
        return _null(again, "worker_crash", None) if random.random() < 0.5 else again
    if name == "version_skew" and random.random() < value:
        return replace(unit, versions={**unit.versions, "asr": "another@0.9"})
    return unit


def rss_mb(name: str, value: float, usual: float) -> float:
    """Return the memory of the faulty service in MB."""
    return usual + value * LEAK_MB if name == "memory_leak_and_restarts" else usual


def _null(unit: Record, cause: str, wall_s: float | None) -> Record:
    nothing = dict.fromkeys(("asr.confidence", "asr.words_per_s", "asr.characters_per_s", "asr.compression_ratio"))
    more = {} if wall_s is None else {"asr.wall_s": wall_s}
    return _with(replace(unit, outcome=cause), {**nothing, "asr.words": 0, "asr.characters": 0, **more})


def _times(value: Measure, factor: float) -> Measure:
    return value * factor if isinstance(value, int | float) else value


def _with(unit: Record, measures: dict[str, Measure]) -> Record:
    return replace(unit, measures={**unit.measures, **measures})
