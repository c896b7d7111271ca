"""Training: it learns, goes on as if it had never been interrupted, and says what is wrong."""

import errno
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from speechpipe.cascade.asr.acoustic.network import CtcNetwork
from speechpipe.cascade.asr.acoustic.weights import load
from speechpipe.control.training.ctc.adaptation import (
    CHECKPOINTS,
    WEIGHTS,
    CtcOptions,
    Trained,
    errors_on,
    teach,
    train,
)
from speechpipe.control.training.ctc.augment import AugmentOptions
from speechpipe.control.training.ctc.checkpoint import Checkpoints
from speechpipe.control.training.ctc.training import TrainOptions, rate_at
from speechpipe.errors import NoSpace, TrainingFailed
from speechpipe.interfaces.cli import app
from tests.control.training.tones import SMALL, WORDS, examples, manifest

LIGHT = AugmentOptions(
    speed=0.3, speed_range=(0.95, 1.05), room=0.0, codec=0.0, gain=0.3, noise=0.3, warp=0.0, masks=0.0
)


def options(epochs: int, **changes: Any) -> CtcOptions:
    chosen = TrainOptions(**{"epochs": epochs, "rate": 2e-2, "patience": 99, **changes})
    return CtcOptions(chosen, SMALL, words=WORDS, augment=LIGHT, size=4)


def run(folder: Path, epochs: int, most: int | None = None, count: int = 16, **changes: Any) -> Trained:
    """Train for `epochs`, or be stopped in the middle of epoch `most`; on few examples, if nothing need be learnt."""
    seen: list[int] = []

    def told(progress: Any, batch: int, batches: int) -> None:
        seen.append(len(progress.epochs) * 1000 + batch)

    stop = (lambda: bool(seen) and seen[-1] >= most * 1000 + 2) if most is not None else (lambda: False)
    return train(examples(count), examples(count // 5), folder, options(epochs, **changes), told, stop)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training of four epochs that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder, 4)
    return folder


def weights(folder: Path) -> list[torch.Tensor]:
    return [value.detach() for value in load(folder / WEIGHTS).parameters()]


def test_it_learns_to_read_tones(tmp_path: Path) -> None:
    done = run(tmp_path, 12, count=40)
    assert done.progress.best.errors <= 0.1
    errors = errors_on(tmp_path, examples(20), options(1))
    assert sum(item.edits for item in errors) <= 2
    assert (tmp_path / "words.txt").read_text().split() == sorted(WORDS)


def test_one_that_was_interrupted_ends_as_one_that_was_not(whole: Path, tmp_path: Path) -> None:
    for stopped_in in (1, 2):
        assert run(tmp_path / "parts", 4, stopped_in).progress.stopped == "stopped"
        assert not (tmp_path / "parts" / WEIGHTS).exists()
    done = run(tmp_path / "parts", 4)
    assert [epoch.number for epoch in done.progress.epochs] == [0, 1, 2, 3]
    for one, other in zip(weights(whole), weights(tmp_path / "parts"), strict=True):
        assert torch.equal(one, other)


def test_another_seed_is_another_training(tmp_path: Path) -> None:
    run(tmp_path / "a", 1, seed=1)
    run(tmp_path / "b", 1, seed=2)
    assert not all(map(torch.equal, weights(tmp_path / "a"), weights(tmp_path / "b")))


def test_it_stops_when_nothing_becomes_better(tmp_path: Path) -> None:
    done = run(tmp_path, 50, rate=1e-7, patience=2)
    assert done.progress.stopped == "no improvement in 2 epochs"
    assert len(done.progress.epochs) < 10


def test_a_broken_checkpoint_is_passed_over_for_the_one_before(whole: Path, tmp_path: Path) -> None:
    run(tmp_path, 4, 3)
    newest = tmp_path / CHECKPOINTS / "checkpoint.pt"
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    done = run(tmp_path, 4)
    assert done.progress.broken_checkpoints == 1
    assert [epoch.number for epoch in done.progress.epochs] == [0, 1, 2, 3]
    assert all(map(torch.equal, weights(tmp_path), weights(whole)))


def test_with_both_broken_it_begins_anew(tmp_path: Path) -> None:
    run(tmp_path, 3, 2)
    for name in ("checkpoint.pt", "checkpoint.before.pt"):
        (tmp_path / CHECKPOINTS / name).write_bytes(b"nothing")
    assert len(run(tmp_path, 3).progress.epochs) == 3


def test_a_full_disk_stops_it_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, 4, 2)
    before = (tmp_path / CHECKPOINTS / "checkpoint.pt").read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        with pytest.raises(NoSpace, match="continue from it"):
            run(tmp_path, 4)
    assert (tmp_path / CHECKPOINTS / "checkpoint.pt").read_bytes() == before
    assert not list((tmp_path / CHECKPOINTS).glob("*.new"))
    assert len(run(tmp_path, 4).progress.epochs) == 4


def test_the_disk_being_full_is_what_torch_s_writer_says_too(tmp_path: Path) -> None:
    """On a real full disk: /dev/full takes no byte."""
    link = tmp_path / "checkpoint.new"
    link.symlink_to("/dev/full")
    with pytest.raises(NoSpace):
        Checkpoints(tmp_path).save({"x": torch.zeros(300_000)})


def test_a_loss_that_is_not_finite_is_said_after_a_few_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.functional, "ctc_loss", lambda *_, **__: torch.tensor(math.nan, requires_grad=True))
    with pytest.raises(TrainingFailed, match="not finite") as caught:
        run(tmp_path, 2)
    assert caught.value.cause == "loss_not_finite"


