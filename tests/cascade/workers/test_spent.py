"""CPU time of pieces of work that run beside each other is counted once."""

import time

import pytest

from speechpipe.cascade.workers.spent import CpuCounter


def test_what_ran_beside_is_counted_once_and_what_it_took_before_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: now[0])
    counter = CpuCounter(lambda: now[0])
    partial = counter.begin()
    now[0] = 1.0
    pause = counter.begin()
    now[0] = 1.5
    assert partial.take()[0] == pytest.approx(1.5)
    now[0] = 2.0
    cpu_s, wall_s = pause.take()
    assert (round(cpu_s, 9), round(wall_s, 9)) == (0.5, 1.0)
    now[0] = 3.0
    later = counter.begin()
    now[0] = 3.25
    assert later.take()[0] == pytest.approx(0.25)


def test_of_work_that_ends_last_the_parts_before_and_after_the_others_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: now[0])
    counter = CpuCounter(lambda: now[0])
    outer = counter.begin()
    total = 0.0
    for number in range(3):
        now[0] = float(number) + 0.5
        inner = counter.begin()
        now[0] = float(number) + 1.0
        total += inner.take()[0]
    assert outer.take()[0] + total == pytest.approx(3.0)
