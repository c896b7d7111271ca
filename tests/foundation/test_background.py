"""A background thread survives whatever its body raises, and says so."""

import threading
from collections.abc import Callable

import pytest

from speechpipe.foundation.background import BackgroundTask, BackgroundTasks
from tests.patience import PATIENCE_S, until


class Body:
    """Raises the first `failing` times; says when it was called again after that."""

    def __init__(self, failing: int, error: Callable[[], Exception] = lambda: RuntimeError("unforeseen\nin two lines")):
        self.failing = failing
        self.error = error
        self.calls = 0
        self.worked = threading.Event()

    def __call__(self) -> None:
        self.calls += 1
        if self.calls <= self.failing:
            raise self.error()
        self.worked.set()
        threading.Event().wait(0.005)


def test_the_body_is_called_again_after_an_unforeseen_exception() -> None:
    body = Body(failing=3)
    task = BackgroundTask("t", body, back_off_s=(0.0, 0.01))
    task.start()
    assert body.worked.wait(PATIENCE_S)
    task.close()
    status = task.status
    assert status.failures == 3
    assert status.last_failure == "RuntimeError: unforeseen"
    assert status.last_failure_at > 0
    assert not status.failing
    assert not status.alive
    assert not status.ended


def test_a_failing_task_says_so_until_it_works_again() -> None:
    seen, go_on = threading.Event(), threading.Event()

    def body() -> None:
        if not go_on.is_set():
            seen.set()
            raise MemoryError
        worked.set()

    worked = threading.Event()
    task = BackgroundTask("t", body, every_s=60, back_off_s=(0.005,))
    task.start()
    assert seen.wait(PATIENCE_S)
    until(lambda: task.status.failing)
    assert task.status.last_failure == "MemoryError: "
    go_on.set()
    assert worked.wait(PATIENCE_S)
    until(lambda: not task.status.failing)
    task.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ended_by_itself_is_told_apart_from_one_that_was_closed() -> None:
    def body() -> None:
        raise SystemExit  # not an Exception: nothing of ours raises it on a thread

    task = BackgroundTask("t", body)
    task.start()
    until(lambda: task.status.ended)
    assert not task.status.alive
    task.close()


def test_wake_ends_the_wait_between_two_calls_and_close_the_pause_after_a_failure() -> None:
    body = Body(failing=0)
    task = BackgroundTask("t", body, every_s=3600)
    task.start()
    assert body.worked.wait(PATIENCE_S)
    body.worked.clear()
    task.wake()
    assert body.worked.wait(PATIENCE_S)
    assert task.close(30)
    failing = BackgroundTask("t", Body(failing=10**9), back_off_s=(3600.0,))
    failing.start()
    until(lambda: failing.status.failing)
    assert failing.close(30)


def test_a_waiting_body_is_unblocked_by_close() -> None:
    waiting, released = threading.Event(), threading.Event()

    def body() -> None:
        waiting.set()
        released.wait(3600)

    task = BackgroundTask("t", body, unblock=released.set)
    task.start()
    assert waiting.wait(PATIENCE_S)
    assert task.close(30)


def test_the_register_has_tasks_that_come_and_go() -> None:
    tasks = BackgroundTasks()
    fixed, coming = BackgroundTask("fixed", lambda: None), BackgroundTask("coming", lambda: None)
    some: list[BackgroundTask] = []
    tasks.add(fixed)
    tasks.add_source(lambda: some)
    assert [status.name for status in tasks.statuses()] == ["fixed"]
    some.append(coming)
    assert [status.name for status in tasks.statuses()] == ["fixed", "coming"]
