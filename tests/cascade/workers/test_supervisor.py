"""The supervisor: whatever ends a worker or keeps one from starting, there are workers again; nobody waits for ever."""

import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import speechpipe.cascade.workers.process as process_module
import speechpipe.cascade.workers.supervisor as supervisor_module
from speechpipe.cascade.workers import PoolOptions
from speechpipe.cascade.workers.inflight import MOST, InFlight, inflight_descriptor
from speechpipe.cascade.workers.messages import Progress, Reply
from speechpipe.cascade.workers.pool import RecognizerPool
from speechpipe.cascade.workers.process import THREAD_COUNTS, WorkerProcess, reap_late
from speechpipe.errors import NotReady, WorkerLoadFailed
from speechpipe.foundation import system
from speechpipe.types import NullCause
from tests.cascade.workers.test_pool import WHOLE, audio, pool, result, spec, submit, until

ERRORS: dict[str, Callable[[], BaseException]] = {
    "no process": lambda: BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    "no descriptor": lambda: OSError(errno.EMFILE, "Too many open files"),
    "no space": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "no memory": lambda: MemoryError("fork"),
    "no thread": lambda: RuntimeError("can't start new thread"),
    "unforeseen": lambda: ZeroDivisionError("division by zero"),
}


class Starts:
    """In the place of `WorkerProcess`: the next `failing` starts raise; the others are real."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failing = 0
        self.error: Callable[[], BaseException] = ERRORS["no process"]
        self.made: list[WorkerProcess] = []
        monkeypatch.setattr(supervisor_module, "WorkerProcess", self)

    def __call__(self, nice: int, threads: int) -> WorkerProcess:
        if self.failing:
            self.failing -= 1
            raise self.error()
        self.made.append(WorkerProcess(nice, threads))
        return self.made[-1]


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Starts:
    return Starts(monkeypatch)


def pids(of: RecognizerPool) -> list[int]:
    return [worker.pid for worker in of.supervisor.workers]


def kill_all(of: RecognizerPool) -> None:
    for pid in pids(of):
        os.kill(pid, signal.SIGKILL)


def test_a_start_that_fails_is_said_and_tried_again(starts: Starts) -> None:
    with pool(PoolOptions(workers=1), spec()) as one:
        for number, (name, error) in enumerate(ERRORS.items(), 1):
            starts.error, starts.failing = error, 3
            reasons: set[str] = set()

            def started_again(count: int = number + 1, reasons: set[str] = reasons) -> bool:
                reasons.add(one.status().failure)
                return len(starts.made) == count

            kill_all(one)
            until(started_again)
            assert any(type(error()).__name__ in reason for reason in reasons), name
            assert result(submit(one, spec(), audio())).transcript.text
            until(lambda: not one.status().failure)
            assert one.status().restarts == {"crash": number, "start_failed": 3 * number}, name
            assert not one.task.status.failures, "a failed start is no failure of the supervisor"


def test_a_pool_whose_first_starts_fail_becomes_ready(starts: Starts) -> None:
    starts.failing = 5
    with pool(PoolOptions(workers=2), spec()) as two:
        assert result(submit(two, spec(), audio())).transcript.text


def test_a_pool_that_cannot_start_says_why(starts: Starts) -> None:
    starts.failing = 1000
    made = RecognizerPool(PoolOptions(workers=1, start_timeout_s=0.5), [spec()])
    made.start()
    with pytest.raises(WorkerLoadFailed, match="temporarily unavailable"):
        made.wait_ready()
    with pytest.raises(NotReady, match="temporarily unavailable"):
        made.open(spec(), WHOLE, "s")
    made.close()


def test_a_worker_that_has_had_enough_is_replaced_though_its_successor_does_not_start_at_once(starts: Starts) -> None:
    with pool(PoolOptions(workers=1, max_jobs=1), spec()) as one:
        starts.failing = 2
        for seed in range(3):
            assert result(submit(one, spec(), audio(seed=seed))).transcript.text
        until(lambda: one.status().restarts.get("recycled_jobs", 0) >= 1)
        assert one.status().restarts["start_failed"] == 2


def test_the_supervisor_goes_on_after_an_unforeseen_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    with pool(PoolOptions(workers=1), spec()) as one:
        raising = [True]
        plain = one.task.body

        def bury() -> None:
            if raising[0]:
                raise LookupError("unforeseen")
            plain()

        monkeypatch.setattr(one.task, "body", bury)
        until(lambda: one.task.status.failures >= 2)
        assert one.task.status.failing
        kill_all(one)
        raising[0] = False
        assert result(submit(one, spec(), audio())).transcript.text
        assert one.status().restarts == {"crash": 1}


def test_an_exception_on_a_workers_thread_costs_that_worker_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with pool(PoolOptions(workers=1), spec()) as one:
        plain = one.on_reply
        raised: list[Reply] = []

        def on_reply(worker: WorkerProcess, reply: Reply) -> None:
            if isinstance(reply, Progress) and not raised:
                raised.append(reply)
                raise LookupError("unforeseen")
            plain(worker, reply)

        monkeypatch.setattr(one, "on_reply", on_reply)
        decoded = result(submit(one, spec(), audio()))
        assert raised
        assert decoded.transcript.text
        assert decoded.stats.attempts == 2


def test_no_answer_is_lost_when_what_follows_it_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    with pool(PoolOptions(workers=1), spec()) as one:

        def after_job(_: WorkerProcess) -> None:
            monkeypatch.undo()
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(one.supervisor, "after_job", after_job)
        first, second = (submit(one, spec(), audio(seed=seed)) for seed in range(2))
        assert result(first).transcript.text
        assert result(second).transcript.text


def test_asking_about_a_process_needs_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def process(_: int) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("psutil.Process", process)
    assert system.rss_mb(1) == system.cpu_s(1) == 0.0
    assert not system.stopped(1)


def test_an_answer_that_comes_while_a_segment_is_given_up_is_one_answer() -> None:
    with pool(PoolOptions(workers=1), spec()) as one:
        for seed in range(20):
            job = submit(one, spec(), audio(seed=seed))
            job.give_up(NullCause.TIMEOUT, "the time is up")
            assert result(job)
        assert one.status().restarts == {}


def test_a_worker_that_hangs_while_it_loads_is_replaced(starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "stopped", lambda _: False)  # what hangs is not always stopped by a signal
    made = RecognizerPool(PoolOptions(workers=1, start_timeout_s=20), [spec()])
    monkeypatch.setattr(made.supervisor, "options", PoolOptions(workers=1, start_timeout_s=1))
    plain = starts.__call__

    def first_hangs(nice: int, threads: int) -> WorkerProcess:
        worker = plain(nice, threads)
        if len(starts.made) == 1:
            os.kill(worker.pid, signal.SIGSTOP)
        return worker

    monkeypatch.setattr(supervisor_module, "WorkerProcess", first_hangs)
    made.start()
    until(lambda: made.ready)
    assert result(submit(made, spec(), audio())).transcript.text
    assert made.status().restarts["start_timeout"] >= 1
    made.close()


@pytest.mark.parametrize("busy", [False, pytest.param(True, marks=pytest.mark.long)], ids=["idle", "busy"])
def test_a_stopped_worker_is_replaced_and_its_segment_is_not_blamed(busy: bool) -> None:
    slow = spec(cost=2.0 if busy else 0.0)
    with pool(PoolOptions(workers=1, attempts=1, segment_timeout_s=1000), slow) as one:
        first = submit(one, slow, audio()) if busy else None
        until(lambda: not busy or one.status().active == 1)
        os.kill(pids(one)[0], signal.SIGSTOP)
        after = submit(one, slow, audio(seed=1))
        assert result(after).transcript.text
        assert first is None or result(first).transcript.text
        assert one.status().restarts == {"stopped": 1}


def test_a_cancelled_segment_that_hangs_holds_up_nobody_else() -> None:
    hanging = spec(hang_above_level=0.9)
    with pool(PoolOptions(workers=2, segment_timeout_s=1000), hanging) as two:
        hung = submit(two, hanging, audio(0.95))
        until(lambda: any(worker.inflight == (hung.number,) for worker in two.supervisor.workers))
        hung.cancel()
        for seed in range(4):  # before: the first of them went to the worker that hangs and stayed there
            assert result(submit(two, hanging, audio(seed=seed))).stats.attempts == 1


def test_a_worker_that_hangs_on_a_cancelled_segment_is_replaced() -> None:
    hanging = spec(hang_above_level=0.9)
    with pool(PoolOptions(workers=1, segment_timeout_s=1), hanging) as one:
        hung = submit(one, hanging, audio(0.95))
        until(lambda: any(worker.inflight == (hung.number,) for worker in one.supervisor.workers))
        hung.cancel()
        decoded = result(submit(one, hanging, audio()))
        assert decoded.transcript.text
        assert one.status().restarts == {"timeout": 1}


def test_segments_wait_through_a_short_outage(starts: Starts) -> None:
    with pool(PoolOptions(workers=2, wait_s=30), spec()) as two:
        starts.failing = 4
        kill_all(two)
        jobs = [submit(two, spec(), audio(seed=seed)) for seed in range(6)]
        assert all(result(job).transcript.text for job in jobs)


def test_segments_wait_a_bounded_time_for_a_worker_that_cannot_be_had(starts: Starts) -> None:
    with pool(PoolOptions(workers=1, wait_s=0.5), spec()) as one:
        starts.failing = 10**6
        kill_all(one)
        decoded = result(submit(one, spec(), audio()))
        assert decoded.transcript.null_cause is NullCause.WORKER_UNAVAILABLE
        assert "temporarily unavailable" in decoded.transcript.detail
        assert "temporarily unavailable" in one.unavailable
        with pytest.raises(NotReady, match="temporarily unavailable"):
            submit(one, spec(), audio())
        starts.failing = 0
        until(lambda: one.ready)
        assert not one.unavailable
        assert result(submit(one, spec(), audio())).transcript.text


def test_closing_ends_waiting_for_the_start(starts: Starts) -> None:
    starts.failing = 10**6
    made = RecognizerPool(PoolOptions(workers=1, start_timeout_s=1000), [spec()])
    made.start()
    raised: list[Exception] = []

    def wait() -> None:
        try:
            made.wait_ready()
        except NotReady as error:
            raised.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    until(lambda: made.status().failure)
    made.close()
    waiting.join(30)
    assert raised


def test_closing_is_quick_though_workers_hang_or_are_stopped() -> None:
    hanging = spec(hang_above_level=0.05)
    made = RecognizerPool(PoolOptions(workers=3), [hanging])
    made.start()
    made.wait_ready()
    jobs = [submit(made, hanging, audio(seed=seed)) for seed in range(2)]
    workers = pids(made)
    os.kill(workers[-1], signal.SIGSTOP)
    made.close(drain_s=0.1)
    assert all(result(job).transcript.null_cause is NullCause.ERROR for job in jobs)
    assert not any(psutil.pid_exists(pid) for pid in workers)
    assert not made.task.status.alive


def test_a_worker_knows_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"SPEECHPIPE_API_KEYS": '["s3cret"]', "PGPASSWORD": "s3cret", "HF_TOKEN": "s3cret", "X_UNKNOWN": "s3cret"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pool(PoolOptions(workers=1, threads=3), spec()) as one:
        environment = psutil.Process(pids(one)[0]).environ()
    assert {environment[name] for name in THREAD_COUNTS} == {"3"}
    assert environment["MALLOC_ARENA_MAX"] == "1"
    assert not secrets.keys() & environment.keys()
    assert "s3cret" not in str(environment)
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["PATH"] == os.environ["PATH"]


def test_no_worker_needs_a_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not hasattr(os, "memfd_create"):
        pytest.skip("this system has no memory without a file")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "is not there"))
    with pool(PoolOptions(workers=1), spec()) as one:
        assert result(submit(one, spec(), audio())).transcript.text
        kill_all(one)
        assert result(submit(one, spec(), audio())).transcript.text


def test_without_memory_files_a_full_disk_is_an_error_and_not_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    descriptor = inflight_descriptor()
    size = os.fstat(descriptor).st_size
    assert os.pread(descriptor, size, 0) == bytes(size)
    marker = InFlight(descriptor)
    marker.set(*range(1, MOST + 1))
    assert marker.get() == tuple(range(1, MOST + 1))
    marker.set(7)
    assert marker.get() == (7,)
    marker.set()
    assert marker.get() == ()
    marker.close()
    os.close(descriptor)

    full = "/dev/full"
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: open(full, "r+b", buffering=0))  # noqa: SIM115, PTH123
    with pytest.raises(OSError, match="No space left"):
        inflight_descriptor()


def test_words_that_were_withdrawn_are_told_from_silence() -> None:
    quiet = spec(empty_below_level=0.9)
    with pool(PoolOptions(workers=1), quiet) as one:
        job = one.open(quiet, WHOLE, "s")
        job.feed(audio(seconds=2.0))
        until(lambda: job.had_words or (job.request_partial() and False))
        job.finish()
        assert result(job).transcript.null_cause is NullCause.WITHDRAWN
        assert result(submit(one, quiet, audio())).transcript.null_cause is NullCause.EMPTY


def test_a_killed_process_that_the_system_ends_late_leaves_no_zombie(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = WorkerProcess(0)
    with monkeypatch.context() as patched:
        patched.setattr(process_module, "KILLED_S", 0.0)
        patched.setattr(subprocess.Popen, "kill", lambda _: None)
        assert worker.reap(0.0) is None
    assert reap_late() > 0
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: reap_late() == 0)
    assert not psutil.pid_exists(worker.pid)
