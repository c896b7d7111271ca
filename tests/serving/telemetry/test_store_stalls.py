"""A store that is locked for a while rings, and one that is written to now and then by others does not."""

import pytest

from speechpipe.foundation.storage.record import Record
from speechpipe.monitor.limits import LimitWatch
from speechpipe.monitor.windows import Grouping, aggregate
from speechpipe.serving.telemetry.cascade_metrics import CASCADE


@pytest.mark.parametrize(
    ("waits_s", "rings"),
    [
        ([0.0, 2.1, 0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 66.7, 0.0], True),  # as measured at a lock of 70 s
        ([0.1, 9.0, 16.9, 0.1, 9.0, 17.0, 0.1, 9.0, 16.8], True),
        ([0.3, 0.0, 0.2, 2.5, 0.0, 0.3, 9.0, 0.0, 11.0, 0.0], False),
    ],
    ids=["one long lock", "one lock after the other", "a backup"],
)
def test_a_store_that_makes_records_wait_rings(waits_s: list[float], rings: bool) -> None:
    samples = [
        Record("system", f"s{number}", "", 1000.0 + 10.0 * number, "", "", "", measures={"system.store_wait_s": wait_s})
        for number, wait_s in enumerate(waits_s)
    ]
    watch = LimitWatch(CASCADE, aggregate(CASCADE, samples, Grouping()))
    found = [one.metric for one in watch.conditions(1000.0 + 10.0 * len(samples)) if one.metric.startswith("system.")]
    assert found == (["system.store_stalls"] if rings else [])
