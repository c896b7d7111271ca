"""Floats that are not scaled to one, audio that is too quiet to be heard."""

import numpy as np
import pytest

from speechpipe.cascade.audio.source import ChannelChoice
from speechpipe.types import Samples
from tests.cascade.audio.reading import read_whole
from tests.containers import Track, written
from tests.sounds import encoded, sample, tone

SPEECH = sample("sentence_slt")


@pytest.mark.parametrize("bits", [15, 23, 31])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_scaled_as_whole_numbers_are_divided(bits: int, subtype: str) -> None:
    scaled = encoded(SPEECH * np.float32(2.0**bits), subtype=subtype)
    read = read_whole(scaled)
    np.testing.assert_allclose(read.audio, SPEECH, atol=1e-4)
    assert f"+-{2**bits}" in read.warnings["rescaled"]
    assert "over_full_scale" not in read.warnings


def test_floats_of_another_container_too() -> None:
    read = read_whole(written("matroska", "pcm_f32le", Track(np.rint(SPEECH * 32_768)), rate=16_000))
    np.testing.assert_allclose(read.audio[: len(SPEECH)], SPEECH, atol=1e-3)
    assert "rescaled" in read.warnings


def test_whole_numbers_of_eight_bits() -> None:
    assert "+-128" in read_whole(encoded(np.rint(SPEECH * 128), subtype="FLOAT")).warnings["rescaled"]


def test_far_too_loud_floats_are_divided_and_peaks_are_clipped() -> None:
    loud = read_whole(encoded(SPEECH * 20, subtype="FLOAT"))
    assert "divided by 8" in loud.warnings["over_full_scale"]
    assert np.corrcoef(loud.audio, SPEECH)[0, 1] > 0.995
    peaks = SPEECH.copy()
    peaks[[1000, 2000]] = 1e30, -5.0
    clipped = read_whole(encoded(peaks, subtype="FLOAT"))
    assert clipped.warnings["over_full_scale"].startswith("2 samples")
    np.testing.assert_array_equal(clipped.audio[3000:], SPEECH[3000:])


def test_full_scale_itself_is_not_beyond() -> None:
    square = np.sign(tone(1.0)) + 0.0
    assert read_whole(encoded(square.astype(np.float32), subtype="FLOAT")).warnings == {}


def lowered(audio: Samples, decibels: float) -> bytes:
    return encoded(audio * 10 ** (-decibels / 20), subtype="PCM_24")


@pytest.mark.parametrize(("decibels", "quiet"), [(0, False), (30, False), (40, False), (50, True), (70, True)])
def test_what_is_too_quiet_is_said(decibels: float, quiet: bool) -> None:
    assert ("very_quiet" in read_whole(lowered(SPEECH, decibels)).warnings) is quiet


def test_a_click_does_not_make_it_loud_and_a_pause_not_quiet() -> None:
    clicked = SPEECH * 10 ** (-50 / 20)
    clicked[[5000, 30_000]] = 0.5
    assert "very_quiet" in read_whole(encoded(clicked, subtype="PCM_24")).warnings
    assert read_whole(encoded(np.concatenate([np.zeros(16_000 * 60, np.float32), SPEECH]))).warnings == {}
    assert "digital silence" in read_whole(encoded(0 * SPEECH)).warnings["very_quiet"]


def test_one_silent_channel_of_several_is_not_the_whole_recording() -> None:
    both = encoded(np.stack([0 * SPEECH, SPEECH], axis=1))
    assert read_whole(both, ChannelChoice(multichannel=True)).warnings == {}
    assert "very_quiet" in read_whole(both, ChannelChoice(channel=0)).warnings
