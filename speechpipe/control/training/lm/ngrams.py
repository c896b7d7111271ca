"""Trigram models as sorted arrays: probabilities in log10, words as indices.

p(w | u, v) of an unseen trigram backs off to shorter histories (Katz, 1987), as in ARPA files.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Logs = npt.NDArray[np.float64]

NEVER = -99.0
"""log10 of the probability of a word that is never predicted: the beginning of a sentence."""

BEGIN, END = "<s>", "</s>"


@dataclass(frozen=True)
class Trigrams:
    """`words` by index. Unigrams: (V,) `prob` and `backoff`. Bigrams: `pairs` (n,) are v * V + w, ascending, with
    (n,) `pair_prob` and `pair_backoff`. Trigrams: `triples` (m,) are (u * V + v) * V + w, ascending, `triple_prob`.
    """

    words: Sequence[str]
    prob: Logs
    backoff: Logs
    pairs: Ids
    pair_prob: Logs
    pair_backoff: Logs
    triples: Ids
    triple_prob: Logs

    @property
    def size(self) -> int:
        """V, the number of words."""
        return len(self.words)

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Word -> index."""
        return {word: index for index, word in enumerate(self.words)}

    def p2(self, first: Ids, word: Ids) -> Logs:
        """Return log10 p(word | first), both (n,)."""
        place, found = _find(self.pairs, first * self.size + word)
        return np.where(found, self.pair_prob[place], self.backoff[first] + self.prob[word])

    def p3(self, first: Ids, second: Ids, word: Ids) -> Logs:
        """Return log10 p(word | first, second), all (n,)."""
        history = first * self.size + second
        place, found = _find(self.triples, history * self.size + word)
        pair, known = _find(self.pairs, history)
        shorter = np.where(known, self.pair_backoff[pair], 0.0) + self.p2(second, word)
        return np.where(found, self.triple_prob[place], shorter)


def _find(ascending: Ids, keys: Ids) -> tuple[Ids, npt.NDArray[np.bool_]]:
    """Return the position of each key (any, if it is missing), and whether it is there."""
    if not len(ascending):
        return np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
    place = np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)
    return place, ascending[place] == keys


@dataclass
class _Counts:
    one: Counter[int] = field(default_factory=Counter)
    two: Counter[tuple[int, int]] = field(default_factory=Counter)
    three: Counter[tuple[int, int, int]] = field(default_factory=Counter)


def estimate(texts: Iterable[str], index: Mapping[str, int], words: Sequence[str]) -> Trigrams:
    """Return a model of texts by Witten-Bell smoothing (Witten & Bell, 1991), over the words of `index`.

    It interpolates with shorter histories, so that any sequence of seen words is possible. Unseen words are not.
    """
    counts = _Counts()
    begin, end = index[BEGIN], index[END]
    for text in texts:
        ids = [begin, *(index[word] for word in text.split()), end]
        counts.one.update(ids[1:])
        counts.two.update(pairwise(ids))
        counts.three.update(zip(ids, ids[1:], ids[2:], strict=False))
    size = len(words)
    plain = np.zeros(size)
    for word, count in counts.one.items():
        plain[word] = count
    plain /= max(plain.sum(), 1)

    def grouped(grams: Mapping[Any, int]) -> dict[tuple[int, ...], tuple[int, int]]:
        found: dict[tuple[int, ...], tuple[int, int]] = {}
        for gram, count in grams.items():
            total, kinds = found.get(gram[:-1], (0, 0))
            found[gram[:-1]] = (total + count, kinds + 1)
        return found

    after1, after2 = grouped(counts.two), grouped(counts.three)
    two = {
        gram: (count + after1[gram[:1]][1] * plain[gram[1]]) / sum(after1[gram[:1]])
        for gram, count in counts.two.items()
    }
    three = {
        gram: (count + after2[gram[:2]][1] * two[gram[1], gram[2]]) / sum(after2[gram[:2]])
        for gram, count in counts.three.items()
    }
    backoff = np.zeros(size)
    for (word,), (total, kinds) in after1.items():
        backoff[word] = np.log10(kinds / (total + kinds))
    pairs = sorted(two)
    triples = sorted(three)
    with np.errstate(divide="ignore"):
        prob = np.log10(plain)
    return Trigrams(
        words,
        prob,
        backoff,
        np.array([v * size + w for v, w in pairs], np.int64),
        np.log10([two[gram] for gram in pairs]),
        np.array(
            [np.log10(after2[gram][1] / sum(after2[gram])) if gram in after2 else 0.0 for gram in pairs], np.float64
        ),
        np.array([(u * size + v) * size + w for u, v, w in triples], np.int64),
        np.log10([three[gram] for gram in triples]),
    )


def widened(model: Trigrams, words: Sequence[str]) -> Trigrams:
    """Return the model over more words; `words` begins with its own. New words have probability 0."""
    more = len(words) - model.size
    v, w = np.divmod(model.pairs, model.size)
    uv, x = np.divmod(model.triples, model.size)
    u, y = np.divmod(uv, model.size)
    size = len(words)
    return Trigrams(
        words,
        np.concatenate([model.prob, np.full(more, -np.inf)]),
        np.concatenate([model.backoff, np.zeros(more)]),
        v * size + w,
        model.pair_prob,
        model.pair_backoff,
        (u * size + y) * size + x,
        model.triple_prob,
    )


def raised(general: Trigrams, domain: Trigrams, weight: float) -> Trigrams:
    """Return the general model with the n-grams of a domain raised to the mixture of both, where that is higher.

    No probability is lowered: a plain mixture would take `weight` from every word that the domain does not know, which
    makes general speech worse (docs/decisions/0013). So the probabilities after a history may sum to more than one,
    which decoders accept. Both models must have the same words.
    """
    size = general.size

    def most(one: Logs, other: Logs) -> Logs:
        with np.errstate(divide="ignore"):
            mixed: Logs = np.log10((1 - weight) * 10.0**one + weight * 10.0**other)
        return np.maximum(np.maximum(one, mixed), NEVER)

    pairs = np.union1d(general.pairs, domain.pairs)
    v, w = np.divmod(pairs, size)
    triples = np.union1d(general.triples, domain.triples)
    uv, x = np.divmod(triples, size)
    u, y = np.divmod(uv, size)
    place, found = _find(general.pairs, pairs)
    return Trigrams(
        general.words,
        most(general.prob, domain.prob),
        general.backoff,
        pairs,
        most(general.p2(v, w), domain.p2(v, w)),
        np.where(found, general.pair_backoff[place], 0.0),  # new histories back off without a penalty
        triples,
        most(general.p3(u, y, x), domain.p3(u, y, x)),
    )


def log_likelihood(model: Trigrams, texts: Iterable[str]) -> tuple[Logs, int]:
    """Return log10 probabilities of all words and sentence ends of texts, and the number of unknown words."""
    u: list[int] = []
    v: list[int] = []
    w: list[int] = []
    first: list[tuple[int, int]] = []
    unknown = 0
    index = model.index
    for text in texts:
        words = text.split()
        known = [index[word] for word in words if word in index]
        unknown += len(words) - len(known)
        ids = [index[BEGIN], *known, index[END]]
        first.append((ids[0], ids[1]))
        for gram in zip(ids, ids[1:], ids[2:], strict=False):
            u.append(gram[0])
            v.append(gram[1])
            w.append(gram[2])
    starts = np.array(first, np.int64).reshape(-1, 2)
    ids3 = [np.array(column, np.int64) for column in (u, v, w)]
    return np.concatenate([model.p2(starts[:, 0], starts[:, 1]), model.p3(*ids3)]), unknown
