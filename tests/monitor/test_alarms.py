"""The life of an alarm, and what its receivers are sent."""

from dataclasses import replace

import pytest

from speechpipe.monitor.alarms import RESOLVE_S, Alarm, Condition, step
from speechpipe.monitor.sinks import payload


def condition(for_s: float = 0.0, value: float = 1.0) -> Condition:
    return Condition("limit", "m.x", "m", "page", "g", "x is above its limit", value, 0.5, for_s)


class Book:
    """The open alarms, as a store would keep them."""

    def __init__(self) -> None:
        self.open: list[Alarm] = []

    def step(self, now: float, conditions: list[Condition]) -> list[Alarm]:
        found = step(self.open, now, conditions)
        ids = {transition.alarm.id for transition in found}
        self.open = [alarm for alarm in self.open if alarm.id not in ids]
        self.open += [transition.alarm for transition in found if transition.alarm.is_open]
        return [transition.alarm for transition in found if transition.was != transition.alarm.state]


def test_pending_then_firing_then_resolved() -> None:
    book = Book()
    (alarm,) = book.step(100, [condition(60)])
    assert alarm.state == "pending"
    assert book.step(130, [condition(60)]) == []
    (alarm,) = book.step(160, [condition(60)])
    assert (alarm.state, alarm.firing_at) == ("firing", 160)
    assert book.step(200, []) == []
    assert book.step(250, [condition()]) == [], "what flickers is one alarm"
    assert book.step(260, []) == []
    (alarm,) = book.step(260 + RESOLVE_S, [])
    assert (alarm.state, alarm.resolved_at) == ("resolved", 260 + RESOLVE_S)
    assert not book.open


def test_the_same_thing_said_often_is_one_alarm() -> None:
    book = Book()
    assert len(book.step(0, [condition(), condition(value=2.0)])) == 1
    assert book.step(1, [condition()] * 5) == []


def test_a_condition_that_does_not_last_never_fires_and_nobody_is_told() -> None:
    book = Book()
    book.step(0, [condition(60)])
    assert book.step(10, []) == []
    (transition,) = step(book.open, 50, [])
    assert (transition.alarm.state, transition.alarm.firing_at, transition.event) == ("resolved", None, "")


def test_a_clock_that_goes_backwards_changes_nothing_until_it_has_caught_up() -> None:
    book = Book()
    book.step(1000, [condition(60)])
    assert book.step(10, [condition(60)]) == []
    (alarm,) = book.step(1060, [condition(60)])
    assert alarm.state == "firing"


def drifted(value: float, since: float) -> Condition:
    return Condition("drift", "m.x", "m", "page", "g", "x changed", value, 0.5, since=since)


def test_a_metric_that_changes_the_other_way_later_rings_anew() -> None:
    book = Book()
    (rose,) = book.step(100, [drifted(0.9, 80)])
    assert book.step(180, []) == [], "it is well for a while"
    resolved, fell = book.step(200, [drifted(0.1, 150)])
    assert (resolved.id, resolved.state, resolved.resolved_at) == (rose.id, "resolved", 200)
    assert (fell.state, fell.firing_at, fell.condition.value) == ("firing", 200, 0.1)
    assert fell.id != rose.id
    assert book.open == [fell]


@pytest.mark.parametrize("now", [drifted(0.7, 150), drifted(0.45, 80), condition(value=0.1)])
@pytest.mark.parametrize("well", [False, True])
def test_a_metric_that_stays_changed_or_comes_back_does_not_ring_anew(now: Condition, well: bool) -> None:
    book = Book()
    book.step(100, [drifted(0.9, 80) if now.rule == "drift" else condition(value=0.9)])
    if well:
        assert book.step(180, []) == []
    assert book.step(200, [now]) == []


def test_the_few_values_while_an_alarm_fades_do_not_ring_anew() -> None:
    book = Book()
    book.step(100, [drifted(0.9, 80)])
    assert book.step(200, [drifted(0.45, 190)]) == []


def test_the_message_has_alertmanagers_shape() -> None:
    alarms = Book().step(0, [condition()])
    message = payload(alarms, "http://here")
    assert {"version", "groupKey", "status", "receiver", "groupLabels", "commonLabels", "commonAnnotations"} <= set(
        message
    )
    (alert,) = message["alerts"]
    assert alert["status"] == "firing"
    assert alert["labels"]["severity"] == "page"
    assert alert["startsAt"] == "1970-01-01T00:00:00Z"
    assert alert["fingerprint"] == alarms[0].id
    assert message["externalURL"] == "http://here"
    assert alert["generatorURL"] == "http://here/health"
    assert alert["annotations"]["runbook"] == "http://here/runbook#mx"


def drift(value: float, since: float) -> Condition:
    reason = f"x rose to {value}"
    return Condition("drift", "m.x", "m", "page", "g", reason, value, 0.5, since=since)


def test_an_alarm_that_goes_on_says_what_all_values_of_its_change_say_and_rings_once() -> None:
    (first,) = step([], 100.0, [drift(1.0, since=90.0)])
    assert first.event == "firing"
    assert step([first.alarm], 130.0, [drift(0.8, since=88.0)]) == []
    (again,) = step([first.alarm], 160.0, [drift(0.8, since=88.0)], renew=True)
    assert (again.event, again.was, again.alarm.id) == ("", "firing", first.alarm.id)
    assert (again.alarm.condition.reason, again.alarm.condition.since) == ("x rose to 0.8", 88.0)
    assert step([again.alarm], 220.0, [drift(0.8, since=88.0)], renew=True) == [], "nothing is new"


def test_an_alarm_does_not_tell_of_a_change_that_began_after_it_had_fired() -> None:
    (first,) = step([], 100.0, [drift(1.0, since=90.0)])
    assert step([first.alarm], 400.0, [drift(2.0, since=380.0)], renew=True) == []
    (over,) = step([first.alarm], 400.0, [])
    (goes_on,) = step([over.alarm], 410.0, [drift(2.0, since=380.0)])
    assert (goes_on.alarm.gone_at, goes_on.alarm.condition.since) == (None, 90.0)


def test_new_figures_leave_the_severity_that_a_verdict_has_set() -> None:
    (first,) = step([], 100.0, [drift(1.0, since=90.0)])
    calmed = replace(first.alarm, condition=replace(first.alarm.condition, severity="investigate"))
    (again,) = step([calmed], 160.0, [drift(0.8, since=88.0)], renew=True)
    assert again.alarm.condition.severity == "investigate"