def test_one_bad_step_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = torch.nn.functional.ctc_loss, []

    def loss(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(1)
        found: torch.Tensor = real(*args, **kwargs)
        return found * math.inf if len(calls) == 2 else found

    monkeypatch.setattr(torch.nn.functional, "ctc_loss", loss)
    done = run(tmp_path, 2)
    assert [epoch.bad_steps for epoch in done.progress.epochs] == [1, 0]
    assert all(bool(torch.isfinite(value).all()) for value in weights(tmp_path))


@pytest.mark.long
def test_what_was_taught_more_lies_between_what_it_was_and_what_it_became(tmp_path: Path) -> None:
    run(tmp_path / "parent", 12, count=40)
    before = weights(tmp_path / "parent")
    new = options(3, rate=2e-3)
    teach(tmp_path / "parent" / WEIGHTS, examples(20), examples(4), tmp_path / "child", new)
    assert not all(map(torch.equal, before, weights(tmp_path / "child")))
    errors = errors_on(tmp_path / "child", examples(20), new)
    assert sum(item.edits for item in errors) <= 3


def test_the_command_writes_a_card_that_says_what_it_was_made_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In this process, which has imported torch. The command line's own tests, which take longer, have the rest."""
    monkeypatch.setenv("SPEECHPIPE_STATE_DIR", str(tmp_path / "state"))
    learn, test = manifest(tmp_path / "learn", 16), manifest(tmp_path / "test", 5)
    command = ["train", "ctc", str(learn), "--test", str(test), "--closed", "--name", "tones", "--epochs", "1"]
    import_module("speechpipe.interfaces.cli.train")  # adds the command
    done = CliRunner().invoke(app, [*command, "--licence", "CC0-1.0", "--out", str(tmp_path / "models")])
    assert done.exit_code == 0, done.output
    assert "word error rate" in done.output
    card = (tmp_path / "models" / "asr" / "tones-1.0.0.toml").read_text()
    for said in ('licence = "CC0-1.0"', "examples = 16", "[metrics]", "wer = ", "seed = 0", 'speakers = "s0, s1'):
        assert said in card
    words = tmp_path / "models" / "asr" / "files" / "tones-1.0.0" / "words.txt"
    assert words.read_text().split() == sorted(WORDS)


def test_the_rate_rises_then_falls() -> None:
    rates = [rate_at(position / 100) for position in range(101)]
    assert max(rates) == pytest.approx(1.0)
    assert rates[0] < 0.1 > rates[-1]
    assert rates.index(max(rates)) == 15


def test_the_network_is_small_enough_to_be_shipped() -> None:
    assert sum(value.numel() for value in CtcNetwork(SMALL).parameters()) < 20_000
