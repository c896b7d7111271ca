"""Running a training process."""

import sys
import time
from pathlib import Path

import pytest

from speechpipe.control.training import runner
from speechpipe.control.training.job_spec import LOG
from tests.patience import PATIENCE_S


def test_a_training_in_a_long_step_that_must_be_killed_is_stopped_not_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = tmp_path / "stubborn"
    stubborn.write_text("#!/bin/sh\ntrap '' TERM\necho deaf\nwhile :; do sleep 0.1; done\n")
    stubborn.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stubborn))
    monkeypatch.setattr(runner, "STOP_S", 0.1)
    run = runner.Run(tmp_path)
    end = time.monotonic() + PATIENCE_S
    while "deaf" not in (tmp_path / LOG).read_text():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert run.poll() is None
    run.stop()
    ended = run.poll()
    assert ended is not None
    assert ended.stopped
    assert ended.result is None
