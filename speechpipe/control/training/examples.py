"""Training examples: the lines of manifests, validated one by one. Unusable lines are counted by cause."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from speechpipe.cascade.audio.source import AudioSource, ChannelChoice
from speechpipe.cascade.evaluation.manifest import problem, rows_of
from speechpipe.cascade.evaluation.scores import normalise
from speechpipe.errors import BadInput, SpeechpipeError, reason_of
from speechpipe.types import SAMPLE_RATE_HZ, Samples

LEAST_S, MOST_S = 0.05, 20.0
LEAST_EXAMPLES = 2
"""One for training and one for validation; callers may require more."""


@dataclass(frozen=True)
class Example:
    """A segment of speech: (n,) samples at 16 kHz, and its normalised text."""

    samples: Samples
    text: str
    speaker: str = ""
    name: str = ""

    @property
    def duration_s(self) -> float:
        """Its duration in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ


@dataclass
class Examples:
    """The examples of manifests. `refused`: lines by cause; `first`: a description of the first such line."""

    items: list[Example] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    licences: set[str] = field(default_factory=set)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def speakers(self) -> set[str]:
        """The speakers, where they are known."""
        return {item.speaker for item in self.items if item.speaker}

    def refuse(self, cause: str, message: str) -> None:
        """Count an unusable line."""
        self.refused[cause] += 1
        self.first.setdefault(cause, message)

    def said(self) -> str:
        """Return what was refused, in words; empty for nothing."""
        return "; ".join(f"{count} {cause} ({self.first[cause]})" for cause, count in sorted(self.refused.items()))

    def needed(self, least: int = LEAST_EXAMPLES) -> "Examples":
        """Return itself.

        Raises:
            BadInput: there are fewer than `least` usable examples; the message says why the others were refused.
        """
        if len(self.items) < least:
            others = f"; refused: {self.said()}" if self.refused else ""
            raise BadInput(f"at least {least} examples are needed, {len(self.items)} can be used{others}")
        return self


def read_examples(
    manifests: Sequence[Path], alphabet: str = "", *, most_s: float = MOST_S, held_out: Sequence[Path] = ()
) -> Examples:
    """Read manifests: `audio` and `text`, or NeMo's `audio_filepath`, `offset`, `duration` and `text`.

    With an alphabet, texts that it cannot spell are refused. Lines that are also in `held_out` are refused.

    Raises:
        BadInput: a manifest cannot be read, or a line is not a JSON object.
    """
    found = Examples()
    audio: dict[Path, Samples] = {}
    tested = {entry_id(entry, path) for path in held_out for _, entry in manifest_lines(path)}
    for path in manifests:
        for _, entry in manifest_lines(path):
            if entry_id(entry, path) in tested:
                found.refuse("held_out", f"{entry_id(entry, path)[0]} is in the test set")
                continue
            _take(found, entry, path, alphabet, most_s, audio)
    return found


def manifest_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place (file and line, for messages) and the object of each line of a manifest.

    Raises:
        BadInput: it cannot be read, or a line is not a JSON object that names audio.
    """
    return rows_of(path, ("audio_filepath", "audio"))


def entry_id(entry: Mapping[str, Any], path: Path) -> tuple[str, str]:
    """Return the file and offset that identify a line's audio."""
    where = path.parent / str(entry.get("audio_filepath", entry.get("audio")))
    return str(where.resolve()), str(entry.get("offset") or 0.0)


def _take(
    found: Examples, entry: Mapping[str, Any], path: Path, alphabet: str, most_s: float, audio: dict[Path, Samples]
) -> None:
    where = path.parent / str(entry.get("audio_filepath", entry.get("audio")))
    given = entry.get("text")
    text = normalise(given) if isinstance(given, str) else ""
    if not text:
        found.refuse("no_text", str(where))
        return
    if alphabet and (strange := set(text) - set(alphabet)):
        found.refuse("alphabet", f"{where}: {given!r} has {', '.join(map(repr, sorted(strange)))}")
        return
    if wrong := problem(entry):
        found.refuse("no_audio", f"{where}: {wrong}")
        return
    try:
        if where not in audio:
            audio.clear()  # segments of one file follow each other
            audio[where] = read_audio(where)
        samples = _cut(audio[where], entry)
    except (OSError, SpeechpipeError, TypeError, ValueError) as error:
        found.refuse("no_audio", f"{where}: {reason_of(error)}")
        return
    length_s = len(samples) / SAMPLE_RATE_HZ
    if not LEAST_S <= length_s <= most_s:
        found.refuse("too_short" if length_s < LEAST_S else "too_long", f"{where}: {length_s:.2f} s")
        return
    found.licences.add(str(entry.get("licence") or "not stated"))
    speaker = str(entry.get("speaker") or "")
    found.items.append(Example(samples, text, speaker, where.name))


def read_audio(path: Path) -> Samples:
    """Return the (n,) samples of a file, mixed down to mono, at 16 kHz.

    Raises:
        BadInput: it is not audio.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        source = AudioSource(file, ChannelChoice())
        try:
            blocks = [block for (block,) in source.blocks()]
        finally:
            source.close()
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _cut(samples: Samples, entry: Mapping[str, Any]) -> Samples:
    if "audio_filepath" not in entry:
        return samples
    start = round(float(entry.get("offset") or 0.0) * SAMPLE_RATE_HZ)
    length = entry.get("duration")
    end = len(samples) if length is None else start + round(float(length) * SAMPLE_RATE_HZ)
    return samples[start:end].copy()


def split(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Return (larger part, smaller part); the same for the same seed, with at least one example each."""
    order = np.random.default_rng([seed, 7]).permutation(len(examples))
    count = min(max(1, round(share * len(examples))), len(examples) - 1)
    smaller = set(order[:count].tolist())
    parts = [[item for index, item in enumerate(examples) if (index in smaller) is chosen] for chosen in (False, True)]
    return parts[0], parts[1]
