"""Manifests: JSON-lines files that list recordings with their texts and speakers."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechpipe.cascade.audio.source import AudioSource, ChannelChoice
from speechpipe.errors import BadInput
from speechpipe.foundation.text_files import MOST_LIST_BYTES, read_text
from speechpipe.types import SAMPLE_RATE_HZ, Samples

MOST_CLIP_S = 15.0


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


def read_manifest(path: Path) -> list[Clip]:
    """Read JSON lines with `audio` (a path relative to the manifest) and optional `text`, `speaker` or `source`.

    Recordings are cut after `MOST_CLIP_S` seconds; the text of a cut recording is dropped.

    Raises:
        BadInput: a line is not such an object, its audio cannot be read, or there are no lines.
    """
    clips = []
    for number, line in enumerate(read_text(path, MOST_LIST_BYTES).splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            where = path.parent / entry["audio"]
            with where.open("rb") as file:
                source = AudioSource(file, ChannelChoice())
                samples = np.concatenate([block for (block,) in source.blocks()])
                source.close()
        except (ValueError, KeyError, TypeError, OSError, BadInput) as error:
            raise BadInput(f"{path}, line {number}: {error}") from error
        speaker = str(entry.get("speaker") or entry.get("source") or "")
        kept = samples[: round(MOST_CLIP_S * SAMPLE_RATE_HZ)]
        text = entry.get("text") if len(kept) == len(samples) else None
        clips.append(Clip(str(entry["audio"]), kept, text, speaker))
    if not clips:
        raise BadInput(f"{path} lists no recordings")
    return clips
