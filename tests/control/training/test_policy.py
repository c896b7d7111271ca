"""When a retraining begins by itself: blame first, then everything else that may speak against it."""

from dataclasses import replace

import pytest

from speechpipe.control.training import Kind
from speechpipe.control.training.policy import Facts, Firing, Policy, decide, parse
from speechpipe.errors import BadInput

AUTO = Policy(mode="auto", least_reviews=40, cooldown_h=24.0, budget_h=8.0)
ASR = Firing("asr.confidence", "investigate", "consumer upload digits@1.0.0 champion", "asr", "confidence fell")
NOW = 1_000_000.0
READY = Facts(NOW, "digits@1.0.0", Kind.CTC, [ASR], reviews=60)


def test_with_everything_in_place_it_begins_and_says_why() -> None:
    found = decide(AUTO, READY)
    assert (found.begin, found.cause) == (Kind.CTC, "begin")
    assert "asr.confidence fires" in found.reason
    assert "confidence fell" in found.reason


def test_what_the_vad_is_blamed_for_fits_the_vad() -> None:
    found = decide(AUTO, replace(READY, alarms=[replace(ASR, blamed="vad")], recipe=None))
    assert found.begin is Kind.VAD


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        (replace(READY, alarms=[]), "no_alarm"),
        (replace(READY, alarms=[replace(ASR, blamed="input")]), "blamed_elsewhere"),
        (replace(READY, alarms=[replace(ASR, blamed="infra")]), "blamed_elsewhere"),
        (replace(READY, alarms=[replace(ASR, blamed="client")]), "blamed_elsewhere"),
        (replace(READY, alarms=[replace(ASR, blamed="none")]), "blamed_elsewhere"),
        (replace(READY, alarms=[replace(ASR, blamed="")]), "blamed_elsewhere"),
        (replace(READY, recipe=None), "no_recipe"),
        (replace(READY, busy="retraining 3"), "busy"),
        (replace(READY, rollout="rollout 2 of x@1"), "rollout_under_way"),
        (replace(READY, reviews=39), "too_few_reviews"),
        (replace(READY, last_at=NOW - 23 * 3600), "cooldown"),
        (replace(READY, spent_h=8.0), "budget"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_thing_that_speaks_against_it_is_named(facts: Facts, cause: str) -> None:
    found = decide(AUTO, facts)
    assert (found.begin, found.cause) == (None, cause)
    assert found.reason


def test_it_begins_again_when_the_cooldown_is_over() -> None:
    assert decide(AUTO, replace(READY, last_at=NOW - 25 * 3600)).begin is Kind.CTC


def test_by_hand_it_only_says_that_somebody_should() -> None:
    assert decide(replace(AUTO, mode="manual"), READY).cause == "manual"


def test_alarms_that_do_not_count_are_no_alarms() -> None:
    assert decide(replace(AUTO, severity="page"), READY).cause == "no_alarm"
    assert decide(replace(AUTO, metrics=("people.wer",)), READY).cause == "no_alarm"
    assert decide(replace(AUTO, metrics=("asr.confidence",)), READY).begin is Kind.CTC


def test_an_alarm_that_names_the_recognizer_counts_beside_one_that_does_not() -> None:
    assert decide(AUTO, replace(READY, alarms=[replace(ASR, blamed="input"), ASR])).begin is Kind.CTC


def test_a_policy_is_read_whole() -> None:
    found = parse('mode = "auto"\nmetrics = ["asr.confidence"]\nleast_reviews = 10\nbudget_h = 1\nplan = "p.toml"')
    assert found == Policy("auto", ("asr.confidence",), least_reviews=10, budget_h=1.0, plan="p.toml")
    assert parse("") == Policy()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("mode = 1", "mode"),
        ('mode = "sometimes"', "manual, auto"),
        ("least_reviews = -1", "least_reviews"),
        ("least_reviews = true", "least_reviews"),
        ("colour = 1", "colour"),
        ('metrics = "asr.confidence"', "metrics"),
        ('approval = "me"', "approval"),
        ("mode =", "TOML"),
    ],
)
def test_a_policy_that_means_nothing_names_its_key(text: str, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        parse(text)
