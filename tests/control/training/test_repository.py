"""Retrainings in the store: one at a time, by one server, whatever becomes of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from speechpipe.control.training import Kind, Request, State
from speechpipe.control.training.repository import SILENT_S, Retrainings
from speechpipe.errors import Conflict, UnknownName
from speechpipe.foundation.storage.store import Store
from tests.databases import DATABASES, Database

ASKED = Request(Kind.CTC, "digits@1.0.0", by="ann", reason="a new speaker", seed=3)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=DATABASES, ids=str)
def jobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Retrainings, Clock]]:
    database: Database = request.param
    clock = Clock()
    with database.ready(tmp_path) as url:
        store = Store(url)
        yield Retrainings(lambda: store.engine, clock), clock
        store.close()


def test_a_job_goes_its_way_and_remembers_it(jobs: tuple[Retrainings, Clock]) -> None:
    archive, clock = jobs
    job = archive.add(ASKED)
    assert (job.state, job.request) == (State.WAITING, ASKED)
    job = archive.claim(job, "here")
    clock.now += 60
    done = archive.end(job, State.DONE, "here", "better", {"candidate": "digits@1.0.0-r1", "rollout": "waits"})
    told = archive.tell(done, {"rollout": "at shadow"}, "entered")
    assert told.outcome == {"candidate": "digits@1.0.0-r1", "rollout": "at shadow"}
    assert [line["action"] for line in told.history] == ["ask", "begin", "done", "rollout"]
    assert [found.id for found in archive.listed((State.DONE,))] == [job.id]


def test_the_same_is_not_asked_for_twice(jobs: tuple[Retrainings, Clock]) -> None:
    archive, _ = jobs
    job = archive.add(ASKED)
    with pytest.raises(Conflict, match=f"retraining {job.id}"):
        archive.add(ASKED)
    assert archive.add(Request(Kind.VAD, "digits@1.0.0")).id != job.id


def test_two_servers_never_take_the_same(jobs: tuple[Retrainings, Clock]) -> None:
    archive, clock = jobs
    job = archive.add(ASKED)
    archive.claim(job, "one")
    with pytest.raises(Conflict):
        archive.claim(job, "other")  # it has seen it waiting
    with pytest.raises(Conflict):
        archive.claim(archive.job(job.id), "other")
    clock.now += SILENT_S + 1  # the one has died
    taken = archive.claim(archive.job(job.id), "other")
    assert taken.owner == "other"
    with pytest.raises(Conflict):
        archive.claim(archive.job(job.id), "one")


def test_an_owner_that_says_it_is_at_work_keeps_it(jobs: tuple[Retrainings, Clock]) -> None:
    archive, clock = jobs
    job = archive.claim(archive.add(ASKED), "one")
    for _ in range(5):
        clock.now += SILENT_S - 1
        job = archive.beat(job)
    with pytest.raises(Conflict):
        archive.claim(job, "other")
    assert archive.claim(job, "one").owner == "one"  # after a restart


def test_what_was_stopped_goes_on_and_what_is_over_does_not(jobs: tuple[Retrainings, Clock]) -> None:
    archive, _ = jobs
    job = archive.claim(archive.add(ASKED), "one")
    assert archive.stop(job.id, "ann", "too loud").state is State.STOPPED
    with pytest.raises(Conflict):
        archive.stop(job.id, "ann")
    assert archive.again(job.id, "ann").state is State.WAITING
    job = archive.claim(archive.job(job.id), "one")
    archive.end(job, State.DONE, "one", "")
    with pytest.raises(Conflict):
        archive.again(job.id, "ann")
    with pytest.raises(Conflict):
        archive.claim(archive.job(job.id), "one")
    with pytest.raises(UnknownName):
        archive.job(999)


def test_two_who_ask_at_the_same_moment_get_one_training(
    jobs: tuple[Retrainings, Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, _ = jobs
    monkeypatch.setattr(archive, "listed", lambda **_: [])  # each has looked before the other wrote
    first = archive.add(ASKED)
    with pytest.raises(Conflict, match="at the same time"):
        archive.add(ASKED)
    archive.stop(first.id, "ann")
    second = archive.add(ASKED)
    with pytest.raises(Conflict, match="another retraining"):
        archive.again(first.id, "bob")
    assert second.state is State.WAITING


def test_a_server_that_was_taken_for_gone_does_not_speak_for_the_one_that_took_over(
    jobs: tuple[Retrainings, Clock],
) -> None:
    archive, clock = jobs
    mine = archive.claim(archive.add(ASKED), "one")
    clock.now += SILENT_S + 1
    theirs = archive.claim(mine, "other")
    clock.now += 5
    seen = archive.beat(mine)
    assert (seen.owner, seen.beat_at) == ("other", theirs.beat_at)
