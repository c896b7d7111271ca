"""The log-mel features are those that the model was trained on."""

import numpy as np
import pytest

from speechpipe.cascade.asr.whisper.features import LogMel, window
from tests.sounds import sample


@pytest.mark.parametrize("bands", [80, 128])
@pytest.mark.parametrize("samples", [160, 399, 16_000, 16_077, 50_000])
def test_they_are_those_of_faster_whisper(bands: int, samples: int) -> None:
    from faster_whisper.feature_extractor import FeatureExtractor

    audio = sample("digits")[:samples]
    mel = LogMel(bands)(audio)
    mine = window([(0, mel)], bands, mel.shape[1])
    theirs = FeatureExtractor(feature_size=bands)(audio)[:, : mine.shape[1]]
    assert mel.shape == (bands, samples // 160)
    assert mine.dtype == np.float32
    np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_they_do_not_depend_on_the_blocks_in_which_they_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    from speechpipe.cascade.asr.whisper import features

    audio = sample("digits")[:40_000]
    at_once = LogMel()(audio)
    monkeypatch.setattr(features, "BLOCK_FRAMES", 7)
    # The last bit depends on the shapes that are multiplied.
    np.testing.assert_allclose(LogMel()(audio), at_once, rtol=0, atol=1e-5)


@pytest.mark.parametrize("samples", [0, 1, 159])
def test_audio_shorter_than_a_frame_has_none(samples: int) -> None:
    assert LogMel()(np.ones(samples, np.float32)).shape == (80, 0)


def test_a_window_is_silent_where_no_piece_is() -> None:
    """Silence is 80 dB below the loudest frame, whatever piece that is in."""
    loud, faint = np.full((80, 10), 0.0, np.float32), np.full((80, 10), -5.0, np.float32)
    made = window([(5, loud), (30, faint)], 80, 100)
    silence, speech = (0.0 - 8.0 + 4.0) / 4.0, 1.0
    assert np.all(made[:, 5:15] == speech)
    assert np.all(made[:, 30:40] == (-5.0 + 4.0) / 4.0)
    assert np.all(made[:, :5] == silence)
    assert np.all(made[:, 15:30] == silence)
    assert np.all(made[:, 40:] == silence)


def test_a_window_of_digital_silence_is_that_of_the_features() -> None:
    from faster_whisper.feature_extractor import FeatureExtractor

    audio = np.zeros(16_000, np.float32)
    made = window([(0, LogMel()(audio))], 80, 100)
    np.testing.assert_allclose(made, FeatureExtractor()(audio)[:, :100], atol=1e-6)
