"""Fitting what is decided on a VAD's scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechpipe.cascade.vad.segmenter import SegmenterOptions
from speechpipe.control.training.spans import read_marked
from speechpipe.control.training.vad_fit import PADDINGS_S, Marked, fit, measure
from speechpipe.errors import BadInput
from speechpipe.types import Samples

FRAME = 512


class Told:
    """A VAD that is told its scores: it hears speech at 0.4 and silence at 0.1, noisily."""

    frame_samples = FRAME

    def open(self) -> "Told":
        return self

    def probabilities(self, frames: Samples) -> Samples:
        random = np.random.default_rng(len(frames))
        loud = np.abs(frames).mean(axis=1) > 0.05
        found: Samples = np.clip(np.where(loud, 0.4, 0.1) + random.normal(0, 0.04, len(frames)), 0, 1).astype(
            np.float32
        )
        return found


def recording(seed: int) -> Marked:
    """Twelve seconds in which somebody speaks twice."""
    random = np.random.default_rng(seed)
    samples = random.normal(0, 0.001, 12 * 16_000).astype(np.float32)
    spans = [(1.0 + random.random(), 4.0), (6.0, 8.0 + random.random())]
    for start, end in spans:
        samples[round(start * 16_000) : round(end * 16_000)] += 0.2
    return Marked(samples, spans)


def test_a_threshold_that_hears_nothing_is_lowered() -> None:
    start = SegmenterOptions(threshold=0.7)  # nothing is speech
    recordings = [recording(seed) for seed in range(6)]
    assert measure(recordings, Told(), start).f1 == 0.0
    fitted = fit(recordings, Told(), start)
    assert fitted.better
    assert fitted.cross_validated.f1 > 0.95
    assert 0.15 <= fitted.options.threshold <= 0.4
    assert fitted.options.padding_s in PADDINGS_S
    assert measure([recording(99)], Told(), fitted.options).f1 > 0.95, "on one that it has not seen"


def test_what_is_best_already_stays_as_it_is() -> None:
    start = SegmenterOptions(threshold=0.25, negative_threshold=0.2)
    fitted = fit([recording(seed) for seed in range(4)], Told(), start)
    assert fitted.cross_validated.f1 >= 0.95
    assert fitted.cross_validated.f1 >= fitted.before.f1 - 0.02


def test_too_little_to_fit_to_is_said() -> None:
    with pytest.raises(BadInput, match="at least 2"):
        fit([recording(1)], Told(), SegmenterOptions())
    silent = Marked(np.zeros(32_000, np.float32), [])
    with pytest.raises(BadInput, match="both speech and silence"):
        fit([silent, silent], Told(), SegmenterOptions())


def test_spans_are_read_from_a_manifest(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(16_000, np.float32), 16_000)
    rows = [{"audio": "a.flac", "speech": [[0.5, 0.7], [0.1, 0.2]]}, {"audio": "a.flac", "text": "no spans"}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = read_marked([tmp_path / "m.jsonl"])
    assert found.spans == [(0.1, 0.2), (0.5, 0.7)]
    for audio, speech, named in (
        ("a.flac", [[1]], "bad.jsonl, line 1: `speech`"),
        ("gone.flac", [[0, 1]], "gone.flac"),
    ):
        (tmp_path / "bad.jsonl").write_text(json.dumps({"audio": audio, "speech": speech}))
        with pytest.raises(BadInput, match=named):
            read_marked([tmp_path / "bad.jsonl"])
