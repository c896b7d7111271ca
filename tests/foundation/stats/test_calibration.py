"""Confidence that means something, and promises that are kept."""

import numpy as np
import pytest

from speechpipe.foundation.stats.calibration import Calibration, Prior, calibration_error, grouped, isotonic, promise


def utterances(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return (confidence, error): over-confident, but in the right order."""
    random = np.random.default_rng(seed)
    confidence = random.beta(5, 2, count)
    words = 6
    wrong = random.binomial(words, np.clip(1.05 - confidence**0.5 * 1.05, 0, 1)) / words
    return confidence, wrong


def test_isotonic_regression_is_the_least_squares_fit_that_does_not_fall() -> None:
    fitted = isotonic([0.1, 0.2, 0.3, 0.4], [0.0, 0.6, 0.4, 1.0])
    assert fitted([0.1, 0.2, 0.3, 0.4, 0.05, 0.99]).tolist() == [0.0, 0.5, 0.5, 1.0, 0.0, 1.0]
    sklearn = pytest.importorskip("sklearn.isotonic")
    random = np.random.default_rng(3)
    confidence, right = np.round(random.random(300), 2), random.random(300)
    weights = random.uniform(0.5, 4, 300)
    theirs = sklearn.IsotonicRegression().fit(confidence, right, weights)
    ours = isotonic(confidence.tolist(), right.tolist(), weights.tolist())
    np.testing.assert_allclose(ours(confidence), theirs.predict(confidence), atol=1e-9)


def test_calibration_brings_the_error_down_on_others_than_it_was_fitted_on() -> None:
    confidence, wrong = utterances(2000)
    fitted = isotonic(confidence[:1000].tolist(), (1 - wrong[:1000]).tolist())
    before = calibration_error(confidence[1000:].tolist(), (1 - wrong[1000:]).tolist())
    after = calibration_error(fitted(confidence[1000:]).tolist(), (1 - wrong[1000:]).tolist())
    assert after < before / 2
    assert after < 0.05


@pytest.mark.parametrize("bound", [0.05, 0.1])
def test_a_promise_is_broken_in_at_most_one_of_twenty(bound: float) -> None:
    confidence, wrong = utterances(50_000, 7)
    random = np.random.default_rng(1)
    broken = promised = 0
    times = 60
    for _ in range(times):
        mine = random.integers(0, len(confidence), 600)
        found = promise(confidence[mine].tolist(), wrong[mine].tolist(), bound)
        if found.threshold is None:
            continue
        promised += 1
        accepted = confidence >= found.threshold
        broken += wrong[accepted].mean() > bound
    assert broken <= 0.05 * times
    assert bound < 0.1 or promised > times / 2, "or it promises nothing"


@pytest.mark.parametrize("words", [1, 10])
@pytest.mark.parametrize("bound", [0.05, 0.1])
def test_at_an_error_just_above_the_bound_chance_promises_in_one_of_twenty_at_most(bound: float, words: int) -> None:
    random = np.random.default_rng(2)
    times = 400
    promised = sum(
        promise(random.random(600).tolist(), (random.binomial(words, 1.001 * bound, 600) / words).tolist(), bound).share
        > 0
        for _ in range(times)
    )
    assert promised <= 0.05 * times


def test_three_hundred_reviews_with_few_errors_are_enough_for_a_promise_of_a_twentieth() -> None:
    random = np.random.default_rng(4)
    errors = random.binomial(10, 0.02, (50, 300)) / 10
    assert sum(promise([0.9] * 300, one.tolist(), 0.05).share for one in errors) >= 45


def test_what_cannot_be_promised_is_not() -> None:
    assert promise([0.9] * 10, [0.0] * 10, 0.05).threshold is None, "too few"
    assert promise([0.9] * 500, [0.5] * 500, 0.05).threshold is None, "too many errors"
    nothing = promise([], [], 0.05)
    assert (nothing.threshold, nothing.share, nothing.error) == (None, 0.0, None)
    sure = promise(np.linspace(0, 1, 500).tolist(), [0.0] * 500, 0.05)
    assert sure.threshold == 0.0
    assert sure.share == 1.0


# ---- a calibration that comes with a recognizer ----

SHIPPED = Prior(Calibration((0.2, 0.5, 0.8), (0.4, 0.7, 0.9)), (0.2, 0.3, 0.5))


def test_a_shipped_calibration_holds_until_there_are_reviews() -> None:
    assert SHIPPED.refined([], []) == SHIPPED.calibration
    assert Prior().refined([0.3, 0.6], [0.0, 1.0]) == isotonic([0.3, 0.6], [0.0, 1.0])


def test_few_reviews_move_a_shipped_calibration_little_and_many_replace_it() -> None:
    few = SHIPPED.refined([0.9] * 5, [0.0] * 5)
    assert 0.7 < float(few(0.9)) < 0.9
    assert few([0.3, 0.6]).tolist() == pytest.approx([0.4, 0.7])
    many = SHIPPED.refined([0.3, 0.6, 0.9] * 2000, [0.0, 0.2, 0.5] * 2000)
    assert many([0.3, 0.6, 0.9]).tolist() == pytest.approx([0.0, 0.2, 0.5], abs=0.02)


def test_a_refined_calibration_does_not_fall() -> None:
    found = SHIPPED.refined([0.3] * 500 + [0.9] * 500, [1.0] * 500 + [0.5] * 500)
    assert list(found.levels) == sorted(found.levels)
    assert float(found(0.3)) == float(found(0.9))


def test_a_shipped_calibration_has_broad_steps_and_is_never_certain() -> None:
    confidence, wrong = utterances(1000)
    found = grouped(confidence.tolist(), (1 - wrong).tolist())
    assert len(found.calibration.edges) <= 20
    assert sum(found.shares) == pytest.approx(1.0)
    assert min(found.shares) >= 0.04
    others, missed = utterances(1000, 5)
    after = calibration_error(found.calibration(others).tolist(), (1 - missed).tolist())
    assert after < calibration_error(others.tolist(), (1 - missed).tolist()) / 2
    sure = grouped([0.9] * 30, [1.0] * 30)
    assert 0.95 < float(sure.calibration(0.9)) < 1.0
