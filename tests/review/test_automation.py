"""Degrees of automation in a real database: changed by people and by alarms, with a history that stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import DatabaseError

from speechpipe.demotion import DemotionSink
from speechpipe.errors import InUse, InvalidParameter
from speechpipe.monitor.alarms import Alarm, Condition
from speechpipe.monitor.schema import automation_history
from speechpipe.monitor.store import Store
from speechpipe.review import Degree
from speechpipe.review.automation import DEMOTE_AGAIN_S, Automation, keep, kept, resolve
from tests.monitor.databases import DATABASES


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=DATABASES, ids=str)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with request.param.empty(tmp_path) as url:
        found = Store(url)
        yield found
        found.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def automation(store: Store, clock: Clock) -> Automation:
    return Automation(lambda: store.engine, clock)


def firing(metric: str = "asr.confidence", group: str = "consumer upload default@1 champion", **changes: str) -> Alarm:
    given = {"stage": metric.split(".", maxsplit=1)[0], "severity": "page", **changes}
    condition = Condition("drift", metric, given["stage"], given["severity"], group, "it fell")
    return Alarm("a1", condition, changes.get("state", "firing"), 0.0, 0.0, 0.0)


def test_a_tenants_own_policy_begins_as_that_of_everybody(automation: Automation) -> None:
    assert resolve(automation.policies(), "acme") is None
    automation.set("default", {"degree": "assist", "bound": 0.1}, "ann", "the pilot")
    automation.set("acme", {"degree": "partial"}, "bob", "they asked for it")
    found = automation.policies()
    acme, others = resolve(found, "acme"), resolve(found, "zeta")
    assert acme is not None
    assert others is not None
    assert (acme.degree, acme.bound) == (Degree.PARTIAL, 0.1)
    assert others.degree is Degree.ASSIST
    lines = automation.history()
    assert [(line.scope, line.actor, line.was, line.degree, line.reason) for line in lines] == [
        ("acme", "bob", "", "partial", "they asked for it"),
        ("default", "ann", "", "assist", "the pilot"),
    ]


def test_of_two_who_change_it_at_once_one_is_told(automation: Automation) -> None:
    first = automation.set("acme", {"degree": "assist"}, "ann", "")
    automation.set("acme", {"degree": "partial"}, "ann", "", revision=first.revision)
    with pytest.raises(InUse, match="changed meanwhile"):
        automation.set("acme", {"degree": "full"}, "bob", "", revision=first.revision)
    assert automation.policies()["acme"].policy.degree is Degree.PARTIAL
    for scope in ("", "x" * 200, "a\nb"):
        with pytest.raises(InvalidParameter):
            automation.set(scope, {"degree": "full"}, "bob", "")


def test_the_history_refuses_to_be_changed(automation: Automation, store: Store) -> None:
    automation.set("acme", {"degree": "assist"}, "ann", "")
    for act in (delete(automation_history), update(automation_history).values(actor="nobody")):
        with pytest.raises(DatabaseError), store.engine.begin() as connection:
            connection.execute(act)
    assert len(automation.history()) == 1


def test_an_alarm_takes_the_machine_down_by_one_degree_and_no_further_at_once(
    automation: Automation, clock: Clock
) -> None:
    automation.set("default", {"degree": "full"}, "ann", "")
    automation.set("acme", {"degree": "full"}, "ann", "")
    automation.set("calm", {"degree": "full", "demote": False}, "ann", "")
    sink = DemotionSink(automation, ["acme"])
    sink.send([firing(), firing("vad.trigger_rate")])
    degrees = {scope: found.policy.degree for scope, found in automation.policies().items()}
    assert degrees == {"default": Degree.PARTIAL, "acme": Degree.FULL, "calm": Degree.FULL}
    newest = automation.history()[0]
    assert (newest.actor, newest.action, newest.reason) == ("speechpipe", "demote", "asr.confidence: it fell")
    clock.now += DEMOTE_AGAIN_S / 2
    sink.send([firing()])
    assert automation.policies()["default"].policy.degree is Degree.PARTIAL, "the same degradation"
    clock.now += DEMOTE_AGAIN_S
    sink.send([firing()])
    assert automation.policies()["default"].policy.degree is Degree.ASSIST
    clock.now += 2 * DEMOTE_AGAIN_S
    sink.send([firing()])
    assert automation.policies()["default"].policy.degree is Degree.ASSIST, "there a person sees every word"


def test_an_enterprises_alarm_is_its_own(automation: Automation) -> None:
    for scope in ("default", "acme"):
        automation.set(scope, {"degree": "full"}, "ann", "")
    DemotionSink(automation, ["acme"]).send([firing(group="enterprise acme upload default@1 champion")])
    degrees = {scope: found.policy.degree for scope, found in automation.policies().items()}
    assert degrees == {"default": Degree.FULL, "acme": Degree.PARTIAL}


@pytest.mark.parametrize(
    "alarm",
    [
        firing("software.queue_s"),
        firing(severity="investigate"),
        firing(state="resolved"),
        firing(group="consumer upload new@1 canary"),
    ],
)
def test_what_makes_no_text_worse_demotes_nobody(automation: Automation, alarm: Alarm) -> None:
    automation.set("default", {"degree": "full"}, "ann", "")
    DemotionSink(automation, []).send([alarm])
    assert automation.policies()["default"].policy.degree is Degree.FULL


def test_without_the_store_nobody_becomes_more_automatic(automation: Automation, tmp_path: Path) -> None:
    path = tmp_path / "state" / "automation.json"
    assert kept(path) == {}
    automation.set("acme", {"degree": "human_only"}, "ann", "")
    keep(path, automation.policies())
    assert kept(path)["acme"].policy.degree is Degree.HUMAN_ONLY
    path.write_text("{broken")
    found = resolve(kept(path), "anybody")
    assert found is not None
    assert found.degree is Degree.ASSIST
