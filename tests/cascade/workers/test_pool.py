"""The pool: workers die, hang, grow old; no segment is lost and each gets exactly one answer."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.workers import Decoded, PoolOptions, RecognizerSpec
from speechpipe.cascade.workers.job import Job
from speechpipe.cascade.workers.pool import RecognizerPool
from speechpipe.errors import NotReady, WorkerLoadFailed
from speechpipe.types import NullCause, Samples, Scalar
from tests.patience import PATIENCE_S

WHOLE = DecodeOptions(offline=True)


def spec(**options: Scalar) -> RecognizerSpec:
    return RecognizerSpec("scripted", options)


@contextlib.contextmanager
def pool(options: PoolOptions, *preload: RecognizerSpec) -> Iterator[RecognizerPool]:
    made = RecognizerPool(options, preload)
    made.start()
    try:
        made.wait_ready()
        yield made
    finally:
        made.close()


def audio(level: float = 0.1, seconds: float = 0.5, seed: int = 0) -> Samples:
    noise = np.random.default_rng(seed).uniform(-level, level, round(seconds * 16_000)).astype(np.float32)
    noise[0] = level
    return noise


def submit(to: RecognizerPool, of: RecognizerSpec, samples: Samples, session: str = "s") -> Job:
    job = to.open(of, WHOLE, session)
    job.feed(samples)
    job.finish()
    return job


def result(job: Job) -> Decoded:
    return job.future.result(PATIENCE_S)


def until(condition: object, event: threading.Event | None = None) -> None:
    """Wait for a condition that another process brings about."""
    assert callable(condition)
    for _ in range(600):
        if condition():
            return
        (event or threading.Event()).wait(0.05)
    raise AssertionError("it never happened")


def test_the_same_audio_gets_the_same_text_on_every_worker() -> None:
    with pool(PoolOptions(workers=2), spec()) as two:
        jobs = [submit(two, spec(), audio(seed=index % 4)) for index in range(16)]
        texts = [result(job).transcript.text for job in jobs]
    assert len(set(texts)) == 4
    assert texts[:4] * 4 == texts


def test_a_job_may_be_fed_while_it_is_already_running() -> None:
    with pool(PoolOptions(workers=1), spec()) as one:
        samples = audio(seconds=1.0)
        job = one.open(spec(), DecodeOptions(), "s")
        for start in range(0, len(samples), 512):
            job.feed(samples[start : start + 512])
        job.finish()
        assert result(job).transcript == result(submit(one, spec(), samples)).transcript


def test_a_segment_whose_worker_is_killed_is_fed_to_another() -> None:
    slow = spec(cost=2.0)
    with pool(PoolOptions(workers=1), slow) as one:
        expected = result(submit(one, spec(), audio())).transcript
        job = submit(one, slow, audio())
        until(lambda: one.status().active == 1)
        os.kill(worker_pids()[-1], signal.SIGKILL)
        decoded = result(job)
        assert decoded.transcript == expected
        assert decoded.stats.attempts == 2
        assert one.status().restarts == {"crash": 1}


def worker_pids() -> list[int]:
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child.pid for child in children if any("workers.worker" in word for word in child.cmdline())]


def test_a_segment_that_kills_every_worker_fails_alone_and_with_its_cause() -> None:
    poison = spec(crash_above_level=0.5)
    with pool(PoolOptions(workers=2, attempts=2), poison) as two:
        good = [submit(two, poison, audio(seed=index), f"s{index}") for index in range(6)]
        bad = submit(two, poison, audio(level=0.9), "bad")
        more = [submit(two, poison, audio(seed=index), f"s{index}") for index in range(6)]
        decoded = result(bad)
        assert decoded.transcript.null_cause is NullCause.WORKER_CRASH
        assert "86" in decoded.transcript.detail
        assert decoded.stats.attempts == 2
        for job in good + more:
            assert result(job).transcript.text
        until(lambda: two.status().ready_workers == 2)


def test_a_hanging_segment_times_out_and_the_others_go_on() -> None:
    hanging = spec(hang_above_level=0.5)
    with pool(PoolOptions(workers=1, segment_timeout_s=4.0), hanging) as one:
        bad = submit(one, hanging, audio(level=0.9), "bad")
        good = submit(one, hanging, audio(), "good")
        decoded = result(bad)
        assert decoded.transcript.null_cause is NullCause.TIMEOUT
        assert result(good).transcript.text
        assert one.status().restarts == {"timeout": 1}


def test_an_exception_is_that_segments_result_and_costs_no_worker() -> None:
    failing = spec(fail_above_level=0.5)
    with pool(PoolOptions(workers=1), failing) as one:
        pids = worker_pids()
        decoded = result(submit(one, failing, audio(level=0.9)))
        assert decoded.transcript.null_cause is NullCause.ERROR
        assert "scripted failure" in decoded.transcript.detail
        assert result(submit(one, failing, audio())).transcript.text
        assert worker_pids() == pids


def test_workers_are_replaced_by_age_without_losing_a_job() -> None:
    with pool(PoolOptions(workers=2, max_jobs=3), spec()) as two:
        jobs: list[Job] = []
        while two.status().restarts.get("recycled_jobs", 0) < 2:
            jobs.append(submit(two, spec(), audio(seed=len(jobs))))
            assert result(jobs[-1]).transcript.text
            assert result(jobs[-1]).stats.queue_s < 1.0, "nobody waits for a recycled worker"
        assert all(result(job).stats.attempts == 1 for job in jobs)


def test_workers_are_replaced_by_size() -> None:
    with pool(PoolOptions(workers=1, max_rss_mb=1), spec()) as one:
        assert result(submit(one, spec(), audio())).transcript.text
        until(lambda: one.status().restarts == {"recycled_rss": 1})
        assert result(submit(one, spec(), audio())).transcript.text


def test_sessions_take_turns() -> None:
    slow = spec(cost=0.05)
    with pool(PoolOptions(workers=1), slow) as one:
        done: list[str] = []
        with one._lock:  # no segment is final before all are there
            jobs = [submit(one, slow, audio(), "long") for _ in range(8)] + [submit(one, slow, audio(), "short")]
        for job in jobs:
            job.future.add_done_callback(lambda _, session=job.session: done.append(session))  # type: ignore[misc]
        for job in jobs:
            result(job)
        assert done.index("short") <= 2, "one long upload does not starve a short one"


def test_a_cancelled_job_is_forgotten() -> None:
    slow = spec(cost=0.2)
    with pool(PoolOptions(workers=1), slow) as one:
        running, waiting = submit(one, slow, audio()), submit(one, slow, audio(seed=1))
        running.cancel()
        waiting.cancel()
        after = submit(one, slow, audio(seed=2))
        assert result(after).transcript.text
        assert running.future.cancelled()
        assert waiting.future.cancelled()
        assert one.status().active == one.status().queued == 0


def test_a_recognizer_that_cannot_load_is_told_at_once() -> None:
    made = RecognizerPool(PoolOptions(workers=1), [RecognizerSpec("scripted", {"no_such_option": 1})])
    made.start()
    try:
        with pytest.raises(WorkerLoadFailed, match="no_such_option"):
            made.wait_ready()
        with pytest.raises(NotReady, match="no_such_option"):
            made.open(spec(), WHOLE, "s")
    finally:
        made.close()


def test_a_recognizer_that_cannot_load_later_fails_its_own_jobs_only() -> None:
    with pool(PoolOptions(workers=1), spec()) as one:
        decoded = result(submit(one, RecognizerSpec("pocketsphinx", {"lm": "/nowhere"}), audio()))
        assert decoded.transcript.null_cause is NullCause.ERROR
        assert result(submit(one, spec(), audio())).transcript.text


def test_closing_drains_what_runs_and_fails_what_does_not_finish() -> None:
    slow = spec(cost=0.5)
    made = RecognizerPool(PoolOptions(workers=1), [slow])
    made.start()
    made.wait_ready()
    jobs = [submit(made, slow, audio()) for _ in range(3)]
    made.close(drain_s=PATIENCE_S)
    assert all(result(job).transcript.text for job in jobs)
    with pytest.raises(NotReady):
        made.open(slow, WHOLE, "s")

    endless = spec(hang_above_level=0.05)
    made = RecognizerPool(PoolOptions(workers=1), [endless])
    made.start()
    made.wait_ready()
    job = submit(made, endless, audio())
    made.close(drain_s=0.0)
    assert result(job).transcript.null_cause is NullCause.ERROR


def test_no_process_thread_or_descriptor_is_left_behind() -> None:
    with pool(PoolOptions(workers=1), spec()):
        pass  # whatever Python opens once is open now
    others = set(worker_pids())  # of a pool that other tests share
    threads, descriptors = threading.active_count(), psutil.Process().num_fds()
    with pool(PoolOptions(workers=2, max_jobs=2), spec()) as two:
        for job in [submit(two, spec(), audio(seed=index)) for index in range(9)]:
            result(job)
        pids = set(worker_pids()) - others
    assert pids
    until(lambda: threading.active_count() <= threads)
    assert psutil.Process().num_fds() <= descriptors
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def batching(**options: Scalar) -> RecognizerSpec:
    return spec(batch_s=20.0, **options)


def submit_together(to: RecognizerPool, of: RecognizerSpec, *pieces: Samples, session: str = "s") -> list[Job]:
    jobs = [to.open(of, WHOLE, session) for _ in pieces]
    for job, samples in zip(jobs, pieces, strict=True):
        job.feed(samples)
    jobs[0].finish(*jobs[1:])
    return jobs


def together(job: Job) -> float:
    return result(job).transcript.facts["together"]


def test_segments_of_an_upload_that_end_together_are_decoded_together_by_one_worker() -> None:
    with pool(PoolOptions(workers=1), batching()) as one:
        jobs = submit_together(one, batching(), *(audio(seed=seed) for seed in range(5)))
        assert [together(job) for job in jobs] == [5] * 5
        texts = [result(job).transcript.text for job in jobs]
        assert texts == [result(submit(one, batching(), audio(seed=seed))).transcript.text for seed in range(5)]


def test_what_waits_is_shared_between_the_workers_and_bounded_by_the_batch() -> None:
    with pool(PoolOptions(workers=2), batching()) as two:
        jobs = submit_together(two, batching(), *(audio(seed=seed) for seed in range(6)))
        assert [together(job) for job in jobs] == [3] * 6
    with pool(PoolOptions(workers=1), spec(batch_s=1.0)) as one:
        jobs = submit_together(one, spec(batch_s=1.0), *(audio(seed=seed) for seed in range(5)))
        assert [together(job) for job in jobs] == [2, 2, 2, 2, 1]


def test_a_batch_takes_the_segments_of_a_session_first_and_sessions_take_turns() -> None:
    slow = spec(batch_s=2.0, cost=0.1)
    with pool(PoolOptions(workers=1), slow) as one:
        done: list[str] = []
        with one._lock:
            jobs = submit_together(one, slow, *(audio(seed=seed) for seed in range(16)), session="long")
            jobs += submit_together(one, slow, audio(seed=20), session="short")
        for job in jobs:
            job.future.add_done_callback(lambda _, session=job.session: done.append(session))  # type: ignore[misc]
        for job in jobs:
            result(job)
        assert done.index("short") <= 8, "a short upload waits for two batches at most: the one that runs and the next"
        assert together(jobs[0]) == 4


def test_a_segment_that_kills_the_worker_of_a_batch_fails_alone() -> None:
    poison = batching(crash_above_level=0.5)
    with pool(PoolOptions(workers=1, attempts=2), poison) as one:
        pieces = [audio(seed=seed) for seed in range(4)]
        jobs = submit_together(one, poison, *pieces[:2], audio(level=0.9), *pieces[2:])
        bad = jobs.pop(2)
        decoded = result(bad)
        assert decoded.transcript.null_cause is NullCause.WORKER_CRASH
        assert "2 workers died" in decoded.transcript.detail, "the death of the batch is not counted against it"
        assert [together(job) for job in jobs] == [1] * 4
        assert all(result(job).stats.attempts >= 2 for job in jobs)
        assert one.status().restarts == {"crash": 3}


def test_a_single_attempt_is_enough_for_the_innocent_segments_of_a_batch() -> None:
    poison = batching(crash_above_level=0.5)
    with pool(PoolOptions(workers=2, attempts=1), poison) as two:
        jobs = submit_together(two, poison, *(audio(seed=seed) for seed in range(5)), audio(level=0.9))
        assert result(jobs.pop()).transcript.null_cause is NullCause.WORKER_CRASH
        assert all(result(job).transcript.text for job in jobs)


def test_a_segment_that_hangs_a_batch_times_out_alone() -> None:
    hanging = batching(hang_above_level=0.5)
    with pool(PoolOptions(workers=1, segment_timeout_s=1.0), hanging) as one:
        jobs = submit_together(one, hanging, audio(seed=1), audio(level=0.9), audio(seed=2))
        assert result(jobs[1]).transcript.null_cause is NullCause.TIMEOUT
        assert result(jobs[0]).transcript.text
        assert result(jobs[2]).transcript.text
        assert one.status().restarts == {"timeout": 2}


def test_an_exception_in_a_batch_is_that_segments_result_and_costs_no_worker() -> None:
    failing = batching(fail_above_level=0.5)
    with pool(PoolOptions(workers=1), failing) as one:
        jobs = submit_together(one, failing, audio(seed=1), audio(level=0.9), audio(seed=2))
        assert [result(job).transcript.null_cause for job in jobs] == [None, NullCause.ERROR, None]
        assert one.status().restarts == {}


def test_a_cancelled_segment_of_a_batch_costs_the_others_nothing() -> None:
    slow = batching(cost=0.1)
    with pool(PoolOptions(workers=1), slow) as one:
        with one._lock:
            running = submit_together(one, slow, *(audio(seed=seed) for seed in range(3)))
            waiting = submit_together(one, slow, *(audio(seed=seed) for seed in range(3, 6)))
            unfinished = one.open(slow, WHOLE, "s")
            for job in (running[1], waiting[1], unfinished):
                job.cancel()
        assert all(result(job).transcript.text for job in (running[0], running[2], waiting[0], waiting[2]))
        assert running[1].future.cancelled()
        assert together(waiting[0]) == 2
        until(lambda: one.idle)


def test_a_segment_of_an_upload_occupies_no_worker_before_it_has_ended() -> None:
    with pool(PoolOptions(workers=1), batching()) as one:
        open_ended = one.open(batching(), WHOLE, "slow")
        open_ended.feed(audio(seconds=3.0))
        assert result(submit(one, batching(), audio(), "other")).transcript.text
        assert one.status().active == 0
        assert not one.idle, "a server that stops waits for it"
        open_ended.finish()
        assert result(open_ended).transcript.text
        left = one.open(batching(), WHOLE, "slow")
    assert result(left).transcript.null_cause is NullCause.ERROR


def test_a_recognizer_that_is_loaded_at_its_first_segment_decodes_batches_from_the_second_on() -> None:
    with pool(PoolOptions(workers=1), spec()) as one:
        assert together(submit(one, batching(), audio())) == 1
        jobs = submit_together(one, batching(), audio(seed=1), audio(seed=2))
        assert [together(job) for job in jobs] == [2, 2]


def test_the_cpu_time_of_a_library_with_threads_of_its_own_is_counted() -> None:
    threaded = spec(cost=0.2, own_threads=True, streaming=False)
    with pool(PoolOptions(workers=1, live=True), threaded) as one:
        assert result(submit(one, threaded, audio(seconds=1.0))).stats.cpu_s >= 0.2
        assert one.status().live_cost >= 0.2
        job = one.open(threaded, DecodeOptions(), "s")
        job.feed(audio(seconds=1.0))
        until(lambda: job.had_words or (job.request_partial() and False))
        job.finish()
        stats = result(job).stats
        assert stats.cpu_s >= 0.4, "the partial result and the final one"
        assert 0.2 <= stats.spare_cpu_s < stats.cpu_s
        assert one.status().spare_cpu_s == stats.spare_cpu_s
        assert stats.work_s >= stats.cpu_s / 2


def test_a_segment_in_a_pause_is_decoded_before_its_end() -> None:
    buffered = spec(streaming=False)
    with pool(PoolOptions(workers=1, live=True), buffered) as one:
        job = one.open(buffered, DecodeOptions(), "s")
        job.feed(audio(seconds=1.0))
        job.feed(audio(seconds=0.3, seed=1), endpoint_near=True)
        until(lambda: job.had_words)
        job.finish()
        stats = result(job).stats
        assert (stats.speculations, stats.speculated) == (1, True)


def test_a_segment_that_waits_for_its_decode_is_late() -> None:
    buffered = spec(streaming=False, cost=0.5)
    with pool(PoolOptions(workers=1, live=True, slots=4), buffered) as one:
        job = one.open(buffered, DecodeOptions(), "s")
        job.feed(audio(seconds=1.0))
        until(lambda: job.buffered and not job.backlog_s)
        assert job.undecoded_s == 0.0, "it is still spoken"
        job.finish()
        assert job.undecoded_s == 1.0
        assert job.finished_at is not None
        assert job.late_s(job.finished_at + 0.4) == pytest.approx(0.4)
        result(job)
        assert job.undecoded_s == job.late_s(job.finished_at + 9.0) == 0.0
