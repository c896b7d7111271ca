"""Detectors against simulation: how long until a false alarm, how soon after a change."""

import numpy as np
import numpy.typing as npt
import pytest

from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.monitor.detectors import DETECTORS, Detector, make
from speechpipe.monitor.detectors.recovery import Recovery

Values = npt.NDArray[np.float64]
RUN_LENGTH = 2_000.0
BASE = 0.02


def share_reference(share: float = BASE, count: int = 20_000) -> Distribution:
    values = np.zeros(count)
    values[: round(share * count)] = 1.0
    return Distribution.of(values, shape_only=True)


def skewed(random: np.random.Generator, count: int, factor: float = 1.0) -> Values:
    return random.gamma(2.0, factor, count)


def until_alarm(detector: Detector, values: Values) -> int:
    for index, value in enumerate(values):
        if detector.update(float(value)).alarm:
            return index + 1
    return len(values)


@pytest.mark.parametrize("name", ["bernoulli_cusum", "mixture"])
def test_false_alarms_on_a_rare_share_are_as_rare_as_promised(name: str) -> None:
    random = np.random.default_rng(1)
    detector = make(name, share_reference(), RUN_LENGTH)
    lengths = []
    for _ in range(25):
        detector.reset()
        lengths.append(until_alarm(detector, (random.random(20_000) < BASE).astype(float)))
    # The mean of 25 exponential-like lengths is within 40 % of the truth nearly always.
    assert np.mean(lengths) >= 0.6 * RUN_LENGTH


@pytest.mark.parametrize("name", ["bernoulli_cusum", "mixture"])
@pytest.mark.parametrize(("ratio", "most"), [(2, 1_200), (3, 350), (10, 60)])
def test_a_worsening_of_a_rare_share_is_found(name: str, ratio: int, most: int) -> None:
    random = np.random.default_rng(2)
    detector = make(name, share_reference(), RUN_LENGTH)
    delays = []
    for _ in range(30):
        detector.reset()
        delays.append(until_alarm(detector, (random.random(5_000) < BASE * ratio).astype(float)))
    assert np.median(delays) <= most


def test_skewed_values_raise_no_more_false_alarms_than_promised() -> None:
    random = np.random.default_rng(3)
    detector = make("robust_cusum", Distribution.of(skewed(random, 20_000)), RUN_LENGTH)
    lengths = []
    for _ in range(25):
        detector.reset()
        lengths.append(until_alarm(detector, skewed(random, 20_000)))
    assert np.mean(lengths) >= 0.6 * RUN_LENGTH


@pytest.mark.parametrize("factor", [1.5, 0.6])
def test_real_values_that_shift_are_found_either_way(factor: float) -> None:
    random = np.random.default_rng(4)
    detector = make("robust_cusum", Distribution.of(skewed(random, 20_000)), RUN_LENGTH)
    delays = []
    for _ in range(30):
        detector.reset()
        delays.append(until_alarm(detector, skewed(random, 5_000, factor)))
    assert np.median(delays) <= 60
    detector.reset()
    verdicts = [detector.update(float(value)) for value in skewed(random, 200, factor)]
    assert next(verdict for verdict in verdicts if verdict.alarm).direction == (1 if factor > 1 else -1)


def test_one_absurd_value_is_no_change() -> None:
    random = np.random.default_rng(5)
    detector = make("robust_cusum", Distribution.of(skewed(random, 5_000)), RUN_LENGTH)
    assert not detector.update(1e12).alarm


def test_only_the_direction_that_matters_is_watched() -> None:
    detector = make("mixture", share_reference(), 500.0)
    assert not any(detector.update(0.0).alarm for _ in range(20_000))
    down = make("mixture", share_reference(0.5), 500.0, down=1.0)
    assert any(down.update(0.0).alarm for _ in range(200))


def test_a_degraded_state_never_becomes_the_new_normal() -> None:
    random = np.random.default_rng(6)
    detector = make("mixture", share_reference(), RUN_LENGTH)
    verdicts = [detector.update(float(value)) for value in random.random(20_000) < 0.1]
    assert all(verdict.alarm for verdict in verdicts[5_000:])


def test_a_recovery_shows_before_long() -> None:
    random = np.random.default_rng(7)
    detector = make("mixture", share_reference(), RUN_LENGTH)
    for value in random.random(5_000) < 0.2:
        detector.update(float(value))
    evidence = [detector.update(float(value)).evidence for value in random.random(3_000) < BASE]
    assert min(evidence) < 0.5


@pytest.mark.parametrize("name", list(DETECTORS))
def test_every_detector_goes_on_where_it_was(name: str) -> None:
    random = np.random.default_rng(8)
    values = (random.random(600) < 0.05).astype(float) if name != "robust_cusum" else skewed(random, 600, 1.2)
    reference = share_reference() if name != "robust_cusum" else Distribution.of(skewed(random, 5_000))
    whole, first, second = (make(name, reference, RUN_LENGTH) for _ in range(3))
    expected = [whole.update(float(value)).evidence for value in values]
    found = [first.update(float(value)).evidence for value in values[:300]]
    second.restore(first.state())
    found += [second.update(float(value)).evidence for value in values[300:]]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("name", list(DETECTORS))
def test_an_empty_reference_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="reference"):
        make(name, Distribution(), RUN_LENGTH)


@pytest.mark.parametrize(("share", "level", "most"), [(0.02, 0.3, 40), (0.02, 0.15, 150), (0.5, 0.05, 20)])
def test_a_share_that_is_back_is_known_to_be_back_after_few_values(share: float, level: float, most: int) -> None:
    random = np.random.default_rng(1)
    recovered = []
    for _ in range(50):
        test = Recovery(
            share_reference(share), [1.0] * round(100 * level) + [0.0] * round(100 - 100 * level), share=True
        )
        values = random.random(2_000) < share
        recovered.append(next(index for index, value in enumerate(values, 1) if test.update(float(value))))
    assert float(np.median(recovered)) <= most


def test_a_level_that_is_back_is_known_to_be_back_and_one_that_stays_is_not() -> None:
    random = np.random.default_rng(2)
    reference = Distribution.of(random.normal(-30.0, 2.0, 2_000))
    test = Recovery(reference, [-60.0] * 10, share=False)
    assert not any(test.update(float(value)) for value in random.normal(-60.0, 2.0, 2_000))
    again = Recovery(reference, test.values, share=False)
    again.restore(test.state())
    assert next(n for n in range(1, 100) if again.update(float(random.normal(-30.0, 2.0)))) <= 35
    slight = Recovery(reference, [-30.5] * 10, share=False)
    assert not any(slight.update(float(value)) for value in random.normal(-30.0, 2.0, 2_000)), "left to the detector"
