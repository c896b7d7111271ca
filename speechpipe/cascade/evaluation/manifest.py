"""Manifests: JSON-lines files that list recordings with their texts, speakers and spans of speech."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechpipe.cascade.audio.source import AudioSource, ChannelChoice
from speechpipe.errors import BadInput, SpeechpipeError, reason_of
from speechpipe.foundation.text_files import MOST_LIST_BYTES, parse_json, read_text
from speechpipe.types import SAMPLE_RATE_HZ, Samples

MOST_CLIP_S = 15.0
MOST_TIME_S = 1e9
"""Largest time in a row; larger ones, infinity and NaN are mistakes."""

MOST_SHOWN = 40
"""Characters of a wrong value that a message shows."""


@dataclass(frozen=True)
class Clip:
    """One recording of a manifest; `samples` is (n,) at 16 kHz."""

    name: str
    samples: Samples
    text: str | None
    speaker: str

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ


def read_manifest(path: Path, most: int | None = None) -> list[Clip]:
    """Read JSON lines with `audio` (a path relative to the manifest) and optional `text`, `speaker` or `source`.

    Recordings are cut after `MOST_CLIP_S` seconds; the text of a cut recording is dropped. All lines are checked, but
    only the recordings of the first `most` are read.

    Raises:
        BadInput: a line is not such an object, its audio cannot be read, or there are no lines.
    """
    clips = []
    rows = [(place, checked(place, row)) for place, row in rows_of(path)]
    for place, row in rows[:most]:
        try:
            samples = _beginning(path.parent / row["audio"])
        except (OSError, ValueError, SpeechpipeError) as error:
            raise BadInput(f"{place}: {row['audio']}: {reason_of(error)}") from error
        kept = samples[: round(MOST_CLIP_S * SAMPLE_RATE_HZ)]
        text = row.get("text") if len(kept) == len(samples) else None
        clips.append(Clip(row["audio"], kept, text, str(row.get("speaker") or row.get("source") or "")))
    if not clips:
        raise BadInput(f"{path} lists no recordings")
    return clips


def _beginning(path: Path) -> Samples:
    """Return the samples of a file, or if it is longer than `MOST_CLIP_S`, at least one more than that."""
    blocks: list[Samples] = []
    with path.open("rb") as file:
        source = AudioSource(file, ChannelChoice())
        try:
            for (block,) in source.blocks():
                blocks.append(block)
                if sum(map(len, blocks)) > MOST_CLIP_S * SAMPLE_RATE_HZ:
                    break
        finally:
            source.close()
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def rows_of(path: Path, audio: Sequence[str] = ("audio",)) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place (file and line, for messages) and the object of each line; only its audio is checked.

    Args:
        path: the manifest.
        audio: the fields that may name the recording.

    Raises:
        BadInput: the file cannot be read, or a line is not a JSON object that names a recording.
    """
    # Not `splitlines`, which also splits at characters that a JSON string may hold.
    for number, line in enumerate(read_text(path, MOST_LIST_BYTES).split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = parse_json(line)
        except ValueError as error:
            raise BadInput(f"{place}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise BadInput(f"{place}: must be a JSON object with `{audio[-1]}`, not {_shown(row)}")
        name = next((name for name in audio if name in row), "")
        if not name:
            raise BadInput(f"{place}: not an object with {' or '.join(f'`{one}`' for one in reversed(audio))}")
        if not isinstance(row[name], str) or not row[name].strip() or "\0" in row[name]:
            raise BadInput(f"{place}: `{name}` must be the path of a recording, not {_shown(row[name])}")
        yield place, row


def checked(place: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose fields are what they should be.

    Raises:
        BadInput: a field is not; the message begins with `place` and names it.
    """
    if wrong := problem(row):
        raise BadInput(f"{place}: {wrong}")
    return row


def problem(row: Mapping[str, Any]) -> str:
    """Return what is wrong with the known fields of a row; empty if nothing is. Unknown fields may hold anything."""
    for name, (fits, expected) in FIELDS.items():
        value = row.get(name)
        if value is not None and not fits(value):
            return f"`{name}` must be {expected}, not {_shown(value)}"
    for span in row.get("speech") or ():
        if span[1] < span[0]:
            return f"a span of `speech` must end after its start, not {_shown(span)}"
    return ""


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_label(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_TIME_S


def _is_spans(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(span, list) and len(span) == 2 and all(map(_is_time, span)) for span in value
    )


FIELDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "text": (_is_text, "a string"),
    "speaker": (_is_label, "a string or a whole number"),
    "source": (_is_label, "a string or a whole number"),
    "duration": (_is_time, "a number of seconds of at least 0"),
    "offset": (_is_time, "a number of seconds of at least 0"),
    "speech": (_is_spans, "a list of spans [start, end] in seconds of at least 0"),
}
"""The known fields besides the recording: what fits, and what a message says is expected. All may be null."""


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
