"""The queue in a real database: one task, one person; nobody's work is lost."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from speechpipe.control.review import ReviewReason, TaskState
from speechpipe.control.review.job_repository import CLAIM_S, Job
from speechpipe.control.review.operations import ReviewOperations
from speechpipe.control.review.task_repository import LEASE_S, LOOK_AT, Reviewer
from speechpipe.control.review.tasks import AnswerSegment, Task, read_answer
from speechpipe.errors import Conflict, InvalidParameter, UnknownName
from speechpipe.foundation.storage.store import Store
from tests.control.review.tasks import said, task
from tests.databases import DATABASES

ANN, BOB = Reviewer("ann"), Reviewer("bob")
ANSWER = [said(0, 0.9, "one two", "p0"), said(2, 2.9, "three for", "p2")]


class Bench:
    def __init__(self, store: Store) -> None:
        self.now = 1000.0
        self.store = store
        self.told: list[str] = []  # ids of tasks, as `on_done` was called
        self.operations = self.another()
        self.queue = self.operations.queue

    def another(self) -> ReviewOperations:
        return ReviewOperations(self.store, lambda: self.now, on_done=lambda done: self.told.append(done.id))

    def claim(self, who: Reviewer = ANN, has_audio: Any = lambda _: True) -> Task | None:
        return self.queue.claim(who, has_audio)

    def claimed(self, who: Reviewer = ANN) -> Task:
        found = self.claim(who)
        assert found is not None
        return found

    def submit(self, held: Task, who: Reviewer = ANN, segments: Any = None) -> Task:
        return self.operations.submit(held.id, who, held.lease, segments or ANSWER, 5.0)


@pytest.fixture(params=DATABASES, ids=str)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with request.param.ready(tmp_path) as url:
        store = Store(url)
        yield Bench(store)
        store.close()


def test_the_most_urgent_comes_first_then_the_oldest(bench: Bench) -> None:
    bench.operations.add(
        [
            task(1, why=ReviewReason.AUDIT),
            task(2, why=ReviewReason.UNSURE),
            task(3, why=ReviewReason.DEGREE),
            task(4, why=ReviewReason.DEGREE),
        ],
        None,
    )
    assert [bench.claimed(Reviewer(f"r{number}")).id for number in range(4)] == ["t3", "t4", "t2", "t1"]
    assert bench.claim() is None


def test_of_many_who_reach_for_a_task_one_gets_it(bench: Bench) -> None:
    bench.operations.add([task(number) for number in range(12)], None)
    desks = [bench.another() for _ in range(4)]  # as four processes have
    found: list[str] = []

    def work(number: int) -> None:
        while (held := desks[number].queue.claim(Reviewer(f"r{number}"), lambda _: True)) is not None:
            found.append(held.id)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert sorted(found) == sorted(f"t{number}" for number in range(12))


def test_who_leaves_loses_nothing(bench: Bench) -> None:
    bench.operations.add([task()], None)
    held = bench.claimed(ANN)
    assert bench.claim(BOB) is None, "one person at a time"
    begun = read_answer(held, [said(0, 0.9, "one too", "p0")], whole=False)
    bench.now += LEASE_S - 1
    bench.queue.renew(held.id, held.lease, begun, 30.0)
    bench.now += LEASE_S - 1
    assert bench.claim(BOB) is None, "renewed"
    bench.now += 2
    taken = bench.claimed(BOB)
    assert (taken.reviewer, taken.work_s) == ("bob", 30.0)
    assert [one.text for one in taken.work] == ["one too"], "what the first had typed"
    for act in (
        lambda: bench.submit(held),
        lambda: bench.queue.renew(held.id, held.lease, None),
        lambda: bench.queue.release(held.id, held.lease),
        lambda: bench.queue.skip(held.id, held.lease, "other"),
        lambda: bench.queue.renew(held.id, "", None),
    ):
        with pytest.raises(Conflict, match="not yours any more") as refused:
            act()
        assert refused.value.cause == "lease_lost"
    assert bench.submit(taken, BOB).state is TaskState.DONE


def test_a_slow_hand_may_still_submit_if_nobody_else_took_it(bench: Bench) -> None:
    bench.operations.add([task()], None)
    held = bench.claimed()
    bench.now += 100 * LEASE_S
    assert bench.submit(held).state is TaskState.DONE


def test_an_answer_is_taken_once_and_saying_it_again_changes_nothing(bench: Bench) -> None:
    bench.operations.add([task()], None)
    held = bench.claimed()
    first = bench.submit(held)
    bench.told.clear()
    bench.now += 7
    again = bench.submit(held)
    assert again == first
    assert again.work_s == first.work_s == 5.0
    assert bench.told == [], "nobody is told twice"
    assert first.compared["units"][1]["edits"] == 1
    other = [said(0, 0.9, "x", "p0"), said(2, 2.9, "y", "p2")]
    with pytest.raises(Conflict, match="answered already, with another text") as refused:
        bench.submit(held, segments=other)
    assert refused.value.cause == "review_over"
    assert bench.queue.task(held.id) == first
    with pytest.raises(Conflict, match="done already"):
        bench.operations.submit(held.id, BOB, "another", ANSWER, 0.0)
    assert bench.claim(BOB) is None


@pytest.mark.parametrize("texts", [["three for"] * 8, ["three for", "three fur"] * 4], ids=["same", "two"])
def test_of_answers_that_come_at_once_one_is_taken_and_the_same_is_no_failure(bench: Bench, texts: list[str]) -> None:
    bench.operations.add([task(job="j")], Job("j", "acme", 0.0, {"status_url": "/x"}))
    held = bench.claimed()
    desks = [bench.another() for _ in texts]  # as several servers have
    start = threading.Barrier(len(texts))

    def work(number: int) -> Task | Conflict:
        start.wait()
        answer = [ANSWER[0], said(2, 2.9, texts[number], "p2")]
        try:
            return desks[number].submit(held.id, ANN, held.lease, answer, 5.0)
        except Conflict as error:
            return error

    with ThreadPoolExecutor(len(texts)) as pool:
        found = list(pool.map(work, range(len(texts))))
    stored = bench.queue.task(held.id)
    for text, one in zip(texts, found, strict=True):
        if text == stored.work[1].text:
            assert one == stored
        else:
            assert isinstance(one, Conflict)
            assert "another text" in one.message
    assert bench.told == [held.id], "told once"


def test_what_is_kept_while_it_is_typed_does_not_get_in_the_way_of_the_answer(bench: Bench) -> None:
    bench.operations.add([task()], None)
    held = bench.claimed()
    theirs, left = bench.another().queue, [2]

    def meanwhile(read: Task, _: Sequence[AnswerSegment]) -> Mapping[str, Any]:
        if left[0]:
            left[0] -= 1
            theirs.renew(read.id, read.lease, None, 1.0)
        return {}

    done, new = bench.queue.submit(held.id, held.lease, read_answer(held, ANSWER), meanwhile, 5.0)
    assert (done.state, done.work_s, new, left) == (TaskState.DONE, 7.0, True, [0])


def test_given_back_at_once(bench: Bench) -> None:
    bench.operations.add([task()], None)
    held = bench.claimed()
    bench.queue.release(held.id, held.lease)
    assert bench.claimed(BOB).reviewer == "bob"


def test_who_cannot_do_it_is_not_asked_again_and_after_three_nobody_is(bench: Bench) -> None:
    bench.operations.add([task(job="j")], Job("j", "acme", 0.0, {"status_url": "/x"}, callback="http://x/"))
    held = bench.claimed()
    with pytest.raises(InvalidParameter, match="reason must be one of"):
        bench.queue.skip(held.id, held.lease, "tired")
    bench.queue.skip(held.id, held.lease, "cannot_understand", "mumbles")
    assert bench.claim(ANN) is None
    for name in ("bob", "cleo"):
        held = bench.claimed(Reviewer(name))
        state = bench.queue.skip(held.id, held.lease, "cannot_understand").state
    assert state is TaskState.SKIPPED
    assert bench.claim(Reviewer("dan")) is None
    job, tasks = bench.operations.waiting("j", "acme")
    assert (job.state, job.cause, job.callback_state) == ("failed", "nobody_could", "due")
    assert tasks[0].skips[0]["note"] == "mumbles"


def test_a_task_whose_audio_is_not_here_is_passed_over_and_stays(bench: Bench) -> None:
    bench.operations.add([task(1, job="j")], Job("j", "acme", 0.0, {"status_url": "/x"}))
    bench.operations.add([task(2)], None)
    before = bench.queue.task("t1")
    assert bench.claimed(ANN).id == "t1", "where all audio is"
    bench.queue.release("t1", bench.queue.task("t1").lease)
    found = bench.claim(ANN, has_audio=lambda id_: id_ == "t2")
    assert found is not None
    assert found.id == "t2"
    assert bench.claim(BOB, has_audio=lambda _: False) is None
    assert bench.queue.task("t1").state is before.state is TaskState.OPEN
    assert bench.operations.waiting("j", "acme")[0].state == "waiting"
    held = bench.claimed(BOB)
    assert held.id == "t1", "the server that has its audio hands it out"
    assert bench.submit(held, BOB).state is TaskState.DONE


def test_age_alone_ends_a_task_and_says_so(bench: Bench) -> None:
    bench.operations.add([task(1, job="j")], Job("j", "acme", 0.0, {"status_url": "/x"}, callback="http://x/"))
    bench.operations.add([task(number) for number in range(2, LOOK_AT + 20)], None)
    working = bench.claimed(ANN)
    assert working.id == "t1"
    left = bench.claimed(BOB)
    assert bench.queue.expire(before=1.0) == 0, "what is not older than that stays"
    bench.now += LEASE_S + 1
    bench.queue.renew(working.id, working.lease, None)
    assert bench.queue.expire(before=LOOK_AT + 10.0) == LOOK_AT + 8, "without the one in work"
    assert bench.queue.task(left.id).state is TaskState.EXPIRED, "whose lease has run out"
    assert bench.queue.task("t1").state is TaskState.LEASED
    bench.now += LEASE_S + 1
    assert bench.queue.expire(before=2.0) == 1
    job = bench.operations.waiting("j", "acme")[0]
    assert (job.state, job.cause, job.callback_state) == ("failed", "audio_expired", "due")
    assert bench.operations.task_stats.counts()["open"]["degree"] == 10


def test_a_job_is_done_with_its_last_task(bench: Bench) -> None:
    job = Job("j", "acme", 0.0, {"status_url": "/x"}, callback="http://x/")
    bench.operations.add([task(1, job="j"), task(2, job="j")], job)
    bench.submit(bench.claimed())
    assert bench.operations.waiting("j", "acme")[0].state == "waiting"
    assert bench.operations.jobs.due() == []
    bench.submit(bench.claimed())
    found = bench.operations.waiting("j", "acme")[0]
    assert (found.state, found.callback_state) == ("done", "due")
    with pytest.raises(UnknownName):
        bench.operations.waiting("j", "another tenant")


def test_a_call_that_fails_is_tried_again_later_and_given_up_after_a_day(bench: Bench) -> None:
    bench.operations.add([task(job="j")], Job("j", "acme", 0.0, {"status_url": "/x"}, callback="http://x/"))
    bench.submit(bench.claimed())
    jobs = bench.operations.jobs
    begun = bench.now
    while (found := bench.operations.waiting("j", None)[0]).callback_state == "due":
        bench.now += 600
        for job in jobs.due():
            claimed = jobs.claim(job)
            assert claimed is not None
            assert jobs.claim(job) is None, "it is taken"
            jobs.called(claimed, reached=False)
    assert (found.callback_state, found.callback_tries) == ("failed", 20)
    assert 8 * 3600 < bench.now - begun < 48 * 3600


def test_a_call_whose_server_died_is_due_again(bench: Bench) -> None:
    bench.operations.add([task(job="j")], Job("j", "acme", 0.0, {"status_url": "/x"}, callback="http://x/"))
    bench.submit(bench.claimed())
    jobs = bench.operations.jobs
    assert jobs.claim(jobs.due()[0]) is not None
    assert jobs.due() == []
    bench.now += CLAIM_S
    assert [job.callback_tries for job in jobs.due()] == [1]


def test_a_tenants_reviewer_sees_nothing_of_others(bench: Bench) -> None:
    bench.operations.add([task(1, tenant="acme"), task(2, tenant="zeta")], None)
    theirs = Reviewer("zoe", "zeta")
    held = bench.claimed(theirs)
    assert held.id == "t2"
    assert bench.claim(theirs) is None
    with pytest.raises(UnknownName):
        bench.operations.task("t1", theirs)
    assert sum(bench.operations.task_stats.counts("zeta")["open"].values()) == 0
    assert [one.id for one in bench.operations.task_stats.listed([TaskState.OPEN], "acme")] == ["t1"]


def test_reading_goes_on_while_answers_come(bench: Bench) -> None:
    bench.operations.add([task(number) for number in range(6)], None)
    for number in range(3):
        bench.now += 1
        bench.submit(bench.claimed(Reviewer(f"r{number}")), Reviewer(f"r{number}"))
    reading = bench.operations.task_stats.finished()
    first = next(reading)
    bench.now += 1
    bench.submit(bench.claimed())
    rest = list(reading)
    assert [first.id, *(one.id for one in rest)] == ["t0", "t1", "t2"], "as it was when the reading began"
    assert all(one.compared["units"] for one in rest)
    assert [one.id for one in bench.operations.task_stats.finished(since=bench.now)] == ["t3"]


def test_old_answers_are_forgotten(bench: Bench) -> None:
    bench.operations.add([task(1), task(2)], None)
    bench.submit(bench.claimed())
    bench.now += 100
    assert bench.operations.task_stats.forget(bench.now) == 1
    assert bench.operations.task_stats.known(["t1", "t2"]) == {"t2"}


def test_tasks_without_audio_hide_none_behind_them(bench: Bench) -> None:
    bench.operations.add([task(number) for number in range(3 * LOOK_AT)], None)
    gone = {f"t{number}" for number in range(2 * LOOK_AT)}
    held = bench.claim(has_audio=lambda id_: id_ not in gone)
    assert held is not None
    assert held.id == f"t{2 * LOOK_AT}"
    assert bench.queue.task("t0").state is TaskState.OPEN


def test_tasks_that_one_person_skipped_hide_none_behind_them(bench: Bench) -> None:
    skips = [{"by": "ann", "reason": "other", "note": "", "at": 0.0}]
    mine = [replace(task(number, created_at=1.0), skips=skips) for number in range(LOOK_AT + 5)]
    bench.operations.add([*mine, task(999, created_at=1.0)], None)
    assert bench.claimed(ANN).id == "t999"
