"""Training batches: examples joined, augmented and prepared on a second thread."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from speechpipe.control.training.ctc.augment import Augmentation
from speechpipe.control.training.examples import Example
from speechpipe.types import SAMPLE_RATE_HZ, Samples

MOST_JOINED = 3
PAUSE_S, EDGE_S = 0.2, 0.35
"""The longest silence between joined examples, and at both ends, where VAD leaves similar edges."""

JOINED_S = 6.0
"""The longest joined example."""
SILENT_SHARE = 0.03
"""Share of the examples that are replaced by noise without words."""


@dataclass(frozen=True)
class Batch:
    """(batch, n) zero-padded samples with (batch,) lengths; the letters of all texts in a row with (batch,) counts."""

    samples: torch.Tensor
    lengths: torch.Tensor
    letters: torch.Tensor
    counts: torch.Tensor
    texts: tuple[str, ...]


def collate(items: Sequence[tuple[Samples, str]], alphabet: str) -> Batch:
    """Return one batch of (samples, text) pairs."""
    samples = torch.zeros(len(items), max(len(given) for given, _ in items))
    for row, (given, _) in zip(samples, items, strict=True):
        row[: len(given)] = torch.from_numpy(np.ascontiguousarray(given))
    texts = tuple(text for _, text in items)
    return Batch(
        samples,
        torch.tensor([len(given) for given, _ in items]),
        torch.tensor([alphabet.index(letter) + 1 for text in texts for letter in text], dtype=torch.long),
        torch.tensor([len(text) for text in texts], dtype=torch.long),
        texts,
    )


def plain(examples: Sequence[Example], alphabet: str, size: int) -> Iterator[Batch]:
    """Yield batches of unchanged examples in their order, with silence of `EDGE_S` at both ends."""
    edge = np.zeros(round(EDGE_S * SAMPLE_RATE_HZ), np.float32)
    for start in range(0, len(examples), size):
        part = examples[start : start + size]
        yield collate([(np.concatenate([edge, item.samples, edge]), item.text) for item in part], alphabet)


@dataclass(frozen=True)
class Mixture:
    """The training data of each epoch: the examples, some joined with others of the same speaker, all augmented.

    `extra` are further examples, such as synthetic voices or earlier data, of which each epoch samples `extra_share`.
    """

    examples: Sequence[Example]
    augmentation: Augmentation
    alphabet: str
    size: int = 48
    joined: float = 0.5
    extra: Sequence[Example] = ()
    extra_share: float = 0.5

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return -(-self._count // self.size)

    @property
    def _count(self) -> int:
        return len(self.examples) + round(self.extra_share * len(self.extra))

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, prepared one ahead. The same number gives the same batches."""
        draw = np.random.default_rng([self.augmentation.seed, number])
        extra = draw.permutation(len(self.extra))[: self._count - len(self.examples)]
        pool = [*self.examples, *(self.extra[index] for index in extra)]
        by_speaker: dict[str, list[Example]] = {}
        for item in pool:
            by_speaker.setdefault(item.speaker, []).append(item)
        made = [self._assembled(item, by_speaker[item.speaker], draw) for item in pool]
        order = sorted(range(len(made)), key=lambda index: len(made[index][0]))  # similar lengths need little padding
        groups = [order[start : start + self.size] for start in range(0, len(order), self.size)]
        shuffled = [groups[index] for index in draw.permutation(len(groups))]

        def make(group: list[int]) -> Batch:
            return collate(
                [(self.augmentation.samples(made[i][0], number, i), made[i][1]) for i in group], self.alphabet
            )

        with ThreadPoolExecutor(1) as executor:
            coming = executor.submit(make, shuffled[0])
            for group in [*shuffled[1:], None]:
                batch = coming.result()
                if group is not None:
                    coming = executor.submit(make, group)
                yield batch

    def _assembled(self, item: Example, peers: Sequence[Example], draw: np.random.Generator) -> tuple[Samples, str]:
        if draw.random() < SILENT_SHARE:  # noise without words, of any level
            level = 10 ** draw.uniform(-4.5, -1.0)
            return (draw.normal(0.0, level, len(item.samples) + SAMPLE_RATE_HZ // 4)).astype(np.float32), ""
        parts, texts, length_s = [self._pause(EDGE_S, draw), item.samples], [item.text], item.duration_s
        if draw.random() < self.joined:
            for _ in range(draw.integers(1, MOST_JOINED)):
                other = peers[int(draw.integers(len(peers)))]
                length_s += other.duration_s
                if length_s > JOINED_S:
                    break
                parts += [self._pause(PAUSE_S, draw), other.samples]
                texts.append(other.text)
        return np.concatenate([*parts, self._pause(EDGE_S, draw)]), " ".join(texts)

    def _pause(self, most_s: float, draw: np.random.Generator) -> Samples:
        return np.zeros(draw.integers(round(most_s * SAMPLE_RATE_HZ) + 1), np.float32)
