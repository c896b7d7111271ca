"""What counts as right: the last verdict within the fault, alarms by when they fired, healthy traffic left alone."""

from dataclasses import replace

import pytest

from speechpipe.bench.live.score import (
    AlarmSeen,
    Felt,
    Stretch,
    VerdictSeen,
    felt,
    incidents,
    judged,
    summary,
)
from speechpipe.bench.live.show import text
from speechpipe.bench.live.table import LiveFault
from speechpipe.bench.live.traffic import Said

VAD = LiveFault("threshold", "vad", "severe", "vad", "vad_threshold", (0.9,))
TYPING = LiveFault("typing", "client", "severe", "people", "people_typing", (0.4,))
HARMLESS = LiveFault("longer", "none", "harmless", "traffic", "longer_sessions", (3.0,))
BEFORE = Felt(20, 0.05, 0.0, 0.2, 0.0)


def said(at: float, recordings: int = 2, **more: float) -> Said:
    return replace(Said(at, "upload", recordings, 0.1, recordings, without_text=False, wait_s=0.3), **more)  # type: ignore[arg-type]


def under(fault: LiveFault, second: LiveFault | None = None) -> Stretch:
    """Ten sessions of two utterances, one in ten seconds, between 1000 and 1110."""
    return Stretch(1000.0, 1110.0, [said(1000.0 + 10 * number) for number in range(1, 11)], fault, second)


def alarm(
    at: float, metric: str = "vad.segment_s", severity: str = "investigate", until: float | None = None
) -> AlarmSeen:
    return AlarmSeen(metric, metric.split(".", maxsplit=1)[0], severity, "consumer", "it fell", at, until)


def test_the_last_verdict_counts_and_delays_are_in_utterances() -> None:
    verdicts = [
        VerdictSeen(990.0, "g", "vad"),  # before the fault
        VerdictSeen(1030.0, "g", "asr", reason="too early"),
        VerdictSeen(1062.0, "g", "vad", also=("asr",)),
        VerdictSeen(1111.0, "g", "input"),  # after it
    ]
    alarms = [alarm(900.0, "asr.confidence"), alarm(1055.0), alarm(1041.0, "people.redo_rate", "page"), alarm(1200.0)]
    found = judged(under(VAD), BEFORE, alarms, verdicts)
    assert found.right
    assert found.verdict is not None
    assert found.verdict.label == "vad"
    assert found.labels == ("asr", "vad")
    assert found.right_after == 12
    assert (found.alarm, found.alarm_after) == ("people.redo_rate", 8)
    assert found.alarms == ("people.redo_rate", "vad.segment_s")
    assert found.pages == ("people.redo_rate",)
    assert found.open_before == ("asr.confidence",)
    assert found.also_named is None
    assert found.felt.utterances == 20


def test_without_a_verdict_a_fault_is_not_named() -> None:
    found = judged(under(VAD), BEFORE, [], [])
    assert not found.right
    assert found.right_after is None
    assert found.alarm == ""


def test_an_undecided_verdict_is_not_the_first_right_one() -> None:
    verdicts = [VerdictSeen(1020.0, "g", "none", decided=False), VerdictSeen(1080.0, "g", "asr")]
    assert not judged(under(VAD), BEFORE, [], verdicts).right


def test_a_group_in_which_nothing_was_found_does_not_contradict_another() -> None:
    verdicts = [VerdictSeen(1050.0, "upload", "vad"), VerdictSeen(1054.0, "listen", "none")]
    assert judged(under(VAD), BEFORE, [], verdicts).right
    taken_back = VerdictSeen(1080.0, "upload", "none")
    assert not judged(under(VAD), BEFORE, [], [*verdicts, taken_back]).right


