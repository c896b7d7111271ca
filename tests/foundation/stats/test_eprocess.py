"""The evidence keeps its promises under continuous looking, by simulation."""

import math

import numpy as np
import pytest

from speechpipe.bench.rollout import Setting, share, simulated
from speechpipe.foundation.stats.eprocess import (
    Betting,
    Bounded,
    log_e_above,
    log_e_below,
    log_e_not_inferior,
    log_e_unequal,
    log_e_worse,
    share_with_ratio,
)

ALPHA = 0.05
RUNS, EVENTS, WEIGHT = 400, 1500, 0.1


def crossed(log_e: np.ndarray) -> float:
    return float((log_e.max(axis=1) >= math.log(1 / ALPHA)).mean())


def hits(probability: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return (random.random((RUNS, EVENTS)) < probability).cumsum(axis=1), np.arange(1.0, EVENTS + 1)[None, :]


@pytest.mark.long
def test_an_equal_candidate_is_seldom_called_worse_however_often_one_looks() -> None:
    on_candidate, events = hits(WEIGHT)
    assert crossed(log_e_worse(on_candidate, events, WEIGHT)) <= 1.5 * ALPHA
    assert crossed(log_e_unequal(on_candidate, events, WEIGHT)) <= 1.5 * ALPHA


@pytest.mark.long
def test_a_candidate_at_the_margin_is_seldom_let_through() -> None:
    on_candidate, events = hits(share_with_ratio(WEIGHT, 2.0))
    assert crossed(log_e_not_inferior(on_candidate, events, WEIGHT, 2.0)) <= 1.5 * ALPHA


@pytest.mark.long
def test_a_rate_at_the_limit_is_seldom_called_below_or_above_it() -> None:
    found, sessions = hits(0.02)
    assert crossed(log_e_below(found, sessions, 0.02)) <= 1.5 * ALPHA
    assert crossed(log_e_above(found, sessions, 0.02)) <= 1.5 * ALPHA


@pytest.mark.long
@pytest.mark.parametrize("ratio", [2.0, 3.0, 5.0])
def test_a_worse_candidate_is_found_and_the_worse_the_sooner(ratio: float) -> None:
    on_candidate, events = hits(share_with_ratio(WEIGHT, ratio))
    log_e = log_e_worse(on_candidate, events, WEIGHT) >= math.log(100)
    median = float(np.median(np.where(log_e.any(axis=1), log_e.argmax(axis=1), EVENTS)))
    assert median < {2.0: 400, 3.0: 130, 5.0: 50}[ratio]


def test_what_fails_on_every_session_is_seen_within_a_few() -> None:
    failures = np.arange(1.0, 20)
    log_e = log_e_worse(failures, failures, 0.2)  # every event on the candidate
    assert int((log_e >= math.log(700)).argmax()) + 1 <= 8


def test_bets_on_bounded_values_keep_their_promise() -> None:
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(RUNS // 2):
        betting = Betting(0.1, -1.0, 1.0)
        most = 0.0
        for value in random.choice([-1.0, 0.0, 1.0], 300, p=[0.1, 0.7, 0.2]):  # the mean is at the limit
            betting.update(float(value))
            most = max(most, betting.log_e)
        wrong += most >= math.log(1 / ALPHA)
    assert wrong / (RUNS // 2) <= 1.5 * ALPHA


def test_a_confidence_sequence_holds_the_mean_at_every_moment() -> None:
    random = np.random.default_rng(2)
    missed = 0
    for _ in range(100):
        sequence = Bounded(ALPHA)
        for count, value in enumerate(random.beta(8, 2, 200)):
            sequence.update(float(value))
            low, high = sequence.interval if count % 10 == 9 else (0.0, 1.0)
            if not low - 0.005 <= 0.8 <= high + 0.005:
                missed += 1
                break
    assert missed <= 100 * ALPHA * 2
    assert sequence.interval[1] - sequence.interval[0] < 0.15


def test_the_simulation_says_what_a_peeked_test_does() -> None:
    found = simulated(Setting(0.05, 4_000, 1.0, "watching"), 40)
    assert share(found["e-process (ours)"], "roll_back")["value"] <= 0.05
    assert share(found["z-test, peeked"], "roll_back")["value"] >= 0.1, "or the comparison says nothing"
