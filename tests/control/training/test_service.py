"""The server's background tasks of retraining go on whatever their bodies raise."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from speechpipe.app import build, training_operations
from speechpipe.config import Settings
from speechpipe.control.rollout.service import RolloutService
from speechpipe.control.training.service import TrainingService
from speechpipe.errors import Conflict
from tests.patience import PATIENCE_S


def until(true: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.fixture
def retraining(tmp_path: Path) -> TrainingService:
    service = build(Settings(bundle="scripted", workers=1, state_dir=tmp_path))
    return TrainingService(service, RolloutService(service), lambda act: training_operations(service, act))


def test_whatever_they_raise_they_go_on_and_it_is_said(
    retraining: TrainingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def breaks(owner: object, name: str, error: Exception, times: int) -> None:
        plain = getattr(owner, name)

        def call(*arguments: object, **named: object) -> object:
            calls[name] += 1
            if calls[name] <= times:
                raise error
            return plain(*arguments, **named)

        monkeypatch.setattr(owner, name, call)

    breaks(retraining.operations, "waiting", RuntimeError("unforeseen"), 3)
    breaks(retraining, "policy", KeyError("unforeseen too"), 3)
    retraining.start()
    try:
        until(lambda: "unforeseen" in retraining.facts()["failure"])
        until(lambda: calls["waiting"] > 4 and calls["policy"] > 3)
        until(lambda: not retraining.facts()["failure"])
    finally:
        retraining.close()


def test_another_server_that_was_faster_is_no_failure(
    retraining: TrainingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def taken(*_: object) -> None:
        calls["waiting"] += 1
        raise Conflict("somebody else did it")

    monkeypatch.setattr(retraining.operations, "waiting", taken)
    retraining.start()
    try:
        until(lambda: calls["waiting"] > 1)
        assert retraining.facts()["failure"] == ""
    finally:
        retraining.close()
