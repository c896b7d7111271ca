"""The probes of the benchmark on a running server: recordings as they come in its traffic, without variation.

A probe says nothing about what it does not exercise. So where sessions are several short recordings with pauses, probes
are, too: a single word has no pause at which a detector could end its segment.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from speechpipe.bench.live.voices import SHORT_S, Spoken
from speechpipe.cascade.evaluation.manifest import Clip, read_manifest
from speechpipe.types import SAMPLE_RATE_HZ

MOST_PROBES = 10
TOGETHER = 2
"""Short recordings in a probe."""

PAUSE_S = 1.0


def write_probes(manifest: Path, folder: Path) -> Path:
    """Write at most `MOST_PROBES` probes, of a manifest's first recordings, into a new folder; return their manifest.

    Raises:
        BadInput: the manifest or a recording cannot be read.
    """
    clips = read_manifest(manifest, MOST_PROBES * TOGETHER)
    short = float(np.mean([clip.duration_s for clip in clips])) < SHORT_S
    step = TOGETHER if short else 1
    folder.mkdir()
    rows = []
    for number, start in enumerate(range(0, len(clips), step)[:MOST_PROBES]):
        spoken = _spoken(clips[start : start + step])
        (folder / f"{number}.wav").write_bytes(spoken.wav)
        rows.append({"audio": f"{number}.wav", **({"text": spoken.text} if spoken.text is not None else {})})
    found = folder / "probes.jsonl"
    found.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return found


def _spoken(clips: Sequence[Clip]) -> Spoken:
    pause = np.zeros(round(PAUSE_S * SAMPLE_RATE_HZ), np.float32)
    parts = [part for clip in clips for part in (clip.samples, pause)]
    texts = [clip.text for clip in clips]
    text = None if None in texts else " ".join(str(one) for one in texts)
    return Spoken(np.concatenate(parts[:-1]), text, len(clips))
