"""Training of a CTC network: epochs, validation, early stopping, and resuming.

A resumed training ends with the same weights as an uninterrupted one, because all random numbers are drawn from the
seed and the number of the epoch.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from speechpipe.cascade.asr.acoustic.lattice import Lexicon, best_path
from speechpipe.cascade.asr.acoustic.network import CtcNetwork
from speechpipe.cascade.evaluation.scores import Errors, word_errors
from speechpipe.control.training.ctc.batches import Batch, Mixture, plain
from speechpipe.control.training.ctc.checkpoint import Checkpoints
from speechpipe.control.training.examples import Example
from speechpipe.errors import TrainingFailed

WARM_UP_SHARE = 0.15
AVERAGED = 0.98
"""Decay of the moving average of the weights, which is what is kept (Polyak & Juditsky, 1992)."""

MOST_GRADIENT = 1.0
BAD_SHARE = 0.1
"""The training fails if the loss is not finite in more than this share of an epoch's steps."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Training options. `patience`: epochs without improvement before it stops."""

    epochs: int = 30
    rate: float = 3e-3
    patience: int = 10
    seed: int = 0
    decay: float = 1e-3
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Epoch:
    """The result of an epoch. `errors`: the word error rate on the validation set."""

    number: int
    loss: float
    errors: float
    bad_steps: int


@dataclass
class Progress:
    """The progress of a training."""

    epochs: list[Epoch] = field(default_factory=list)
    stopped: str = ""  # why it ended; empty while it is running
    broken_checkpoints: int = 0

    @property
    def best(self) -> Epoch:
        """The epoch whose weights are kept."""
        return min(self.epochs, key=lambda epoch: (epoch.errors, epoch.loss))


