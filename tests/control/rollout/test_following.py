"""A server that follows the route: when the store goes away, when it starts without one, when clocks jump."""

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import delete
from sqlalchemy.exc import OperationalError

from speechpipe.app import compose
from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.cascade.request import SessionRequest
from speechpipe.config import Settings
from speechpipe.control.rollout import Status, documents
from speechpipe.control.rollout import service as rollout_service
from speechpipe.control.rollout.arm_counts import ArmCounts
from speechpipe.control.rollout.operations import RolloutOperations, Verified
from speechpipe.control.rollout.plan import parse
from speechpipe.control.rollout.service import RolloutService
from speechpipe.control.rollout.shadow import MOST_HELD_S
from speechpipe.control.rollout.speech_guards import GUARDS
from speechpipe.errors import InvalidParameter, StoreUnavailable, UnknownName
from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.schema import routes
from speechpipe.foundation.storage.store import Store
from speechpipe.serving.assignment import MIRRORED, ROLLOUT, STEP, UNIT
from speechpipe.serving.routing import Router, RouteSnapshot
from speechpipe.serving.service import Service
from tests.control.rollout.cards import write
from tests.patience import PATIENCE_S

PLAN = 'candidate = "same"\n[[steps]]\nmode = "canary"\nweight = 0.5\n'


def gone(*_: object) -> None:
    raise OperationalError("select", {}, Exception("disk I/O error"))


def build(tmp_path: Path, url: str = "") -> tuple[Service, RolloutService]:
    write(tmp_path / "models", "same")
    settings = Settings(bundle="scripted", workers=1, state_dir=tmp_path, store_url=url)
    service = compose(settings, store=Store(settings.record_store_url))
    return service, RolloutService(service)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Service, RolloutService]]:
    service, rollouts = build(tmp_path)
    service.open(rollouts.restore)
    yield service, rollouts
    rollouts.close()
    service.close()


