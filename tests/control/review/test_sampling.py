"""Who is asked: by degree, and with the chance that is written down."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from speechpipe.control.review import ReviewReason
from speechpipe.control.review.sampling import audit_chance, disagreeing, drawn, shown
from speechpipe.errors import InvalidParameter
from speechpipe.foundation.stats.calibration import Calibration, ConfidenceTable, Prior
from speechpipe.serving.automation import Degree
from speechpipe.serving.automation.policy import EffectivePolicy, Policy
from tests.control.review.tasks import piece

SURE, UNSURE = piece(0, "one", confidence=0.9), piece(2, "three", confidence=0.4)
NEVER, ALWAYS = (lambda: 0.999), (lambda: 0.0)


def terms(degree: Degree, threshold: float | None = None, **changes: float) -> EffectivePolicy:
    policy = Policy().changed({"degree": degree, **changes})
    return EffectivePolicy(policy, Calibration((0.0, 0.5), (0.2, 0.95)), threshold, followed=True)


def test_nobody_looks_where_nobody_has_asked_for_it() -> None:
    assert drawn([UNSURE], EffectivePolicy(), live=False, draw=ALWAYS).why is None


@pytest.mark.parametrize("degree", [Degree.HUMAN_ONLY, Degree.SHADOW, Degree.ASSIST])
def test_below_partial_everything_waits_for_a_person(degree: Degree) -> None:
    found = drawn([SURE, UNSURE], terms(degree), live=False, draw=NEVER)
    assert (found.why, found.waits) == (ReviewReason.DEGREE, True)
    assert all(one.needs and not one.accepted and one.chance == 1.0 for one in found.draft.pieces)
    assert found.draft.blind == (degree is not Degree.ASSIST)
    assert not drawn([SURE], terms(degree), live=True, draw=NEVER).waits


def test_assist_is_blind_now_and_then_so_that_the_draft_misleads_nobody_for_ever() -> None:
    assert drawn([SURE], terms(Degree.ASSIST), live=False, draw=ALWAYS).draft.blind


def test_partial_delivers_what_is_sure_and_asks_for_the_rest() -> None:
    sure = terms(Degree.PARTIAL, 0.8)
    assert drawn([SURE], sure, live=False, draw=NEVER).why is None
    found = drawn([SURE, UNSURE], sure, live=False, draw=NEVER)
    assert (found.why, found.waits) == (ReviewReason.UNSURE, True)
    assert [(one.accepted, one.needs, one.chance) for one in found.draft.pieces] == [
        (True, False, None),
        (False, True, 1.0),
    ]
    audit = drawn([SURE], sure, live=False, draw=ALWAYS)
    assert (audit.why, audit.waits, audit.draft.blind) == (ReviewReason.AUDIT, False, True)
    assert audit.draft.pieces[0].chance == audit.draft.whole == audit.draft.base == 0.02
    assert drawn([SURE], terms(Degree.PARTIAL, None), live=False, draw=NEVER).waits, "nothing is promised: nothing goes"
    nothing = piece(0, "", confidence=None)
    assert drawn([nothing], sure, live=False, draw=NEVER).waits, "no text is no sure text"


def test_full_draws_with_the_chance_that_it_says() -> None:
    policy = terms(Degree.FULL, audit_share=0.1, doubtful_share=0.3)
    dice = random.Random(0)
    counts: Counter[str] = Counter()
    for _ in range(4000):
        for name, pieces in (("sure", [SURE]), ("doubtful", [UNSURE])):
            found = drawn(pieces, policy, live=False, draw=dice.random)
            assert not found.waits
            if found.why is not None:
                counts[name] += 1
                assert found.draft.whole == pytest.approx(0.1 if name == "sure" else 0.37)
                assert found.draft.base == 0.1
                assert found.draft.blind == (found.why is ReviewReason.AUDIT)
    assert counts["sure"] / 4000 == pytest.approx(0.1, abs=0.02)
    assert counts["doubtful"] / 4000 == pytest.approx(0.37, abs=0.03)


def test_the_more_words_the_more_often_it_is_drawn_up_to_a_limit() -> None:
    policy = terms(Degree.FULL, audit_share=0.1).policy
    chances = [audit_chance([piece(0, "word " * count)], policy) for count in (0, 1, 4, 9, 10_000)]
    assert chances == pytest.approx([0.1, 0.1, 0.2, 0.3, 0.5])
    assert audit_chance([piece(0, "word " * 9)] * 9, terms(Degree.FULL, audit_share=0.9).policy) == 1.0


def test_bundles_that_disagree_are_looked_at_more_often() -> None:
    policy = terms(Degree.FULL, audit_share=0.1, disagreement_share=0.5)
    assert disagreeing([SURE], policy, NEVER).why is None
    found = disagreeing([SURE], policy, ALWAYS)
    assert found.why is ReviewReason.DISAGREEMENT
    assert found.draft.whole == pytest.approx(0.55)


def test_the_less_sure_comes_first_among_the_same() -> None:
    policy = terms(Degree.ASSIST)
    low, high = (drawn([one], policy, live=False, draw=NEVER).priority for one in (SURE, UNSURE))
    assert low < high
    assert drawn([SURE], terms(Degree.FULL), live=False, draw=ALWAYS).priority < low


def test_a_blind_task_shows_where_and_not_what() -> None:
    row = shown(drawn([UNSURE], terms(Degree.SHADOW), live=False).draft, 0.5)[0]
    assert (row["start"], row["text"], row["words"], row["confidence"]) == (2.0, "", [], None)
    open_ = shown(drawn([UNSURE], terms(Degree.ASSIST), live=False, draw=NEVER).draft, 0.9)[0]
    assert open_["text"] == "three"
    assert all(word["doubtful"] for word in open_["words"])


def test_what_a_result_says_of_itself() -> None:
    label = terms(Degree.PARTIAL, 0.8).label(0.9)
    assert label == {"degree": "partial", "author": "machine", "accepted": True, "calibrated_confidence": 0.95}
    assert EffectivePolicy().label(0.9)["calibrated_confidence"] is None


def test_a_table_says_what_confidences_mean_until_reviews_do_and_delivers_nothing() -> None:
    steps = Calibration((0.0, 0.5), (0.3, 0.8))
    table = ConfidenceTable(Prior(steps, (0.5, 0.5)), Prior(Calibration((0.0,), (0.6,)), (1.0,)))
    shipped = EffectivePolicy(Policy(Degree.PARTIAL), table=table, followed=True)
    assert shipped.label(0.99)["calibrated_confidence"] == 0.8
    assert not shipped.accepts(0.99)
    assert replace(shipped, calibration=Calibration((0.0,), (0.7,))).calibrated(0.99) == 0.7
    assert (shipped.calibrated_word(0.1), shipped.calibrated_word(None)) == (0.6, None)
    assert EffectivePolicy().calibrated_word(0.1) is None


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"degree": "alone"}, "degree"),
        ({"bound": 0.9}, "bound"),
        ({"audit_share": float("nan")}, "audit_share"),
        ({"audit_share": True}, "audit_share"),
        ({"demote": "yes"}, "demote"),
        ({"speed": 1}, "speed"),
    ],
)
def test_a_policy_that_means_nothing_is_refused(changes: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        Policy().changed(changes)
    assert refused.value.param == param
