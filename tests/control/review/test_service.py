"""What a running server does with sessions that are over, without a recognizer."""

import errno
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.config import Settings
from speechpipe.control.review import TaskState
from speechpipe.control.review.job_repository import Job
from speechpipe.control.review.operations import segments
from speechpipe.control.review.service import ABANDONED_S, ReviewService
from speechpipe.control.review.task_repository import Reviewer
from speechpipe.errors import StoreUnavailable, UnknownName
from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store
from speechpipe.serving.hooks import CompletedSession
from speechpipe.types import SAMPLE_RATE_HZ, AudioFeatures, DecodeStats, Segment, Transcript, Utterance, Word
from tests.databases import place_tables
from tests.patience import PATIENCE_S

DEFAULT = Catalogue([shipped_models()]).bundle("default")
FEATURES = AudioFeatures(1.0, -20.0, -3.0, 0.0, 0.0, 0.0, None, None, None, None)


class House:
    """A `ReviewService` with its store, and a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_000_000.0
        self.folder = folder
        self.emitted: list[Record] = []
        self.store = Store(place_tables(folder / "records.db"))
        self.reviewing = ReviewService(Settings(state_dir=folder), self.store, self.emitted.append, lambda: self.now)

    def policy(self, **changes: object) -> None:
        self.reviewing.set("default", changes, "ann", "", None)

    def spoken(self, id_: str, confidence: float = 0.9) -> CompletedSession:
        """Return a session of a second, its audio on disk."""
        keeper = self.reviewing.hold(id_)
        assert keeper is not None
        keeper.feed(np.zeros(SAMPLE_RATE_HZ, np.float32))
        keeper.close()
        transcript = Transcript("one", (Word("one", 0.1, 0.5, confidence),), confidence)
        segment = Segment(0, SAMPLE_RATE_HZ, 1600, 8000, 0.9)
        utterance = Utterance(f"{id_}-0", 0, segment, transcript, FEATURES, DecodeStats(0, 0, 0, 1))
        return CompletedSession(id_, "acme", "upload", DEFAULT, 1.0, [utterance])

    def take(self, session: CompletedSession, job: Job | None = None, *, shadowed: bool = False) -> bool:
        terms = self.reviewing.policy_cache.terms("acme", DEFAULT.id)
        return self.reviewing.take([session], terms, job, shadowed=shadowed)

    def disagree(self, id_: str, share: float) -> None:
        measures = {"shadow.difference": share}
        self.reviewing.compared(
            Record("shadow", f"{id_}-pair", id_, self.now, "upload", "new", "1", "acme", measures=measures)
        )

    def audio(self, id_: str) -> Path:
        return self.folder / "reviews" / f"{id_}.flac"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    found.store.close()


def test_audio_that_nobody_looks_at_is_not_kept(house: House) -> None:
    house.policy(degree="full", audit_share=0.0)
    assert not house.take(house.spoken("a"))
    assert not house.audio("a").exists()


def test_a_channel_that_needs_nobody_is_delivered_with_the_one_that_does(house: House) -> None:
    house.policy(degree="partial", audit_share=0.0)
    terms = replace(house.reviewing.policy_cache.terms("acme", DEFAULT.id), threshold=0.8)
    sessions = [house.spoken("u-c0", 0.9), house.spoken("u-c1", 0.3)]
    job = Job("u", "acme", house.now, {"status_url": "/x"})
    assert house.reviewing.take(sessions, terms, job, shadowed=False)
    operations = house.reviewing.operations
    assert [task.id for task in operations.task_stats.listed([TaskState.OPEN])] == ["u-c1"]
    held = operations.queue.claim(Reviewer("ann"), lambda _: True)
    assert held is not None
    piece = held.draft.pieces[0]
    answer = [{"start": piece.start_s, "end": piece.end_s, "text": "two", "of": [piece.id]}]
    operations.submit(held.id, Reviewer("ann"), held.lease, answer, 0.0)
    found, tasks = operations.waiting("u", "acme")
    assert found.state == "done"
    assert [[(one["text"], one["author"]) for one in segments(task)] for task in tasks] == [
        [("one", "machine")],
        [("two", "both")],
    ]


def test_what_somebody_waits_for_comes_first(house: House) -> None:
    house.policy(degree="assist", audit_share=0.0)
    house.take(house.spoken("live", 0.1))
    house.take(house.spoken("upload", 0.9), Job("upload", "acme", house.now, {"status_url": "/x"}))
    claimed = house.reviewing.operations.queue.claim(Reviewer("ann"), lambda _: True)
    assert claimed is not None
    assert claimed.id == "upload"


def test_where_bundles_disagree_a_person_may_look(house: House) -> None:
    house.policy(degree="full", audit_share=0.0, disagreement_share=1.0)
    for name, share in (("a", 0.5), ("b", 0.1)):
        house.take(house.spoken(name), shadowed=True)
        assert house.audio(name).exists(), "until it is known"
        house.disagree(name, share)
    task = house.reviewing.operations.queue.task("a")
    assert (task.why, task.draft.whole) == ("disagreement", 1.0)
    assert house.audio("a").exists()
    assert not house.audio("b").exists()
    assert house.reviewing.operations.task_stats.known(["a", "b"]) == {"a"}


def test_a_session_that_was_drawn_already_was_more_likely_if_bundles_disagree(house: House) -> None:
    house.policy(degree="full", audit_share=1.0, doubtful_share=0.0, disagreement_share=0.5)
    house.take(house.spoken("a"), shadowed=True)
    house.policy(audit_share=0.1)
    task = house.reviewing.operations.queue.task("a")
    pieces = tuple(replace(piece, chance=0.1) for piece in task.draft.pieces)
    lowered = replace(task, id="b", draft=replace(task.draft, pieces=pieces, whole=0.1))
    house.reviewing.operations.add([lowered], None)
    house.disagree("b", 0.5)
    found = house.reviewing.operations.queue.task("b").draft
    assert found.whole == pytest.approx(0.55)
    assert found.pieces[0].chance == pytest.approx(0.55)


def test_what_a_killed_server_left_is_swept_and_what_waits_is_kept(house: House) -> None:
    house.policy(degree="assist")
    house.spoken("orphan")
    house.take(house.spoken("waits"), Job("waits", "acme", house.now, {"status_url": "/x"}))
    for name in ("orphan", "waits"):
        os.utime(house.audio(name), (house.now - 2 * ABANDONED_S,) * 2)
    house.reviewing.sweep()
    assert not house.audio("orphan").exists()
    assert house.audio("waits").exists()
    assert house.reviewing.counts["audio_abandoned"] == 1


def test_a_folder_that_is_away_for_a_while_costs_no_task(house: House) -> None:
    house.policy(degree="assist")
    house.take(house.spoken("a"), Job("a", "acme", house.now, {"status_url": "/x"}))
    away = house.folder / "away"
    (house.folder / "reviews").rename(away)
    assert house.reviewing.claim(Reviewer("ann")) is None
    house.reviewing.sweep()
    assert house.reviewing.counts["audio_not_here"] == 1
    task = house.reviewing.operations.queue.task("a")
    assert task.state is TaskState.OPEN
    with pytest.raises(UnknownName, match="not on this server") as refused:
        house.reviewing.audio_of(task)
    assert refused.value.cause == "audio_not_here"
    assert house.reviewing.operations.waiting("a", "acme")[0].state == "waiting"
    away.rename(house.folder / "reviews")
    held = house.reviewing.claim(Reviewer("ann"))
    assert held is not None
    assert house.reviewing.audio_of(held).exists()


def test_a_folder_that_cannot_be_read_is_none_and_is_counted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.policy(degree="assist")
    house.take(house.spoken("a"), Job("a", "acme", house.now, {"status_url": "/x"}))

    def stale(_: Path) -> bool:
        raise OSError(errno.ESTALE, "stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "exists", stale)
        assert house.reviewing.claim(Reviewer("ann")) is None
    assert house.reviewing.audio.failed == {"OSError": 1}
    assert house.reviewing.claim(Reviewer("ann")) is not None


def test_a_task_whose_audio_is_nowhere_ends_when_audio_is_no_longer_kept(house: House) -> None:
    house.policy(degree="assist")
    house.take(house.spoken("a"), Job("a", "acme", house.now, {"status_url": "/x"}))
    house.audio("a").unlink()
    house.now += 30 * 86_400.0 - 1
    house.reviewing.sweep()
    assert house.reviewing.operations.queue.task("a").state is TaskState.OPEN
    house.now += 2
    house.reviewing.sweep()
    task = house.reviewing.operations.queue.task("a")
    assert task.state is TaskState.EXPIRED
    assert house.reviewing.operations.waiting("a", "acme")[0].cause == "audio_expired"
    assert house.reviewing.counts["expired"] == 1
    with pytest.raises(UnknownName, match="was deleted"):
        house.reviewing.audio_of(task)


def test_what_must_wait_and_cannot_be_written_down_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.policy(degree="assist")
    session = house.spoken("a")
    terms = house.reviewing.policy_cache.terms("acme")

    def broken(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(house.reviewing.operations.queue, "add", broken)
    with pytest.raises(StoreUnavailable, match="needs a reviewer"):
        house.reviewing.take([session], terms, Job("a", "acme", house.now, {}), shadowed=False)
    assert not house.audio("a").exists()
    house.policy(degree="full", audit_share=1.0)
    assert not house.take(house.spoken("b")), "nobody waits for an audit: the client gets its text"
    assert house.reviewing.counts["not_stored"] == 2


def test_the_degrees_hold_when_the_store_is_gone(house: House, tmp_path: Path) -> None:
    house.policy(degree="human_only")
    settings = Settings(state_dir=tmp_path, store_url="postgresql+psycopg://nobody@127.0.0.1:1/none")
    again = ReviewService(settings, Store(settings.record_store_url), house.emitted.append, lambda: 0.0)
    assert again.policy_cache.terms("acme").degree == "human_only"


def test_whatever_a_background_task_raises_it_goes_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    reviewing = house.reviewing
    house.policy(degree="assist")
    worked: Counter[str] = Counter()

    def breaks_once(owner: object, name: str) -> None:
        plain = getattr(owner, name)

        def call(*arguments: object) -> object:
            worked[name] += 1
            if worked[name] == 1:
                raise RuntimeError("unforeseen")
            return plain(*arguments)

        monkeypatch.setattr(owner, name, call)

    house.spoken("a")
    breaks_once(reviewing.operations.automation, "policies")
    breaks_once(reviewing.operations.task_stats, "newest")
    breaks_once(reviewing.audio, "quiet")
    breaks_once(reviewing.operations.jobs, "due")
    for task in reviewing.tasks:
        task.start()
    names = ("policies", "newest", "quiet", "due")
    limit = time.monotonic() + PATIENCE_S
    while not all(worked[name] >= 2 for name in names):
        assert time.monotonic() < limit, worked
        time.sleep(0.02)
    assert [task.status.failures for task in reviewing.tasks] == [1, 1, 1, 1]
    assert reviewing.policy_cache.terms("acme").degree == "assist"
    reviewing.close()
    assert not any(task.status.alive for task in reviewing.tasks)


def test_a_live_session_that_cannot_be_reviewed_does_not_stop_the_next(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.policy(degree="full", audit_share=1.0)
    reviewing = house.reviewing
    terms = reviewing.policy_cache.terms("acme")
    strange, plain = house.spoken("strange"), house.spoken("plain")
    real = reviewing.take

    def take(sessions: Any, *arguments: Any, **named: Any) -> bool:
        if sessions[0].id == "strange":
            raise RuntimeError("unforeseen")
        return real(sessions, *arguments, **named)

    monkeypatch.setattr(reviewing, "take", take)
    for session in (strange, plain):
        reviewing.spoken([session], terms, shadowed=False)
    reviewing.start()
    limit = time.monotonic() + PATIENCE_S
    while not reviewing.operations.task_stats.known(["plain"]):
        assert time.monotonic() < limit
        time.sleep(0.02)
    assert reviewing.counts["not_stored"] == 1
    assert not house.audio("strange").exists()
    reviewing.close()


def test_live_sessions_that_nobody_takes_are_counted_and_their_audio_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechpipe.control.review.service.MOST_SPOKEN", 1)
    house = House(tmp_path)
    house.policy(degree="full", audit_share=1.0)
    for name in ("a", "b"):
        house.reviewing.spoken([house.spoken(name)], house.reviewing.policy_cache.terms("acme"), shadowed=False)
    assert house.reviewing.counts == {"queue_full": 1}
    assert (house.audio("a").exists(), house.audio("b").exists()) == (True, False)
    house.reviewing.close()
    assert house.reviewing.operations.task_stats.known(["a"]) == {"a"}, "what was taken is decided at the end"
    house.store.close()