def until(true: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


def until_warm(rollouts: RolloutService) -> None:
    rollouts.tick()
    rollouts.prepare()
    assert rollouts.facts()["ready"]


def test_a_store_that_goes_away_in_the_middle_moves_nobody(
    running: tuple[Service, RolloutService], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service, rollouts = running
    rollouts.operations.start(parse(PLAN, GUARDS.rates), "ann")
    until_warm(rollouts)
    rollouts.start()
    users = [f"u{number}" for number in range(20)]
    before = [service.engine.pin("t", user).choose("default").bundle.name for user in users]
    assert set(before) == {"scripted", "same"}
    with monkeypatch.context() as broken:
        broken.setattr(rollouts.operations.archive, "revision", gone)
        until(lambda: "disk I/O error" in rollouts.facts()["failure"])
        assert before == [service.engine.pin("t", user).choose("default").bundle.name for user in users]
        broken.setattr(rollouts.operations.archive, "state", gone)
        with pytest.raises(StoreUnavailable):
            rollouts.operations.roll_back("ann", "quick")
    until(lambda: not rollouts.facts()["failure"])
    # A server that starts now goes on as this one did: the copy of the route is beside the store.
    service2, rollouts2 = build(tmp_path, "sqlite:////proc/nowhere/r.db")
    try:
        rollouts2.restore()
        assert rollouts2.state.active is not None
        assert rollouts2.state.active.candidate == "same@1.0.0"
        assert rollouts2.failure
    finally:
        rollouts2.close()
        service2.close()


def test_whatever_the_tasks_raise_they_go_on_and_it_is_said(
    running: tuple[Service, RolloutService], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, rollouts = running
    calls: Counter[str] = Counter()

    def breaks_twice(owner: object, name: str, error: Exception) -> None:
        plain = getattr(owner, name)

        def call(*arguments: object) -> object:
            calls[name] += 1
            if calls[name] <= 2:
                raise error
            return plain(*arguments)

        monkeypatch.setattr(owner, name, call)

    breaks_twice(rollouts.operations.archive, "revision", RuntimeError("unforeseen"))
    breaks_twice(service.engine.pools, "warm", OSError("no memory for a process"))
    rollouts.operations.start(parse(PLAN, GUARDS.rates), "ann")
    rollouts.start()
    until(lambda: rollouts.facts()["failure"])
    until(lambda: rollouts.facts()["ready"])
    failures = {task.name: task.status.failures for task in service.tasks if task.status.failures}
    assert failures == {"rollout": 2, "warming": 2}
    until(lambda: not rollouts.facts()["failure"])
    state = rollouts.operations.state().rollout
    assert state is not None
    assert state.status is Status.RUNNING, "what a machine lacks for a moment is no fault of the candidate"


def begun_elsewhere(running: tuple[Service, RolloutService], folder: Path) -> RolloutOperations:
    """Begin the rollout of `later`, whose card is in the folder of another server alone."""
    service, _ = running
    write(folder, "later")
    catalogue = Catalogue([shipped_models(), folder])

    def verify(name: str) -> Verified:
        bundle = catalogue.bundle(name)
        return Verified(bundle.id, catalogue.digest(bundle))

    assert service.store is not None
    other = RolloutOperations(service.store, GUARDS, verify)
    other.start(parse(PLAN.replace("same", "later"), GUARDS.rates), "ann")
    return other


def test_a_candidate_whose_card_comes_later_here_is_waited_for(
    running: tuple[Service, RolloutService], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, rollouts = running
    rollouts.start()
    other = begun_elsewhere(running, tmp_path / "elsewhere")
    until(lambda: rollouts.facts()["missing"])
    status = documents.status(rollouts.state, other.shown(rollouts.state), rollouts.facts())
    assert "later@1.0.0 is not in the models folder of this server" in status["rollout"]["next"]
    assert not rollouts.failure, "the champion answers, and nothing is wrong with that"
    looks, reload = Counter[str](), service.engine.catalogue.reload

    def counted() -> None:
        looks["reload"] += 1
        reload()

    monkeypatch.setattr(service.engine.catalogue, "reload", counted)
    begun = time.monotonic()
    until(lambda: looks["reload"] >= 3)
    assert time.monotonic() - begun > 1.5, "once a second"
    write(tmp_path / "models", "later", "cost = 4.0")
    until(lambda: "its hash differs" in rollouts.facts()["missing"])
    write(tmp_path / "models", "later")
    until(lambda: rollouts.facts()["ready"])
    assert rollouts.facts()["missing"] == ""
    found = other.state().rollout
    assert found is not None
    assert found.status is Status.RUNNING
    assert service.engine.router.snapshot.candidate is not None


def test_a_candidate_whose_card_does_not_come_is_rolled_back_and_the_reason_names_the_server(
    running: tuple[Service, RolloutService], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout_service, "CARDS_WAIT_S", 2.0)
    rollouts = running[1]
    rollouts.start()
    other = begun_elsewhere(running, tmp_path / "elsewhere")
    until(lambda: other.state().active is None)
    found = other.state().rollout
    assert found is not None
    assert found.status is Status.ROLLED_BACK
    for told in (f"cannot run on {socket.gethostname()}:", "later@1.0.0 is not in the models folder", "MODELS_DIR"):
        assert told in found.reason
    assert other.history()[0].reason == found.reason


def test_a_store_that_is_emptied_while_the_server_runs_is_told_again(running: tuple[Service, RolloutService]) -> None:
    service, rollouts = running
    rollouts.start()
    until(lambda: rollouts.operations.state().champion)
    assert service.store is not None
    with service.store.engine.begin() as connection:
        connection.execute(delete(routes))
    until(lambda: rollouts.operations.state().champion == "scripted@1.0.0")
    assert [entry.action for entry in rollouts.operations.history()] == ["serve", "serve"]


def test_only_the_champion_is_called_champion(running: tuple[Service, RolloutService]) -> None:
    service, _ = running
    choose = service.engine.pin("t").choose
    assert choose("default").arm == choose("scripted").arm == "champion"
    assert choose("same").arm == "named"
    with pytest.raises(InvalidParameter):
        choose("same", {"asr.colour": 1})


def test_sessions_of_a_user_say_so_before_any_rollout(running: tuple[Service, RolloutService]) -> None:
    service, _ = running
    first, again, other = (service.engine.pin("t", user).choose("default").route for user in ("ann", "ann", "bob"))
    assert first == again
    assert first[UNIT] != other[UNIT]
    assert service.engine.pin("t").choose("default").route == {}


def test_a_bundle_whose_files_are_gone_is_refused_at_once(
    running: tuple[Service, RolloutService], tmp_path: Path
) -> None:
    service, _ = running
    for name in ("wav2vec2", "moonshine"):
        with pytest.raises(UnknownName) as refused:
            service.engine.pin("t").choose(name)
        assert refused.value.cause == "weights_missing"
        assert str(tmp_path) not in refused.value.message


def test_an_arm_without_workers_is_answered_by_the_other_and_counts_as_failed(
    running: tuple[Service, RolloutService],
) -> None:
    service, rollouts = running
    rollouts.operations.start(parse(PLAN, GUARDS.rates), "ann")
    until_warm(rollouts)
    router = Router(service.engine.catalogue, service.engine.champion, lambda bundle: bundle.name == "same")
    router.route_by(service.engine.router.snapshot)
    users = (f"u{i}" for i in range(99))
    user = next(name for name in users if service.engine.pin("t", name).choose("default").arm == "champion")
    choice = router.pin(f"t:{user}", returns=True).choose("default")
    assert (choice.bundle.name, choice.arm) == ("same", "champion")
    error = next(guard for guard in GUARDS.events if guard.name == "error")
    record = Record("session", "s", "s", 0.0, "upload", "b", "1", arm=choice.arm, measures=choice.route)
    assert error.happened(record, 1.0)


def test_a_candidate_that_lacks_a_clients_parameter_leaves_it_to_the_champion(
    running: tuple[Service, RolloutService],
) -> None:
    service, rollouts = running
    rollouts.operations.start(parse(PLAN, GUARDS.rates), "ann")
    rollout = rollouts.operations.state().rollout
    users = [name for name in (f"u{i}" for i in range(99)) if rollout is not None and rollout.arm(name) == "canary"]
    router = Router(service.engine.catalogue, service.engine.champion, lambda _: True)
    router.route_by(RouteSnapshot(service.engine.champion, rollout, service.engine.catalogue.bundle("webrtc")))
    arm = router.pin(users[0])
    assert arm.choose("default").bundle.name == "webrtc"
    changed = arm.choose("default", {"asr.cost": 0.5})  # PocketSphinx has no such option
    assert (changed.bundle.name, changed.bundle.asr.options["cost"], dict(changed.route)) == ("scripted", 0.5, {})
    with pytest.raises(InvalidParameter):
        arm.choose("default", {"asr.colour": 1})


def test_shadow_never_holds_more_than_its_memory(running: tuple[Service, RolloutService]) -> None:
    service, rollouts = running
    shadowing, champion = rollouts.shadowing, service.engine.champion
    shadowing.begin(champion, champion)
    second = np.zeros(16_000, np.float32)
    copies = []
    for number in range(8):
        copy = shadowing.open(champion, SessionRequest(session_id=f"s{number}", route={MIRRORED: 1}))
        assert copy is not None
        copies.append(copy)
        for _ in range(100):
            copy.feed(second)
        assert shadowing.waiting_s <= MOST_HELD_S
    assert [copy.dropped for copy in copies[-2:]] == ["queue_full", "queue_full"]
    assert shadowing.open(champion, SessionRequest(session_id="m", route={MIRRORED: 1}, manual=True)) is None
    shadowing.end_all()
    assert shadowing.waiting_s == 0
    for copy in copies:
        copy.feed(second)
    assert shadowing.waiting_s == 0, "what was let go stays let go"


def test_clocks_that_jump_change_nothing_but_the_forecast() -> None:
    arm_counts = ArmCounts(GUARDS, 1, 0, 1.0)
    for number, at in enumerate([1e9, 5.0, 2e9, 0.0, 1e9, 7.0]):
        measures = {ROLLOUT: 1, STEP: 0, "input.duration_s": 2.0, "vad.segments": 0}
        arm_counts.take(Record("session", f"r{number}", f"s{number}", at, "upload", "b", "1", measures=measures))
    assert arm_counts.sessions["champion"] == 6
    assert arm_counts.events["no_trigger"]["champion"] == 6
    assert arm_counts.per_hour is not None
    assert arm_counts.per_hour > 0
