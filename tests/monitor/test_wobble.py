"""How much healthy traffic varies from hour to hour, and that its detectors allow for it."""

from collections.abc import Iterable

import numpy as np
import pytest

from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.monitor.reference import Reference
from speechpipe.monitor.spec import MetricKind
from speechpipe.monitor.windows import Group, Window
from speechpipe.monitor.wobble import LEAST_HOURS, Wobbles, wobbles
from tests.records import SPEC

GROUP = Group("consumer", "", "upload", "b@1", "champion")
REAL = next(one for one in SPEC.metrics if one.value_kind is MetricKind.REAL)
SHARE = next(one for one in SPEC.metrics if one.value_kind is MetricKind.SHARE)


def day(means: Iterable[float], metric: str, *, share: bool, values: int = 200, seed: int = 0) -> list[Window]:
    """Four windows an hour, of values with a standard deviation of 1, or of zeros and ones."""
    random = np.random.default_rng(seed)
    found = []
    for hour, mean in enumerate(means):
        for quarter in range(4):
            drawn = random.random(values // 4) < mean if share else random.normal(mean, 1.0, values // 4)
            window = Window(hour * 3_600 + quarter * 900, GROUP, 900)
            window.metrics[metric] = Distribution.of(drawn.astype(np.float64))
            found.append(window)
    return found


@pytest.mark.parametrize("spread", [0.0, 0.2, 0.5])
def test_the_spread_of_the_hours_is_found(spread: float) -> None:
    random = np.random.default_rng(1)
    found = [
        wobbles([REAL], day(random.normal(0.0, spread, 24), REAL.name, share=False, seed=seed)).get(REAL.name, 0.0)
        for seed in range(30)
    ]
    expected = spread / (1 + spread**2) ** 0.5  # in standard deviations of one value of the whole day
    assert np.median(found) == pytest.approx(expected, abs=0.04)


def test_the_same_for_a_share() -> None:
    random = np.random.default_rng(1)
    steady = [
        wobbles([SHARE], day([0.1] * 24, SHARE.name, share=True, seed=seed)).get(SHARE.name, 0.0) for seed in range(9)
    ]
    assert np.median(steady) < 0.1
    moved = []
    for seed in range(9):
        odds = random.normal(np.log(0.1 / 0.9), 0.5, 24)
        moved.append(wobbles([SHARE], day(1 / (1 + np.exp(-odds)), SHARE.name, share=True, seed=seed))[SHARE.name])
    assert np.median(moved) == pytest.approx(0.5, abs=0.15)


def test_few_hours_and_few_values_say_nothing() -> None:
    few = [0.0, 3.0] * (LEAST_HOURS // 2)
    assert wobbles([REAL], day(few, REAL.name, share=False))
    assert wobbles([REAL], day(few[:-1], REAL.name, share=False)) == {}
    assert wobbles([REAL], day(few, REAL.name, share=False, values=16)) == {}
    assert wobbles([REAL], []) == {}
    constant = day(few, REAL.name, share=False)
    for window in constant:
        window.metrics[REAL.name] = Distribution.of([2.0] * 50)
    assert wobbles([REAL], constant) == {}


def test_each_reference_is_read_once_and_short_ones_never() -> None:
    read: list[Group] = []

    def windows(group: Group, since: float, until: float) -> list[Window]:
        read.append(group)
        return day([0.0, 3.0] * 12, REAL.name, share=False)

    long = Reference(1, GROUP, 0.0, 86_400.0, 86_400.0, "pinned", Window(0, GROUP, 0))
    other = GROUP._replace(channel="listen")
    short = Reference(2, other, 0.0, 3_600.0, 3_600.0, "pinned", Window(0, other, 0))
    kept = Wobbles(SPEC, windows)
    for _ in range(2):
        found = kept.of({GROUP: long, other: short})
        assert found[1][REAL.name] > 0.5
        assert found[2] == {}
    assert read == [GROUP]
