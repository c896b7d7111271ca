"""Fixed limits: when they ring, and that they stop soon after what crossed them has stopped."""

from collections.abc import Sequence

import pytest

from speechpipe.foundation.storage.record import Record
from speechpipe.monitor.limits import LimitWatch
from speechpipe.monitor.windows import Grouping, aggregate
from speechpipe.serving.telemetry.cascade_metrics import CASCADE

BEGAN = 1_000.0


def rings_after(metric: str, measures: Sequence[float | None], every_s: float = 10.0) -> list[int]:
    """Return after how many seconds the limit of a metric of the server is crossed, asked every 30 s."""
    samples = [
        Record("system", f"s{number}", "", BEGAN + every_s * number, "", "", "", measures={metric: value})
        for number, value in enumerate(measures)
        if value is not None
    ]
    watch, found = LimitWatch(CASCADE), []
    for number in range(1, 40):
        now = BEGAN + 30.0 * number
        fresh = [one for one in samples if now - 30.0 <= one.at < now]
        watch.take(aggregate(CASCADE, fresh, Grouping()))
        if any(one.metric == metric for one in watch.conditions(now)):
            found.append(30 * number)
    return found


@pytest.mark.parametrize("metric", ["software.restarts", "software.refused"])
def test_a_limit_on_a_count_ends_minutes_after_the_last_event(metric: str) -> None:
    many = 30.0 if metric == "software.refused" else 1.0
    found = rings_after(metric, [many] * 12 + [0.0] * 80)
    assert found, "it rings"
    assert min(found) <= 60
    assert 120 <= max(found) <= 360, "the events were over after two minutes"


def test_events_that_go_on_keep_ringing() -> None:
    found = rings_after("software.restarts", [1.0 if number % 15 == 0 else 0.0 for number in range(115)])
    assert found[-1] == 30 * 39
    assert len(found) == (found[-1] - found[0]) // 30 + 1, "without a gap"


def test_few_events_do_not_ring() -> None:
    assert rings_after("software.restarts", [1.0, None, 1.0] + [0.0] * 80) == []


def test_a_limit_on_a_mean_ends_minutes_after_it_fell() -> None:
    found = rings_after("software.loop_lag_s", [3.0] * 30 + [0.01] * 80)
    assert found
    assert max(found) <= 300 + 300


def test_what_must_never_happen_is_told_by_a_watcher_that_reads_it_late() -> None:
    sample = Record("system", "s", "", BEGAN, "", "", "", measures={"system.records_lost": 1.0})
    watch = LimitWatch(CASCADE)
    watch.take(aggregate(CASCADE, [sample], Grouping()))
    assert [one.metric for one in watch.conditions(BEGAN + 500.0)] == ["system.records_lost"]
