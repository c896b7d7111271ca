"""The threads that run live streams go on, whatever a step raises."""

import threading
from collections.abc import Iterator

import pytest

from speechpipe.serving.live.executor import State, StepExecutor
from tests.patience import PATIENCE_S


class Actor:
    """Raises `failing` times, then says that it was run."""

    def __init__(self, failing: int = 0, *, and_when_told: bool = False) -> None:
        self.state = State.IDLE
        self.failing = failing
        self.and_when_told = and_when_told
        self.told: list[Exception] = []
        self.ran = threading.Event()

    def step(self) -> bool:
        if self.failing:
            self.failing -= 1
            raise RuntimeError("unforeseen")
        self.ran.set()
        return False

    def broken(self, error: Exception) -> None:
        self.told.append(error)
        if self.and_when_told:
            raise MemoryError


@pytest.fixture
def lanes() -> Iterator[StepExecutor]:
    running = StepExecutor(1)
    running.start()
    yield running
    running.close()


def test_an_actor_that_breaks_is_told_and_the_next_one_runs(lanes: StepExecutor) -> None:
    bad, good = Actor(failing=1), Actor()
    lanes.schedule(bad)
    lanes.schedule(good)
    assert good.ran.wait(PATIENCE_S)
    assert [str(error) for error in bad.told] == ["unforeseen"]
    assert lanes.failures == 1


def test_the_lane_survives_an_actor_that_cannot_even_be_told_and_runs_it_again(lanes: StepExecutor) -> None:
    bad, good = Actor(failing=1, and_when_told=True), Actor()
    lanes.schedule(bad)
    lanes.schedule(good)
    assert good.ran.wait(PATIENCE_S)
    (status,) = [task.status for task in lanes.tasks]
    assert (status.alive, status.failures) == (True, 1)
    lanes.schedule(bad)
    assert bad.ran.wait(PATIENCE_S), "it is not left as running for ever"


def test_closing_ends_the_threads(lanes: StepExecutor) -> None:
    lanes.close()
    assert not any(task.status.alive for task in lanes.tasks)
