"""Adaptation of a language model to reviewed texts.

A model of the reviewed texts alone has too few words. So the general model's probabilities are raised for the n-grams
in these texts. New words get a pronunciation. The acoustic model does not change.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from speechpipe.cascade.evaluation.scores import normalise
from speechpipe.control.training.lm import trie_file
from speechpipe.control.training.lm.ngrams import Logs, Trigrams, estimate, log_likelihood, raised, widened
from speechpipe.control.training.lm.pronounce import SPELLABLE, Dictionary, Phones
from speechpipe.errors import BadInput

FOLDS = 5
LEAST_TEXTS = 10
MOST_WEIGHT = 0.5
"""The largest weight of the domain. More did not help in the domain and made general speech worse."""

OnProgress = Callable[[str], None]


@dataclass(frozen=True)
class LmOptions:
    """`weight` of the domain's model, 0: by cross-validation; `pronunciations`: word -> phones, before all others."""

    weight: float = 0.0
    most_weight: float = MOST_WEIGHT
    pronunciations: Mapping[str, Phones] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Adapted:
    """The result of an adaptation, with perplexities per word on held-out texts."""

    weight: float
    texts: int
    words: int
    new_words: Mapping[str, Phones]
    perplexity_before: float
    perplexity_after: float
    refused: Mapping[str, int]


def adapt(
    texts: Sequence[str],
    lm: Path,
    dictionary: Path,
    folder: Path,
    options: LmOptions,
    on_progress: OnProgress = lambda _: None,
) -> Adapted:
    """Write `lm.bin` and `words.dict` into `folder`: the given model and dictionary, adapted to texts.

    Raises:
        BadInput: there are too few texts whose words can be pronounced.
        OSError: a file cannot be read or written.
    """
    on_progress("reading the general model")
    general, known = trie_file.read(lm), Dictionary(dictionary)
    usable, refused = _usable(texts, options.pronunciations)
    if len(usable) < LEAST_TEXTS:
        raise BadInput(f"at least {LEAST_TEXTS} texts are needed, {len(usable)} can be used; refused: {dict(refused)}")
    said = {word for text in usable for word in text.split()}
    unpronounced = sorted(word for word in said if word not in known)
    on_progress(f"pronouncing {len(unpronounced)} new words")
    phones = {word: options.pronunciations.get(word) or known.pronounced(word) for word in unpronounced}
    words = [*general.words, *sorted(said - general.index.keys())]
    index = {word: place for place, word in enumerate(words)}
    wide = widened(general, words)
    on_progress("finding the weight of the texts")
    weight, before, after = _weight(usable, wide, index, options)
    on_progress(f"mixing, {weight:.2f} of the reviewed texts")
    adapted = raised(wide, estimate(usable, index, words), weight)
    folder.mkdir(parents=True, exist_ok=True)
    trie_file.write(adapted, folder / "lm.bin")
    lines = dictionary.read_text(encoding="utf-8").rstrip("\n").split("\n")
    lines += [f"{word} {' '.join(phones[word])}" for word in unpronounced]
    (folder / "words.dict").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Adapted(weight, len(usable), sum(len(text.split()) for text in usable), phones, before, after, refused)


def _usable(texts: Sequence[str], pronunciations: Mapping[str, Phones]) -> tuple[list[str], Counter[str]]:
    usable: list[str] = []
    refused: Counter[str] = Counter()
    for text in texts:
        words = normalise(text).split()
        if not words:
            refused["no_text"] += 1
        elif not all(SPELLABLE.fullmatch(word) or word in pronunciations for word in words):
            refused["alphabet"] += 1
        else:
            usable.append(" ".join(words))
    return usable, refused


def _weight(
    texts: Sequence[str], general: Trigrams, index: Mapping[str, int], options: LmOptions
) -> tuple[float, float, float]:
    """Return the weight that makes held-out texts most probable, and the perplexity before and after.

    Expectation maximisation over held-out folds (Jelinek & Mercer, 1980).
    """
    order = np.random.default_rng(options.seed).permutation(len(texts))
    ours: list[Logs] = []
    theirs: list[Logs] = []
    for fold in range(FOLDS):
        held = [texts[place] for place in order[fold::FOLDS]]
        rest = [texts[place] for number in range(FOLDS) if number != fold for place in order[number::FOLDS]]
        ours.append(log_likelihood(estimate(rest, index, general.words), held)[0])
        theirs.append(log_likelihood(general, held)[0])
    domain, before = 10.0 ** np.concatenate(ours), 10.0 ** np.concatenate(theirs)
    weight = options.weight
    if not weight:
        weight = 0.5
        for _ in range(50):
            share = weight * domain / np.maximum(weight * domain + (1 - weight) * before, 1e-300)
            weight = float(share.mean())
        weight = min(max(weight, 0.05), options.most_weight)
    known = (before > 0) | (domain > 0)  # a word that neither model knows has no perplexity
    after = weight * domain + (1 - weight) * before
    return weight, _perplexity(before[known & (before > 0)]), _perplexity(after[known])


def _perplexity(chances: Logs) -> float:
    return float(np.exp(-np.log(np.maximum(chances, 1e-300)).mean())) if len(chances) else float("nan")
