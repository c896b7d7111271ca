"""Training of a CTC recognizer from scratch, and adaptation of an existing one to reviewed speech."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from speechpipe.cascade.asr.acoustic import NetworkConfig
from speechpipe.cascade.asr.acoustic.lattice import Lexicon
from speechpipe.cascade.asr.acoustic.network import CtcNetwork
from speechpipe.cascade.asr.acoustic.weights import load, save
from speechpipe.cascade.evaluation.scores import Errors
from speechpipe.control.training.ctc.augment import Augmentation, AugmentOptions
from speechpipe.control.training.ctc.batches import Mixture
from speechpipe.control.training.ctc.checkpoint import Checkpoints
from speechpipe.control.training.ctc.training import Progress, Training, TrainOptions, word_error_counts
from speechpipe.control.training.examples import Example
from speechpipe.types import Samples

OnProgress = Callable[[Progress, int, int], None]
Stop = Callable[[], bool]

WEIGHTS, LEXICON = "model.safetensors", "words.txt"
CHECKPOINTS = "checkpoints"

FINE = TrainOptions(epochs=20, rate=5e-4, patience=20)
"""The options of an adaptation, with a low learning rate."""

TAUGHT = 0.5
"""The share of the adapted weights in the result, the rest being the old ones, so that the network does not forget
(Wortsman et al., "Robust fine-tuning of zero-shot models", 2022; docs/decisions/0013)."""


@dataclass(frozen=True)
class CtcOptions:
    """`words`: the lexicon; empty: anything that the alphabet can spell. `extra`: see `Mixture`."""

    train: TrainOptions = field(default_factory=TrainOptions)
    config: NetworkConfig = field(default_factory=NetworkConfig)
    words: Sequence[str] = ()
    extra: Sequence[Example] = ()
    extra_share: float = 0.5
    size: int = 48
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    noises: Sequence[Samples] = field(default=(), repr=False)
    rooms: Sequence[Samples] = field(default=(), repr=False)


@dataclass(frozen=True)
class Trained:
    """The result of a training."""

    folder: Path
    progress: Progress


def train(
    examples: Sequence[Example],
    validation: Sequence[Example],
    folder: Path,
    options: CtcOptions,
    on_progress: OnProgress = lambda *_: None,
    stop: Stop = lambda: False,
) -> Trained:
    """Train a network from scratch, or continue where an earlier call with the same folder stopped.

    Writes the weights, and the lexicon if there is one, when the training has finished. If it was stopped, there is a
    checkpoint only.

    Raises:
        TrainingFailed: the loss is not finite in too many steps.
        NoSpace: the disk is full.
        BadInput: a word cannot be spelled.
    """
    torch.manual_seed(options.train.seed)
    return _run(CtcNetwork(options.config), examples, validation, folder, options, on_progress, stop)


def teach(
    weights: Path,
    examples: Sequence[Example],
    validation: Sequence[Example],
    folder: Path,
    options: CtcOptions,
    on_progress: OnProgress = lambda *_: None,
    stop: Stop = lambda: False,
) -> Trained:
    """Adapt a trained network; as `train`, but the result interpolates between the old and the adapted weights."""
    network = load(weights)
    options = replace(options, config=network.config)
    return _run(network, examples, validation, folder, options, on_progress, stop, before=load(weights))


def _run(  # noqa: PLR0913, PLR0917 - the parameters of the two functions above
    network: CtcNetwork,
    examples: Sequence[Example],
    validation: Sequence[Example],
    folder: Path,
    options: CtcOptions,
    on_progress: OnProgress,
    stop: Stop,
    before: CtcNetwork | None = None,
) -> Trained:
    alphabet = network.config.alphabet
    lexicon = Lexicon(options.words, alphabet) if options.words else None
    augmentation = Augmentation(options.augment, options.noises, options.rooms, options.train.seed)
    mixture = Mixture(
        examples, augmentation, alphabet, options.size, extra=options.extra, extra_share=options.extra_share
    )
    training = Training(network, mixture, validation, options.train, Checkpoints(folder / CHECKPOINTS), lexicon)
    progress = training.run(on_progress, stop)
    if progress.stopped != "stopped":
        if before is not None:
            for now, was in zip(network.parameters(), before.parameters(), strict=True):
                now.data.lerp_(was.data, 1 - TAUGHT)
        save(network, folder / WEIGHTS)
        if options.words:
            (folder / LEXICON).write_text("".join(f"{word}\n" for word in sorted(set(options.words))))
    return Trained(folder, progress)


def errors_on(folder: Path, examples: Sequence[Example], options: CtcOptions) -> list[Errors]:
    """Return the word errors of the trained network in a folder, for each example."""
    lexicon = Lexicon(options.words, options.config.alphabet) if options.words else None
    return word_error_counts(load(folder / WEIGHTS), examples, lexicon)
