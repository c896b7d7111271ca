"""What a pool's status says of its workers."""

from speechpipe.cascade.workers import PoolStatus


def test_planned_replacements_are_no_failures() -> None:
    restarts = {"crash": 1, "stopped": 2, "recycled_jobs": 5, "recycled_rss": 1}
    status = PoolStatus(2, 2, 0, 0, 0.0, 0.0, 0.0, restarts, ())
    assert status.unplanned_restarts == 3