def test_what_is_said_right_after_a_fault_is_not_said_of_healthy_traffic() -> None:
    healthy = [Stretch(500.0, 600.0, [said(510.0)])]
    late = summary([], healthy, [alarm(505.0, severity="page")], [VerdictSeen(510.0, "g", "vad")])
    assert (late["healthy"]["pages"], late["healthy"]["verdicts_that_name_a_stage"]) == ([], [])


@pytest.mark.parametrize(
    ("label", "severity", "right"),
    [("none", "investigate", True), ("input", "investigate", False), ("none", "page", False)],
)
def test_harmless_is_right_if_no_stage_is_named_and_nothing_pages(label: str, severity: str, right: bool) -> None:
    verdicts = [VerdictSeen(1050.0, "g", label), VerdictSeen(1090.0, "g", "none")]
    found = judged(under(HARMLESS), BEFORE, [alarm(1040.0, severity=severity)], verdicts)
    assert found.right is right


@pytest.mark.parametrize(
    ("label", "also", "perhaps", "right", "both", "unsure"),
    [
        ("vad", ("client",), (), True, True, True),
        ("client", ("vad",), (), True, True, True),
        ("vad", (), ("client",), True, False, True),
        ("vad", (), ("asr",), True, False, False),
        ("vad", (), (), True, False, False),
        ("asr", (), ("client",), False, False, False),
    ],
)
def test_of_two_faults_either_is_right_and_both_are_better(
    label: str, also: tuple[str, ...], perhaps: tuple[str, ...], right: bool, both: bool, unsure: bool
) -> None:
    found = judged(under(VAD, TYPING), BEFORE, [], [VerdictSeen(1050.0, "g", label, also, perhaps)])
    assert (found.right, found.also_named, found.unsure) == (right, both, unsure)


def test_incidents_are_those_of_the_server_and_count_for_the_fault_in_which_they_began() -> None:
    alarms = [
        replace(alarm(at), incident=name) for at, name in ((900.0, "a"), (1041.0, "a"), (1042.0, "b"), (1043.0, "b"))
    ]
    assert incidents([*alarms, alarm(1050.0)]) == 2
    assert incidents([]) == 0
    assert judged(under(VAD), BEFORE, alarms, []).incidents == 1


def test_what_clients_feel() -> None:
    found = felt(
        [said(1.0), replace(said(2.0, 1), wrong=None, error="503"), replace(said(3.0), without_text=True, wrong=1.0)]
    )
    assert (found.utterances, found.without_text) == (5, 0.5)
    assert found.failed == pytest.approx(1 / 3)
    assert found.wrong == pytest.approx(0.55)
    assert felt([]) == Felt(0, None, None, None, None)


def test_the_summary_and_the_text_say_what_was_found() -> None:
    outcomes = [
        judged(under(VAD), BEFORE, [alarm(1041.0)], [VerdictSeen(1062.0, "g", "vad", reason="VAD changed")]),
        judged(under(TYPING), BEFORE, [], [VerdictSeen(1062.0, "g", "asr", reason="wrongly so")]),
        judged(under(HARMLESS), BEFORE, [], []),
    ]
    healthy = [Stretch(500.0, 600.0, [said(510.0)])]
    alarms = [alarm(550.0, severity="page", until=560.0), alarm(1041.0)]
    found = summary(outcomes, healthy, alarms, [VerdictSeen(580.0, "g", "input", reason="for nothing")])
    severe = found["by_severity"]["severe"]
    assert (severe["faults"], severe["right"], severe["alarmed"]) == (2, 1, 1)
    assert severe["median_to_verdict"] is None
    assert found["by_severity"]["harmless"]["right"] == 1
    assert len(found["healthy"]["pages"]) == 1
    assert found["healthy"]["verdicts_that_name_a_stage"] == ["input: for nothing"]
    assert (found["alarms"], found["incidents"]) == (2, 0)
    shown = text(outcomes, found)
    assert "wrongly so" in shown
    assert [line.split()[-1] for line in shown.splitlines()[1:4]] == ["yes", "NO", "yes"]
