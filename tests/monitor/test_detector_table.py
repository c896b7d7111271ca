"""The table of `speechpipe bench detectors`, small: ours beside river's defaults and a plain z-test."""

from collections.abc import Callable
from functools import partial

import pytest

from speechpipe.bench import detection

river = pytest.importorskip("river")


@pytest.mark.parametrize(("series", "others"), [(4, 1), pytest.param(10, 3, marks=pytest.mark.long)])
def test_ours_keep_their_promise_beside_the_others(
    capsys: pytest.CaptureFixture[str], series: int, others: int
) -> None:
    ours_and_others: dict[str, Callable[[], detection.Watching]] = {
        "mixture": partial(detection.Ours, "mixture"),
        "bernoulli_cusum": partial(detection.Ours, "bernoulli_cusum"),
        "DDM": partial(detection.River, "DDM"),
        "z-test": detection.ZTest,
        "ADWIN": partial(detection.River, "ADWIN"),
    }
    makers = dict(list(ours_and_others.items())[: 2 + others])
    rows = {row.name: row for row in detection.rows(makers, series)}
    with capsys.disabled():
        for row in rows.values():
            print(f"\n{row.name}: {row.false_per_10k:.2f} false per 10k, delays {row.delays}", end="")
    for name in ("mixture", "bernoulli_cusum"):
        ours = rows[name]
        assert ours.false_per_10k <= 2.0, "made for one in 10,000"
        assert ours.delays[10] < 60
        assert ours.delays[3] < 400
        assert ours.missed[2] <= 0.1
