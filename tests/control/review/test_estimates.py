"""Word error rates from reviews that were not drawn alike."""

import numpy as np

from speechpipe.control.review.estimates import Reviewed, word_error_rate


def test_the_estimate_is_unbiased_where_a_plain_mean_is_not_and_its_interval_covers() -> None:
    random = np.random.default_rng(0)
    count = 4000
    confidence = random.beta(4, 2, count)
    words = random.integers(2, 15, count)
    edits = random.binomial(words, np.clip(0.9 - confidence, 0.02, 1))
    true = edits.sum() / words.sum()
    chance = np.where(confidence < 0.4, 0.5, 0.08)  # the doubtful ones are looked at more often
    assert chance.mean() < 0.2
    covered, values, plain = 0, [], []
    for _ in range(200):
        mine = np.flatnonzero(random.random(count) < chance)
        rate = word_error_rate([Reviewed(int(edits[i]), int(words[i]), float(chance[i])) for i in mine])
        assert rate.value is not None
        covered += rate.low <= true <= rate.high
        values.append(rate.value)
        plain.append(edits[mine].sum() / words[mine].sum())
    assert abs(float(np.mean(values)) - true) < 0.005
    assert float(np.mean(plain)) - true > 0.03
    assert covered >= 0.93 * 200


def test_little_is_said_of_little() -> None:
    assert word_error_rate([]).value is None
    one = word_error_rate([Reviewed(1, 4)])
    assert (one.value, one.low, one.high) == (0.25, 0.0, 1.0)
    assert word_error_rate([Reviewed(2, 0)]).value is None, "nothing was said"
    same = word_error_rate([Reviewed(1, 4, session="a"), Reviewed(0, 4, session="a")])
    assert (same.value, same.low, same.high) == (0.125, 0.0, 1.0), "one session is one, however many segments it has"
    two = word_error_rate([Reviewed(1, 4), Reviewed(0, 4)])
    assert two.value == 0.125
    assert two.high > 0.5