class Training:
    """A training. `on_progress` is called with (progress, batch, batches); `stop` is called between batches."""

    def __init__(
        self,
        network: CtcNetwork,
        mixture: Mixture,
        validation: Sequence[Example],
        options: TrainOptions,
        checkpoints: Checkpoints,
        lexicon: Lexicon | None = None,
    ) -> None:
        self._network = network.to(options.device)
        self._mixture = mixture
        self._validation = validation
        self._options = options
        self._checkpoints = checkpoints
        self._lexicon = lexicon
        self._optimiser = torch.optim.AdamW(network.parameters(), options.rate, weight_decay=options.decay)
        self._best: dict[str, torch.Tensor] = {}
        self._averaged = copy.deepcopy(self._network)
        self._steps = 0
        self.progress = Progress()

    def run(
        self,
        on_progress: Callable[[Progress, int, int], None] = lambda *_: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Progress:
        """Train until all epochs are done, validation stops improving, or `stop` returns True; load the best weights.

        Raises:
            TrainingFailed: the loss is not finite in too many steps.
            NoSpace: a checkpoint cannot be written; the last one is intact.
        """
        self._go_on()
        progress, options = self.progress, self._options
        while not progress.stopped:
            number = len(progress.epochs)
            if number >= options.epochs:
                progress.stopped = "all epochs are done"
            elif number and number - 1 - progress.best.number >= options.patience:
                progress.stopped = f"no improvement in {options.patience} epochs"
            elif (epoch := self._epoch(number, on_progress, stop)) is None:
                progress.stopped = "stopped"
            else:
                progress.epochs.append(epoch)
                if progress.best is epoch:
                    self._best = {name: value.clone() for name, value in self._averaged.state_dict().items()}
                self._checkpoints.save(self._state())
                on_progress(progress, 0, self._mixture.batches)
        if self._best:
            self._network.load_state_dict(self._best)
        self._network.eval()
        return progress

    def _epoch(
        self, number: int, on_progress: Callable[[Progress, int, int], None], stop: Callable[[], bool]
    ) -> Epoch | None:
        self._network.train()
        torch.manual_seed(self._options.seed * 100_003 + number)  # dropout
        losses, bad, batches = [], 0, self._mixture.batches
        for index, batch in enumerate(self._mixture.epoch(number)):
            if stop():
                return None
            loss = self._step(batch, number, index, number + index / batches)
            if math.isfinite(loss):
                losses.append(loss)
            else:
                bad += 1
                if bad > max(1, BAD_SHARE * batches):
                    raise TrainingFailed(
                        f"the loss is not finite in {bad} of {index + 1} steps of epoch {number}: lower --rate, or "
                        "check the audio",
                        cause="loss_not_finite",
                    )
            on_progress(self.progress, index + 1, batches)
        return Epoch(number, sum(losses) / max(len(losses), 1), self.errors(self._validation), bad)

    def _step(self, batch: Batch, epoch: int, index: int, position: float) -> float:
        device = self._options.device
        for group in self._optimiser.param_groups:
            group["lr"] = self._options.rate * rate_at(position / self._options.epochs)
        with torch.no_grad():
            features, frames = self._network.frontend(batch.samples.to(device), batch.lengths.to(device))
            features = self._mixture.augmentation.features(features, frames, epoch, index)
        log_probs, frames = self._network.of_features(features, frames)
        loss = nn.functional.ctc_loss(
            log_probs.transpose(0, 1), batch.letters.to(device), frames, batch.counts.to(device), zero_infinity=True
        )
        value = float(loss.detach())
        if not math.isfinite(value):
            return value  # skip the batch, so that the weights stay finite
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self._network.parameters(), MOST_GRADIENT)
        if not math.isfinite(float(norm)):
            return math.nan
        self._optimiser.step()
        self._steps += 1
        keep = min(AVERAGED, self._steps / (self._steps + 10))
        with torch.no_grad():
            for mean, parameter in zip(self._averaged.parameters(), self._network.parameters(), strict=True):
                mean.lerp_(parameter, 1 - keep)
        return value

    def errors(self, examples: Sequence[Example]) -> float:
        """Return the word error rate on unchanged examples; 0 if there are no words."""
        found = word_error_counts(self._averaged, examples, self._lexicon)
        return sum(item.edits for item in found) / max(sum(item.length for item in found), 1)

    def _state(self) -> dict[str, Any]:
        return {
            "network": self._network.state_dict(),
            "averaged": self._averaged.state_dict(),
            "steps": self._steps,
            "best": self._best,
            "optimiser": self._optimiser.state_dict(),
            "epochs": [[epoch.number, epoch.loss, epoch.errors, epoch.bad_steps] for epoch in self.progress.epochs],
        }

    def _go_on(self) -> None:
        if (found := self._checkpoints.load()) is None:
            return
        state, self.progress.broken_checkpoints = found
        self._network.load_state_dict(state["network"])
        self._averaged.load_state_dict(state["averaged"])
        self._steps = state["steps"]
        self._optimiser.load_state_dict(state["optimiser"])
        self._best = state["best"]
        self.progress.epochs = [Epoch(*row) for row in state["epochs"]]


def rate_at(position: float) -> float:
    """Return the factor of the learning rate at a position in 0..1: linear warm-up, then half a cosine."""
    if position < WARM_UP_SHARE:
        return 0.05 + 0.95 * position / WARM_UP_SHARE
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (position - WARM_UP_SHARE) / (1 - WARM_UP_SHARE))))


@torch.inference_mode()
def word_error_counts(network: CtcNetwork, examples: Sequence[Example], lexicon: Lexicon | None) -> list[Errors]:
    """Return the word errors of each example."""
    network.eval()
    device = next(network.parameters()).device
    found = []
    for batch in plain(examples, network.config.alphabet, 64):
        log_probs, frames = network(batch.samples.to(device), batch.lengths.to(device))
        for row, count, text in zip(log_probs.cpu().numpy(), frames.tolist(), batch.texts, strict=True):
            part = row[:count]
            words = lexicon.decode(part) if lexicon is not None else best_path(part, network.config.alphabet)
            found.append(word_errors(text, " ".join(word.text for word in words)))
    return found
