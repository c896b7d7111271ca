"""What the clients of the benchmark on a running server send."""

import io
from pathlib import Path

import numpy as np
import soundfile

from speechpipe.bench.live.table import LiveFault
from speechpipe.bench.live.voices import Manner, Voices
from speechpipe.cascade.evaluation.manifest import read_manifest
from speechpipe.types import SAMPLE_RATE_HZ
from tests.bench.live.test_probes import recordings

CUT = LiveFault("cut", "input", "medium", "audio", "truncated_upload", (0.5,))


def voices(folder: Path) -> Voices:
    return Voices(read_manifest(recordings(folder, 4, 3.0)), np.random.default_rng(0))


def test_a_file_is_what_is_said(tmp_path: Path) -> None:
    spoken = voices(tmp_path).session(Manner())
    samples, rate = soundfile.read(io.BytesIO(spoken.wav), dtype="float32")
    assert rate == SAMPLE_RATE_HZ
    assert np.allclose(samples, spoken.samples, atol=1e-3)


def test_an_upload_that_breaks_off_claims_its_whole_length(tmp_path: Path) -> None:
    whole = voices(tmp_path).session(Manner())
    cut = voices(tmp_path).session(Manner(audio=(CUT,)))
    assert len(cut.samples) == len(whole.samples) // 2
    assert cut.claimed == len(whole.samples)
    assert len(cut.wav) == 44 + 2 * len(cut.samples)
    assert cut.wav[:44] == whole.wav[:44], "the header was sent before it broke off"


def test_a_live_session_is_no_file_that_breaks_off(tmp_path: Path) -> None:
    whole = voices(tmp_path).session(Manner(), live=True)
    cut = voices(tmp_path).session(Manner(audio=(CUT,)), live=True)
    assert np.array_equal(cut.samples, whole.samples)
