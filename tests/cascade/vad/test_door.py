"""The contract of the VAD door, checked on every row of its table."""

import numpy as np
import pytest

from speechpipe.cascade.vad import VADS, Vad, load_vad
from speechpipe.errors import UnknownName
from speechpipe.types import Samples
from tests.sounds import sample


@pytest.fixture(params=sorted(VADS), scope="module")
def vad(request: pytest.FixtureRequest) -> Vad:
    return load_vad(request.param)


def frames_of(vad: Vad, audio: Samples) -> Samples:
    whole = len(audio) // vad.frame_samples * vad.frame_samples
    return audio[:whole].reshape(-1, vad.frame_samples)


def test_scores_are_probabilities_one_for_each_frame(vad: Vad) -> None:
    frames = frames_of(vad, sample("long_pauses"))
    scores = vad.open().probabilities(frames)
    assert scores.shape == (len(frames),)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_speech_scores_higher_than_pauses(vad: Vad) -> None:
    frames = frames_of(vad, sample("long_pauses"))
    scores = vad.open().probabilities(frames)
    times = np.arange(len(frames)) * vad.frame_samples / 16_000
    assert scores[(times > 2.5) & (times < 5.5)].mean() > 0.6
    assert scores[(times > 0.3) & (times < 1.8)].mean() < 0.1


@pytest.mark.parametrize("sizes", [[1], [7], [1, 100, 3], [512]], ids=str)
def test_how_frames_are_grouped_does_not_change_the_scores(vad: Vad, sizes: list[int]) -> None:
    frames = frames_of(vad, sample("two_speakers"))
    whole = vad.open().probabilities(frames)
    stream, at, parts = vad.open(), 0, []
    for turn in range(len(frames)):
        size = sizes[turn % len(sizes)]
        if at < len(frames):
            parts.append(stream.probabilities(frames[at : at + size]))
            at += size
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


def test_streams_share_no_state(vad: Vad) -> None:
    frames = frames_of(vad, sample("sentence_slt"))
    alone = vad.open().probabilities(frames)
    first, second = vad.open(), vad.open()
    got = []
    for frame in frames:
        got.append(first.probabilities(frame[None]))
        second.probabilities(np.random.default_rng(0).normal(0, 0.1, frame[None].shape).astype(np.float32))
    np.testing.assert_allclose(np.concatenate(got), alone, atol=1e-5)


def test_digital_silence_is_never_speech(vad: Vad) -> None:
    scores = vad.open().probabilities(np.zeros((100, vad.frame_samples), np.float32))
    assert scores.max() < 0.3


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="energy, silero, webrtc"):
        load_vad("cobra")
