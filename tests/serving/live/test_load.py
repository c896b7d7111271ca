"""Admission and degradation, with literals: no server, no clock."""

import pytest

from speechpipe.serving.live.load import Level, Load, Sample


def fed(load: Load, cost: float, sessions: int, late_s: float = 0.0, seconds: int = 20) -> Load:
    """Load after so many seconds of so many sessions at that cost."""
    for tick in range(seconds + 1):
        load.update(Sample(float(tick), cost * sessions * tick, float(sessions * tick), sessions, [late_s] * sessions))
    return load


def test_room_is_what_the_measured_cost_leaves() -> None:
    load = fed(Load(cores=2, limit=0.9), cost=0.1, sessions=10)
    assert load.cost == pytest.approx(0.1)
    assert load.busy == pytest.approx(0.5)
    assert load.room == 8
    assert load.refusal(opened_since=7) is None
    assert "cores" in (load.refusal(opened_since=8) or "")


def test_an_idle_server_takes_somebody_whatever_was_measured_before() -> None:
    load = fed(Load(cores=1, limit=0.5), cost=3.0, sessions=1)
    load.update(Sample(21.0, 60.0, 20.0, 0.0, []))
    assert load.refusal(opened_since=0) is None


@pytest.mark.parametrize(
    ("late_s", "level"),
    [(0.1, Level.NORMAL), (0.5, Level.THIN_PARTIALS), (1.0, Level.NO_PARTIALS), (2.0, Level.NO_NEW_SESSIONS)],
)
def test_the_order_of_degradation(late_s: float, level: Level) -> None:
    load = fed(Load(cores=2, limit=0.9), cost=0.01, sessions=3, late_s=late_s)
    assert load.level is level
    assert (load.refusal(0) is not None) == (level is Level.NO_NEW_SESSIONS)


def test_one_stuck_session_of_many_does_not_close_the_door() -> None:
    load = Load(cores=2, limit=0.9)
    load.update(Sample(1.0, 0.0, 0.0, 12.0, [0.0] * 11 + [30.0]))
    assert load.level is Level.NORMAL


def test_a_worker_that_died_takes_no_cost_back() -> None:
    load = fed(Load(cores=2, limit=0.9), cost=0.1, sessions=4)
    load.update(Sample(21.0, 0.0, 84.0, 4.0, [0.0]))  # its CPU time is gone from the sum
    assert load.cost > 0.08


def test_the_warm_up_says_what_a_session_costs_before_there_are_any() -> None:
    load = Load(cores=2, limit=0.9)
    before = load.room
    load.expect(0.29)
    assert load.cost == pytest.approx(0.3)
    assert load.room == 6 < before
    assert load.refusal(opened_since=5) is None
    assert "cores" in (load.refusal(opened_since=6) or "")
    fed(load, cost=0.02, sessions=1, seconds=4)
    assert load.cost == pytest.approx(0.3), "speech that has not ended costs nothing yet"
    assert "cores" in (load.refusal(opened_since=6) or "")
    assert fed(Load(cores=2, limit=0.9), cost=0.5, sessions=1, seconds=4).cost == pytest.approx(0.5)
    load.expect(0.0)
    assert load.room > 6
