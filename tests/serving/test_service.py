"""The service as a whole: what it says of its parts, what it refuses, how it closes."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from speechpipe.app import build, compose
from speechpipe.cascade.catalog.factories import recognizer
from speechpipe.cascade.request import SessionRequest
from speechpipe.config import Settings
from speechpipe.control.rollout.shadow import ShadowService
from speechpipe.control.rollout.shadow_diff import compared
from speechpipe.errors import NotReady
from speechpipe.foundation.background import BackgroundTask, TaskStatus
from speechpipe.foundation.storage.record import Measure, Record
from speechpipe.foundation.storage.store import Store
from speechpipe.interfaces.api.admin import ops
from speechpipe.interfaces.api.app import create_app
from speechpipe.serving.assignment import MIRRORED
from speechpipe.serving.health.prober import Prober
from speechpipe.serving.live.manager import StreamManager
from speechpipe.serving.service import Service
from speechpipe.types import SAMPLE_RATE_HZ
from tests.cascade.workers.test_pool import until
from tests.cascade.workers.test_supervisor import Starts, kill_all


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(bundle="scripted", workers=1, state_dir=tmp_path, worker_wait_s=1.0)


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Starts:
    return Starts(monkeypatch)


@pytest.fixture
def own(settings: Settings) -> Iterator[Service]:
    with compose(settings, store=Store(settings.record_store_url)) as running:
        yield running


def test_uploads_are_refused_while_no_worker_can_be_started(settings: Settings, starts: Starts) -> None:
    with compose(settings) as own:
        starts.failing = 10**6
        kill_all(own.engine.pool)
        until(lambda: own.engine.pool.unavailable)
        with pytest.raises(NotReady, match="temporarily unavailable"), own.admission.admitted("somebody"):
            pass
        client = TestClient(application(own))
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert "temporarily unavailable" in answer.json()["reasons"][0]
        (missing,) = answer.json()["workers_missing"]
        assert (missing["pool"], missing["ready"], missing["wanted"]) == ("files", 0, 1)
        assert "temporarily unavailable" in missing["failure"]
        starts.failing = 0
        until(lambda: client.get("/readyz").status_code == 200)
        with own.admission.admitted("somebody"):
            pass


def application(service: Service) -> FastAPI:
    app = FastAPI()
    app.include_router(ops.router(service))
    return app


def test_readyz_shows_background_tasks_that_fail_and_is_unready_for_those_that_ended(own: Service) -> None:
    raising = threading.Event()

    def body() -> None:
        if raising.is_set():
            raise LookupError("postgresql://host:5432")

    task = BackgroundTask("mine", body, every_s=0.01, back_off_s=(0.01,))
    own.tasks.add(task)
    client = TestClient(application(own))
    task.start()
    assert client.get("/readyz").json() == {"ready": True, "reasons": [], "workers_missing": [], "background": []}
    raising.set()
    until(lambda: client.get("/readyz").json()["background"])
    answer = client.get("/readyz")
    assert answer.status_code == 200
    (shown,) = answer.json()["background"]
    assert shown == {"task": "mine", "failing": True, "last_failure": "LookupError"}, "and nothing about its host"
    raising.clear()
    until(lambda: not client.get("/readyz").json()["background"])

    status = TaskStatus("gone", False, True, False, 0, "", 0.0)  # whose thread has ended by itself
    own.tasks.add(SimpleNamespace(name="gone", status=status))  # type: ignore[arg-type]
    until(lambda: client.get("/readyz").status_code == 503)
    assert client.get("/readyz").json()["reasons"] == ["the background task gone has ended"]
    task.close()


def test_closing_closes_every_part_though_one_raises(settings: Settings) -> None:
    own = compose(settings)
    own.open()
    closed: list[str] = []

    class Part:
        def __init__(self, name: str, *, raises: bool = False) -> None:
            self.name, self.raises = name, raises

        def close(self) -> None:
            closed.append(self.name)
            if self.raises:
                raise LookupError(self.name)

    raising = {"reviews": Part("reviewing", raises=True), "watcher": Part("monitoring", raises=True)}
    worker = own.engine.pool.supervisor.workers[0]
    with pytest.raises(LookupError):
        replace(own, store=Part("store"), **raising).close()  # type: ignore[arg-type]
    assert closed == ["monitoring", "reviewing", "store"]
    assert not psutil.pid_exists(worker.pid)


def test_retired_workers_are_ended_after_an_unforeseen_exception(own: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechpipe.serving.pools.GRACE_S", 0.0)
    pools = own.engine.pools
    candidate = recognizer(own.engine.catalogue.changed(own.engine.champion, {"asr.cost": 0.001}).asr)
    pools.warm(candidate)
    pair = pools.pair(candidate)
    plain, raising = pair.files.close, [True]

    def close(drain_s: float = 0.0) -> None:
        if raising and raising.pop():
            raise LookupError("unforeseen")
        plain(drain_s)

    monkeypatch.setattr(pair.files, "close", close)
    worker = pair.files.supervisor.workers[0]
    while pools.has(candidate):
        pools.retire(())  # the second time it is over its time of grace
    until(lambda: not psutil.pid_exists(worker.pid))
    retirer = next(task for task in pools.tasks if task.name == "retired-workers")
    assert retirer.status.failures == 1


def test_shadow_goes_on_after_an_unforeseen_exception(own: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = own.mirror
    assert isinstance(shadow, ShadowService)
    shadow.begin(own.engine.champion, own.engine.champion)
    seen: list[object] = []

    def breaks_twice(*of: Any) -> dict[str, Measure]:
        seen.append(of)
        if len(seen) < 3:
            raise LookupError("unforeseen")
        return compared(*of)

    monkeypatch.setattr("speechpipe.control.rollout.shadow.compared", breaks_twice)
    copies = [shadow.open(own.engine.champion, SessionRequest(session_id=id_, route={MIRRORED: 1})) for id_ in "abc"]
    for id_, copy in zip("abc", copies, strict=True):
        assert copy is not None
        copy.feed(np.zeros(SAMPLE_RATE_HZ, np.float32))
        shadow.end(Record("session", f"{id_}-session", id_, 0.0, "upload", "scripted", "1.0.0"))
    until(lambda: all(copy is not None and copy.dropped for copy in copies))
    assert dict(shadow.counts) == {"broken": 2, "compared": 1}
    assert [copy.dropped for copy in copies if copy is not None] == ["broken", "broken", "heard"]
    names = {status.name for status in own.tasks.statuses() if status.alive}
    assert {"shadow", "shadow-workers", "file-workers", "retired-workers"} <= names
    shadow.end_all()
    assert not shadow.tasks


def test_the_workers_of_a_candidate_are_among_the_background_tasks(own: Service) -> None:
    bundle = own.engine.catalogue.changed(own.engine.champion, {"asr.cost": 0.001})
    own.engine.pools.warm(recognizer(bundle.asr))
    assert "candidate1-file-workers" in {status.name for status in own.tasks.statuses() if status.alive}


def test_the_server_closes_every_part_though_one_raises(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    service = build(settings, live=True)
    failures: list[BaseException] = []
    app = create_app(service, StreamManager(service), failures.append)

    def close(_: Prober) -> None:
        raise LookupError("unforeseen")

    monkeypatch.setattr(Prober, "close", close)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        until(lambda: client.get("/readyz").status_code == 200)
        workers = [worker for pool in service.engine.pools.first.pools for worker in pool.supervisor.workers]
    assert not failures
    assert not any(psutil.pid_exists(worker.pid) for worker in workers)
    assert not [status.name for status in service.tasks.statuses() if status.name.endswith("-workers") and status.alive]
