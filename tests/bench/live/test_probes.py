"""Probes of the benchmark on a running server are like its sessions."""

import json
from pathlib import Path

import numpy as np
import soundfile

from speechpipe.bench.live.probes import PAUSE_S, write_probes
from speechpipe.types import SAMPLE_RATE_HZ


def recordings(folder: Path, count: int, seconds: float) -> Path:
    rows = []
    for number in range(count):
        level = np.full(round(seconds * SAMPLE_RATE_HZ), 0.1 + number / 100, np.float32)
        soundfile.write(folder / f"{number}.flac", level, SAMPLE_RATE_HZ)
        rows.append(json.dumps({"audio": f"{number}.flac", "text": f"word{number}"}))
    manifest = folder / "manifest.jsonl"
    manifest.write_text("\n".join(rows))
    return manifest


def test_short_recordings_are_joined_with_a_pause(tmp_path: Path) -> None:
    written = write_probes(recordings(tmp_path, 5, 0.5), tmp_path / "probes")
    rows = [json.loads(line) for line in written.read_text().splitlines()]
    assert [row["text"] for row in rows] == ["word0 word1", "word2 word3", "word4"]
    samples, rate = soundfile.read(written.parent / rows[0]["audio"])
    assert rate == SAMPLE_RATE_HZ
    assert len(samples) == round((1.0 + PAUSE_S) * SAMPLE_RATE_HZ)
    assert not samples[SAMPLE_RATE_HZ // 2 : -SAMPLE_RATE_HZ // 2].any()


def test_long_recordings_are_probes_of_their_own(tmp_path: Path) -> None:
    written = write_probes(recordings(tmp_path, 2, 3.0), tmp_path / "probes")
    assert [json.loads(line)["text"] for line in written.read_text().splitlines()] == ["word0", "word1"]
