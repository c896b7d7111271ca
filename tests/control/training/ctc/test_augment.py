"""Other samples of the same words: seeded, finite, and changed in the way that was asked for."""

import numpy as np
import pytest
import torch

from speechpipe.control.training.ctc.augment import Augmentation, AugmentOptions, telephone, warped
from tests.sounds import sample

NOTHING = AugmentOptions(speed=0.0, gain=0.0, room=0.0, noise=0.0, codec=0.0, warp=0.0, masks=0.0)
SPEECH = sample("digits")[:24_000]


def only(**share: float) -> AugmentOptions:
    return AugmentOptions(**{**{name: getattr(NOTHING, name) for name in NOTHING.__slots__}, **share})


def test_the_same_seed_and_example_give_the_same_samples() -> None:
    first, second = Augmentation(seed=3), Augmentation(seed=3)
    for key in ((0, 1), (0, 2), (5, 1)):
        assert np.array_equal(first.samples(SPEECH, *key), second.samples(SPEECH, *key))
    assert not np.array_equal(first.samples(SPEECH, 0, 1), first.samples(SPEECH, 0, 2))
    assert not np.array_equal(first.samples(SPEECH, 0, 1), Augmentation(seed=4).samples(SPEECH, 0, 1))


def test_nothing_asked_for_changes_nothing() -> None:
    assert np.array_equal(Augmentation(NOTHING).samples(SPEECH, 1), SPEECH)


@pytest.mark.parametrize("change", ["speed", "gain", "room", "noise", "codec"])
def test_each_change_is_made_alone_and_stays_finite(change: str) -> None:
    one = Augmentation(only(**{change: 1.0}))
    results = [one.samples(SPEECH, number) for number in range(8)]
    assert any(len(found) != len(SPEECH) or not np.allclose(found, SPEECH, atol=1e-4) for found in results)
    for found in results:
        assert np.isfinite(found).all()
        assert found.dtype == np.float32
        assert change == "speed" or len(found) == len(SPEECH)


def test_speed_stays_within_its_range() -> None:
    one = Augmentation(only(speed=1.0))
    lengths = [len(one.samples(SPEECH, number)) / len(SPEECH) for number in range(40)]
    assert 1 / 1.25 - 0.01 <= min(lengths) < 0.9
    assert 1.1 < max(lengths) <= 1 / 0.8 + 0.01


def test_noise_is_as_loud_as_it_is_said_to_be() -> None:
    noise = np.random.default_rng(0).normal(0, 1, 80_000).astype(np.float32)
    options = AugmentOptions(
        **{**{n: getattr(NOTHING, n) for n in NOTHING.__slots__}, "noise": 1.0, "snr_db": (10.0, 10.0)}
    )
    added = Augmentation(options, noises=[noise]).samples(SPEECH, 1) - SPEECH
    snr = 10 * np.log10(np.sum(SPEECH**2) / np.sum(added**2))
    assert snr == pytest.approx(10.0, abs=0.2)


def test_a_room_s_own_response_is_used() -> None:
    echo = np.zeros(4000, np.float32)
    echo[0], echo[3999] = 1.0, 0.5
    found = Augmentation(only(room=1.0), rooms=[echo]).samples(SPEECH, 1)
    expected = SPEECH.copy()
    expected[3999:] += 0.5 * SPEECH[: len(SPEECH) - 3999]
    scale = np.linalg.norm(SPEECH) / np.linalg.norm(expected)
    np.testing.assert_allclose(found, expected * scale, atol=1e-4)


def test_a_telephone_lets_nothing_above_four_kilohertz_through() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32))
    spectrum = np.abs(np.fft.rfft(telephone(noise).numpy())) ** 2
    assert spectrum[4200:].sum() < 0.02 * spectrum[:3600].sum()


def test_silence_stays_finite() -> None:
    found = Augmentation(AugmentOptions(1, (0.8, 1.2), 1, (-20, 10), 1)).samples(np.zeros(8000, np.float32), 1)
    assert np.isfinite(found).all()


def test_a_longer_vocal_tract_moves_what_is_high() -> None:
    features = torch.zeros(1, 1, 40)
    features[0, 0, 20] = 1.0
    shorter, longer = (int(warped(features, torch.tensor([factor])).argmax()) for factor in (0.85, 1.18))
    assert shorter > 20 > longer
    assert torch.equal(warped(features, torch.tensor([1.0])), features)


def test_masks_hide_frames_and_bands_of_what_is_there() -> None:
    features = torch.ones(4, 50, 40)
    changed = Augmentation(only(masks=1.0)).features(features.clone(), torch.tensor([50, 50, 30, 3]), 1)
    assert (changed == 0).any()
    assert bool((changed[2, 30:] == 1).all()), "nothing is masked behind the end"
    again = Augmentation(only(masks=1.0)).features(features.clone(), torch.tensor([50, 50, 30, 3]), 1)
    assert torch.equal(changed, again)
