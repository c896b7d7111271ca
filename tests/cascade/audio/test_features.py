"""Features and mix-down, against sounds of which everything is known."""

import numpy as np
import pytest
import soxr

from speechpipe.cascade.audio.features import FeatureAccumulator
from speechpipe.cascade.audio.mixdown import Mixdown
from speechpipe.types import AudioFeatures, Samples
from tests.sounds import sample, tone


def features(audio: Samples, block: int = 10_000) -> AudioFeatures:
    accumulator = FeatureAccumulator()
    for start in range(0, len(audio), block):
        accumulator.feed(audio[start : start + block])
    return accumulator.result()


def test_a_sine_has_the_level_of_a_sine() -> None:
    got = features(tone(2.0, 1000.0, 0.5))
    assert got.duration_s == 2.0
    assert got.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    assert got.level_dbfs == pytest.approx(-9.03, abs=0.01)
    assert got.clipped_share == 0
    assert got.zero_run_share == 0
    assert abs(got.dc_offset) < 1e-6
    assert got.bandwidth_hz == pytest.approx(1000, abs=70)
    assert got.high_band_share == pytest.approx(0, abs=1e-4)


def test_faults_show_where_they_are() -> None:
    speech = sample("sentence_slt")
    clean = features(speech)
    assert features(np.clip(speech * 10, -1, 1)).clipped_share > 0.05 > clean.clipped_share
    assert features(speech + 0.1).dc_offset == pytest.approx(clean.dc_offset + 0.1, abs=1e-3)
    assert features(speech * 0.1).level_dbfs == pytest.approx(clean.level_dbfs - 20, abs=0.1)
    silent_half = features(np.concatenate([speech, np.zeros_like(speech)]))
    assert silent_half.zero_run_share == pytest.approx(0.5 + clean.zero_run_share / 2, abs=0.02)
    narrow = soxr.resample(soxr.resample(speech, 16_000, 8000), 8000, 16_000)
    assert (features(narrow).high_band_share or 0) < 0.01 * (clean.high_band_share or 0)


@pytest.mark.parametrize("snr_db", [5, 10, 20, 30])
def test_the_snr_estimate_follows_the_noise(snr_db: int) -> None:
    speech = sample("long_pauses")
    voiced = speech[np.abs(speech) > 1e-4]
    noise = np.random.default_rng(0).normal(0, np.sqrt(np.mean(voiced**2)) * 10 ** (-snr_db / 20), len(speech))
    assert features((speech + noise).astype(np.float32)).snr_db == pytest.approx(snr_db, abs=5)


@pytest.mark.parametrize("noise", [0.0, 1e-3, 1e-2])
def test_pauses_of_half_a_second_part_stretches_of_sound(noise: float) -> None:
    sound, short, long = tone(1.0, 300.0, 0.3), np.zeros(6_400, np.float32), np.zeros(12_800, np.float32)
    hiss = np.random.default_rng(0)

    def stretches(*parts: Samples) -> int | None:
        audio = np.concatenate([long, *parts, long])
        return features((audio + hiss.normal(0, noise, len(audio))).astype(np.float32)).stretches

    assert stretches(sound) == 1
    assert stretches(sound, short, sound) == 1
    assert stretches(sound, long, sound, short, sound, long, sound) == 3


def test_silence_has_no_stretch_and_neither_level_nor_noise_changes_those_of_speech() -> None:
    assert features(np.zeros(32_000, np.float32)).stretches == 0
    assert features(np.zeros(3_200, np.float32)).stretches is None
    speech = sample("long_pauses")
    found = features(speech).stretches
    assert found is not None
    assert found > 1
    assert features(speech * 0.03).stretches == found
    hiss = np.random.default_rng(0).normal(0, 0.003, len(speech))
    assert features((speech + hiss).astype(np.float32)).stretches == found


def test_how_it_was_fed_does_not_matter() -> None:
    audio = sample("noise_5db")
    whole = features(audio, len(audio))
    for block in (1, 160, 513):
        part = features(audio[:20_000] if block == 1 else audio, block)
        if block > 1:
            for name in AudioFeatures.__dataclass_fields__:
                assert getattr(part, name) == pytest.approx(getattr(whole, name), rel=1e-4, abs=1e-6), name


def test_silence_and_nothing_have_no_snr_and_no_bandwidth() -> None:
    for audio in (np.zeros(16_000, np.float32), np.zeros(0, np.float32)):
        got = features(audio)
        assert got.level_dbfs == -100
        assert got.snr_db is None
        assert got.bandwidth_hz is None


def test_mixing_keeps_what_plain_averaging_would_lose() -> None:
    voice = sample("sentence_slt")
    mixdown = Mixdown()
    mixed = mixdown.feed(np.stack([voice, -voice], axis=1))
    np.testing.assert_allclose(np.abs(mixed), np.abs(voice), atol=1e-6)
    assert mixdown.cancelled > 0.8 * len(voice)
    assert mixdown.correlation == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("other", "correlation"),
    [(lambda voice: voice, 1.0), (np.zeros_like, None), (lambda voice: np.roll(voice, 4000) * 0.7, 0.0)],
    ids=["same", "silent", "unrelated"],
)
def test_ordinary_stereo_is_averaged(other, correlation) -> None:  # type: ignore[no-untyped-def]
    voice = sample("sentence_slt")
    pair = np.stack([voice, other(voice)], axis=1)
    mixdown = Mixdown()
    np.testing.assert_allclose(mixdown.feed(pair), pair.mean(axis=1), atol=1e-6)
    assert mixdown.cancelled == 0
    if correlation is None:
        assert mixdown.correlation is None
    else:
        assert mixdown.correlation == pytest.approx(correlation, abs=0.1)
