"""The rollout benchmark on simulated streams: false rollbacks, sessions to a rollback, false promotions."""

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from speechpipe.bench.rollout_rules import INTERVAL, WATCHING, Rule, Stop, Stream, flagger, ours

RATES = {"error": 0.002, "empty": 0.02, "no_trigger": 0.03, "slow": 0.01, "redo": 0.05}
WORSE = "empty"
"""The guard whose events are more frequent on the candidate."""

WEIGHT, CANARY_SESSIONS = 0.05, 20_000
RATIOS = (2.0, 3.0, 5.0)
MARGIN, PROMOTION_WEIGHT, PROMOTION_SESSIONS = 2.0, 0.25, 10_000
ALPHA, ALPHA_PROMOTE = 0.01, 0.05

PROMOTING: Mapping[str, Rule] = {"e-process (ours)": ours(ALPHA, ALPHA_PROMOTE, MARGIN, 0.02), "Flagger": flagger}


@dataclass(frozen=True)
class Setting:
    """The parameters of a simulation."""

    weight: float
    canary_sessions: int
    ratio: float  # of the candidate's rate of `WORSE` to the champion's
    rules: str  # watching | promoting


def stream(setting: Setting, seed: int) -> Stream:
    """Sample one rollout. The rates of all events vary by half over the day, equally on both arms."""
    random = np.random.default_rng([seed, round(setting.ratio * 100), round(setting.weight * 100)])
    intervals = setting.canary_sessions // INTERVAL
    day = 1 + 0.5 * np.sin(np.arange(intervals) / 20 * 2 * np.pi + random.uniform(0, 2 * np.pi))
    base = np.array(list(RATES.values()))[:, None] * day
    ratio = np.array([setting.ratio if name == WORSE else 1.0 for name in RATES])[:, None]
    others = round(INTERVAL * (1 - setting.weight) / setting.weight)
    return Stream(
        random.binomial(INTERVAL, np.minimum(base * ratio, 1.0)),
        random.binomial(others, base),
        tuple(RATES.values()),
        setting.weight,
        random,
    )


def _one(setting: Setting, seed: int) -> dict[str, Stop]:
    rules = WATCHING if setting.rules == "watching" else PROMOTING
    return {name: rule(stream(setting, seed)) for name, rule in rules.items()}


def simulated(setting: Setting, runs: int) -> dict[str, list[Stop]]:
    """Return how each rule ended each run, on all cores."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        found = list(pool.map(partial(_one, setting), range(runs), chunksize=4))
    return {name: [one[name] for one in found] for name in found[0]}


def document(runs: int) -> dict[str, Any]:
    """Run all simulations; return their figures as JSON data."""
    healthy = simulated(Setting(WEIGHT, CANARY_SESSIONS, 1.0, "watching"), runs)
    worse = {ratio: simulated(Setting(WEIGHT, CANARY_SESSIONS, ratio, "watching"), runs) for ratio in RATIOS}
    margin = simulated(Setting(PROMOTION_WEIGHT, PROMOTION_SESSIONS, MARGIN, "promoting"), runs)
    equal = simulated(Setting(PROMOTION_WEIGHT, PROMOTION_SESSIONS, 1.0, "promoting"), runs)
    return {
        "runs": runs,
        "alpha": ALPHA,
        "alpha_promote": ALPHA_PROMOTE,
        "weight": WEIGHT,
        "canary_sessions": CANARY_SESSIONS,
        "false_rollback": {name: share(stops, "roll_back") for name, stops in healthy.items()},
        "sessions_to_rollback": {
            f"x{ratio:g}": {name: _sessions(stops, "roll_back") for name, stops in found.items()}
            for ratio, found in worse.items()
        },
        "promotion": {
            name: {
                "false_at_margin": share(margin[name], "promote"),
                "of_an_equal_one": share(equal[name], "promote"),
                "sessions": _sessions(equal[name], "promote"),
            }
            for name in margin
        },
    }


def share(stops: Sequence[Stop], what: str) -> dict[str, float]:
    """Return the share of runs that ended in this way, with its 95 % Wilson interval."""
    n, k = len(stops), sum(stop.what == what for stop in stops)
    z2 = 1.96**2
    middle = (k + z2 / 2) / (n + z2)
    half = 1.96 / (n + z2) * (k * (n - k) / n + z2 / 4) ** 0.5
    return {"value": k / n, "low": max(0.0, middle - half), "high": min(1.0, middle + half)}


def _sessions(stops: Sequence[Stop], what: str) -> dict[str, float | None]:
    at = np.array([stop.sessions if stop.what == what else np.inf for stop in stops])
    median = float(np.quantile(at, 0.5, method="higher"))
    return {"median": median if np.isfinite(median) else None, "reached": float(np.isfinite(at).mean())}


def text(found: Mapping[str, Any]) -> str:
    """Return the figures as tables for the terminal."""
    rules = list(found["false_rollback"])
    ratios = list(found["sessions_to_rollback"])
    head = "".join(f"{f'canary sessions to rollback, {ratio}':>34s}" for ratio in ratios)
    lines = [
        f"{found['runs']} runs, {found['canary_sessions']} canary sessions each at {found['weight']:.0%}, "
        f"alpha {found['alpha']:g}, looked at after every event or interval",
        "",
        f"{'rule':26s}{'false rollbacks':>24s}{head}",
    ]
    for rule in rules:
        cell = found["false_rollback"][rule]
        row = f"{rule:26s}{_cell(cell):>24s}"
        for ratio in ratios:
            stop = found["sessions_to_rollback"][ratio][rule]
            median = "never" if stop["median"] is None else f"{stop['median']:.0f}"
            reached = f" ({stop['reached']:.0%})" if stop["reached"] < 1 else ""
            row += f"{median + reached:>34s}"
        lines.append(row)
    lines += ["", f"{'rule':26s}{'promoted at the margin':>24s}{'promoted if equal':>24s}{'canary sessions':>20s}"]
    for rule, cells in found["promotion"].items():
        sessions = cells["sessions"]["median"]
        shown = "never" if sessions is None else f"{sessions:.0f}"
        margin, equal = _cell(cells["false_at_margin"]), _cell(cells["of_an_equal_one"])
        lines.append(f"{rule:26s}{margin:>24s}{equal:>24s}{shown:>20s}")
    return "\n".join(lines)


def _cell(cell: Mapping[str, float]) -> str:
    return f"{cell['value']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]"
