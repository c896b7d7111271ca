"""Incidents: which alarms have one cause, what operators are sent about them, and pages that a verdict must confirm."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.alarms import Alarm, Condition, Transition
from speechpipe.monitor.blame.repository import StoredVerdict
from speechpipe.monitor.concerned import Concerned, Tenant, concerned
from speechpipe.monitor.incidents import Incident, assigned, incidents, with_incidents
from speechpipe.monitor.sinks import WebhookSink
from speechpipe.monitor.spec import CascadeSpec
from speechpipe.monitor.watch import Watcher
from speechpipe.monitor.windows import Grouping
from tests.monitor.test_watch import OPTIONS, Sink, put, watched
from tests.records import SPEC, traffic


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    store.open()
    yield store
    store.close()


def alarm(name: str, firing_at: float, since: float | None = None, **changes: object) -> Alarm:
    condition = Condition("drift", name, "m", "investigate", "g", f"{name} rose", since=since)
    return replace(Alarm(name, condition, "firing", firing_at, firing_at), **changes)  # type: ignore[arg-type]


def in_turn(*alarms: Alarm) -> list[Alarm]:
    known: list[Alarm] = []
    for one in alarms:
        known.append(assigned(one, known))
    return known


def test_what_began_before_the_last_alarm_of_an_incident_belongs_to_it() -> None:
    known = in_turn(alarm("a", 100, since=90), alarm("b", 200, since=85), alarm("c", 300, since=190))
    assert len({one.incident for one in known}) == 1
    (incident,) = incidents(known)
    assert (incident.since, incident.firing_at, incident.resolved_at) == (85, 100, None)


def test_what_began_later_is_another_incident_though_the_one_before_is_open() -> None:
    known = in_turn(alarm("a", 100, since=90), alarm("b", 400, since=380), alarm("c", 410, since=85))
    assert [one.id for one in incidents(known)] == [known[1].incident, known[0].incident]
    assert known[2].incident == known[1].incident, "the newest that it fits to"
    assert in_turn(alarm("a", 100, since=90), replace(known[1], incident="", id="d"))[1].incident not in ("", "a")


def test_how_well_the_beginning_is_known_counts() -> None:
    late = alarm("b", 400, since=180)
    late = replace(late, condition=replace(late.condition, sooner_s=60.0))
    assert len({one.incident for one in in_turn(alarm("a", 100, since=90), late)}) == 1


def test_an_alarm_that_does_not_tell_since_when_belongs_to_an_open_incident_that_has_just_rung() -> None:
    first = alarm("a", 100, since=90)
    assert len({one.incident for one in in_turn(first, alarm("b", 390))}) == 1
    assert len({one.incident for one in in_turn(first, alarm("b", 900))}) == 2, "whatever it is, it is another one"
    over = replace(first, state="resolved", resolved_at=300.0)
    assert len({one.incident for one in in_turn(over, alarm("b", 390))}) == 2
    assert len({one.incident for one in in_turn(over, alarm("b", 900, since=95))}) == 1, "slow, but of the same cause"


def test_the_limit_of_a_metric_that_has_changed_belongs_to_its_incident_however_late() -> None:
    first = alarm("a", 100, since=90)
    limit = alarm("limit", 900)
    limit = replace(limit, condition=replace(first.condition, rule="limit", since=None))
    assert len({one.incident for one in in_turn(first, limit)}) == 1


def test_an_alarm_of_another_bundle_that_does_not_tell_since_when_is_another_incident() -> None:
    def of(group: str, name: str, firing_at: float, since: float | None = None) -> Alarm:
        one = alarm(name, firing_at, since)
        return replace(one, condition=replace(one.condition, group=group))

    first = of("consumer upload a@1 champion", "a", 100, since=90)
    assert len({one.incident for one in in_turn(first, of("consumer upload b@1 champion", "b", 120))}) == 2
    assert len({one.incident for one in in_turn(first, of("consumer listen a@1 champion", "b", 120))}) == 1
    assert len({one.incident for one in in_turn(first, of("server", "b", 120))}) == 1
    assert (
        len({one.incident for one in in_turn(of("server", "a", 100), of("consumer upload b@1 champion", "b", 120))})
        == 1
    )


def test_changes_of_the_service_and_missing_references_are_no_incidents() -> None:
    told = alarm("a", 100)
    told = replace(told, condition=replace(told.condition, rule="change"))
    assert assigned(told, []).incident == ""
    assert incidents([told]) == []


def test_an_incident_shows_its_page_and_the_verdict_that_names_a_stage() -> None:
    page = alarm("b", 110, since=90, blame="vad: it changed")
    page = replace(page, condition=replace(page.condition, severity="page"))
    known = in_turn(alarm("a", 100, since=90, blame="none: nothing"), page)
    (incident,) = incidents(known)
    assert (incident.severity, incident.first.id, incident.blame) == ("page", "b", "vad: it changed")


class Posts:
    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.refused = ""  # the incident of which no message is taken

    def post(self, url: str, body: bytes) -> None:
        if self.refused and self.refused.encode() in body:
            raise OSError("not now")
        self.bodies.append(body)


def test_the_webhook_is_sent_one_message_for_an_incident_and_one_that_fails_repeats_no_other(store: Store) -> None:
    posts = Posts()
    sink = WebhookSink("http://x", posts)  # type: ignore[arg-type]
    watcher = Watcher(SPEC, store, [sink], OPTIONS)
    known = in_turn(alarm("a", 100, since=90), alarm("b", 110, since=90), alarm("c", 900, since=880))
    known = [replace(one, condition=replace(one.condition, group=one.id)) for one in known]
    watcher.archive.save([Transition(one, "") for one in known], [sink.name], 900.0)
    posts.refused = known[2].incident
    with pytest.raises(OSError, match="not now"):
        watcher.tellers[0].tell(901.0)
    posts.refused = ""
    watcher.tellers[0].tell(950.0)
    assert len(posts.bodies) == 2
    for one in known:
        (body,) = [body for body in posts.bodies if f'"fingerprint": "{one.id}"'.encode() in body]
        assert f'"groupLabels": {{"incident": "{one.incident}"}}'.encode() in body
        assert f'"groupKey": "speechpipe:{one.incident}"'.encode() in body


def test_a_fault_of_two_figures_is_one_incident_and_the_next_fault_another(store: Store) -> None:
    sink = Sink()
    watcher = watched(store, sink)
    put(store, traffic(120, start=1000, first=1000, null_share=0.3, length_s=9.0, seed=2))
    watcher.tick(1120)
    first = {alarm.incident for alarm in sink.alarms}
    assert len(sink.alarms) >= 2
    assert len(first) == 1
    put(store, traffic(200, start=1120, first=2000, seed=3))
    for now in (1320, 1321 + 120):
        watcher.tick(now)
    assert {alarm.state for alarm in sink.alarms[-2:]} == {"resolved"}, "healthy traffic of minutes ends them"
    put(store, traffic(60, start=1500, first=3000, null_share=0.5, seed=4))
    watcher.tick(1560)
    assert sink.alarms[-1].state == "firing"
    assert sink.alarms[-1].incident not in first
    assert len(incidents(watcher.archive.alarms(0))) == 2


def test_how_many_sessions_an_incident_concerns_is_said_and_some_are_named(store: Store) -> None:
    watcher = watched(store, Sink())
    put(store, traffic(100, start=1000, first=1000, length_s=9.0, seed=2))
    watcher.tick(1100)
    (incident,) = incidents(watcher.archive.alarms(0))
    records = store.latest(2000, incident.since, 1100)
    found = concerned(SPEC, incident, records, Grouping())
    assert len(found.examples) == 5
    by_session = {record.session_id: record.measures["gate.length_s"] for record in records}
    assert min(float(by_session[name] or 0) for name in found.examples) > 6.0, "nearer to 9 s than to 3 s"
    assert found.of > 50
    assert found.sessions > 0.7 * found.of
    assert found.tenants == (), "there is one tenant only"


def test_whose_sessions_an_incident_concerns_is_said(store: Store) -> None:
    watcher = watched(store, Sink())
    changed = traffic(100, start=1000, first=1000, length_s=9.0, seed=2)
    usual = traffic(100, start=1000, first=2000, seed=3)
    mixed = [replace(record, tenant="ann") for record in changed] + [replace(record, tenant="bob") for record in usual]
    put(store, sorted(mixed, key=lambda record: record.at))
    watcher.tick(1100)
    incident = next(
        one for one in incidents(watcher.archive.alarms(0)) if one.first.condition.metric == "gate.length_s"
    )
    found = concerned(SPEC, incident, store.latest(2000, incident.since, 1100), Grouping())
    ann, bob = found.tenants
    assert (ann.name, bob.name) == ("ann", "bob")
    assert ann.sessions > 0.7 * ann.of
    assert bob.sessions < ann.sessions / 2
    assert (found.sessions, found.of) == (ann.sessions + bob.sessions, ann.of + bob.of)
    assert found.tenant == "ann"


def test_a_metric_that_turns_begins_an_incident_of_its_own() -> None:
    condition = Condition("drift", "m.x", "m", "page", "g", "x rose", 0.9, 0.5, since=80.0)
    old = Alarm("a", condition, "firing", 100.0, 100.0, incident="one")
    other = Alarm("b", replace(condition, metric="m.y"), "firing", 190.0, 190.0, incident="one")
    anew = Alarm("c", replace(condition, value=0.1, since=150.0, sooner_s=math.inf), "firing", 200.0, 200.0)
    changes = [Transition(replace(old, state="resolved", resolved_at=200.0), "firing"), Transition(anew, "")]
    resolved, fell = with_incidents(changes, [old, other])
    assert resolved.alarm.incident == "one"
    assert fell.alarm.incident not in ("", "one")
    (alone,) = with_incidents(changes[1:], [other])
    assert alone.alarm.incident == "one", "if it did not ring before, it belongs to the incident that is open"


@pytest.mark.parametrize(
    ("tenants", "named"),
    [
        ([("a", 9, 10), ("b", 1, 10)], "a"),
        ([("a", 9, 10), ("b", 9, 10)], ""),
        ([("a", 9, 90), ("b", 1, 10)], ""),  # the others have as many for their traffic
        ([("a", 9, 10), ("b", 0, 10)], "a"),
        ([("a", 4, 4), ("b", 0, 500)], ""),  # too few to say so
        ([], ""),
    ],
)
def test_a_tenant_is_named_if_the_others_are_well(tenants: list[tuple[str, int, int]], named: str) -> None:
    rows = tuple(Tenant(*row) for row in tenants)
    found = Concerned(sum(row.sessions for row in rows), sum(row.of for row in rows), rows)
    assert found.tenant == named


CONFIRMED = replace(
    SPEC, metrics=tuple(replace(one, confirm=True) if one.name == "gate.length_s" else one for one in SPEC.metrics)
)


@pytest.mark.parametrize("spec", [CONFIRMED, SPEC], ids=["confirmed", "short reference"])
@pytest.mark.parametrize(("verdicts", "severities"), [
    (["none", "none"], ["investigate"]),
    (["gate", "none"], ["page"]),
    (["none", "gate"], ["investigate", "page"]),
    (["undecided", "none"], ["page"]),
    (["none", "undecided"], ["investigate"]),
])  # fmt: skip
def test_what_harmless_changes_move_pages_once_a_verdict_names_a_stage(
    store: Store, verdicts: list[str], severities: list[str], spec: CascadeSpec
) -> None:
    """So does all drift from a reference that is shorter than a day."""
    sink = Sink()
    watcher = Watcher(spec, store, [sink], OPTIONS)
    put(store, traffic(1000))
    watcher.tick(1000)
    watcher.archive.approve(watcher.archive.references()[0].id, "ann", 1000)
    given = iter(verdicts)

    def stored(group: object, reference: object, since: float, now: float, *, repeat_s: float = 0.0) -> StoredVerdict:
        label = next(given)
        document = {"reason": "said", "decided": label != "undecided"}
        return StoredVerdict(now, group, label.replace("undecided", "none"), document)  # type: ignore[arg-type]

    watcher.blame.stored = stored  # type: ignore[method-assign]
    put(store, traffic(30, start=1000, first=1000, length_s=9.0, seed=2))
    watcher.tick(1030)
    put(store, traffic(30, start=1030, first=2000, length_s=9.0, seed=3))
    watcher.tick(1060)
    assert [alarm.condition.severity for alarm in sink.alarms if alarm.state == "firing"] == severities


def test_drift_from_a_whole_day_pages_whatever_the_verdict(store: Store) -> None:
    sink = Sink()
    watcher = Watcher(SPEC, store, [sink], OPTIONS)
    put(store, traffic(1000))
    watcher.tick(1000)
    (proposal,) = watcher.archive.references()
    day_long = watcher.archive.propose(replace(proposal, since=1000 - 86_400.0, until=1000.0))
    watcher.archive.approve(day_long, "ann", 1000)
    put(store, traffic(30, start=1000, first=1000, length_s=9.0, seed=2))
    watcher.tick(1030)
    assert {alarm.condition.severity for alarm in sink.alarms} == {"page"}


def test_a_page_is_told_once_though_it_is_raised_before_it_was_told_or_again(store: Store) -> None:
    watcher = watched(store, Sink())
    put(store, traffic(30, start=1000, first=1000, length_s=9.0, seed=2))
    watcher.tick(1030, tell=False)
    (alarm,) = [one for one in watcher.archive.alarms() if one.condition.metric == "gate.length_s"]
    for severity in ("investigate", "page"):
        watcher.archive.set_severity(alarm, severity, ["test"], 1031.0)
        alarm = replace(alarm, condition=replace(alarm.condition, severity=severity))
    watcher.tick(1040)
    sink = watcher.tellers[0].sink
    assert isinstance(sink, Sink)
    assert [one.id for one in sink.alarms] == [alarm.id], "raised before it was told"
    for severity in ("investigate", "page", "investigate", "page"):
        watcher.archive.set_severity(alarm, severity, ["test"], 1050.0)
        alarm = replace(alarm, condition=replace(alarm.condition, severity=severity))
    watcher.tick(1060)
    assert [one.id for one in sink.alarms] == [alarm.id] * 2, "raised after it was told: once"


def test_an_incident_has_ended_when_the_last_of_its_changes_was_seen_to_be_over() -> None:
    first = alarm("a", 100, since=90, gone_at=200.0)
    (incident,) = incidents(in_turn(first, alarm("b", 110, since=90)))
    assert incident.ended_at is None
    (incident,) = incidents(in_turn(first, alarm("b", 110, since=90, gone_at=260.0)))
    assert incident.ended_at == 260.0
    assert incident.resolved_at is None


def test_the_alarm_that_tells_whose_it_is_is_told_of_and_not_one_that_many_show_by_chance() -> None:
    group = "consumer upload b@1 champion"
    blurred = Condition("drift", "gate.length_s", "gate", "page", group, "longer", value=3.1, expected=3.0)
    clear = Condition("drift", "model.null_share", "model", "page", group, "nulls", value=1.0, expected=0.0)
    alarms = tuple(Alarm(one.metric, one, "firing", 90.0, 90.0, incident="i") for one in (blurred, clear))
    records = [
        *(replace(one, tenant="ann") for one in traffic(30, start=100, null_share=1.0)),
        *(replace(one, tenant="bob") for one in traffic(60, start=100, first=100, null_share=0.0, seed=1)),
    ]
    found = concerned(SPEC, Incident("i", alarms), records, Grouping())
    assert (found.sessions, found.of, found.tenant) == (30, 90, "ann")
    assert concerned(SPEC, Incident("i", alarms[:1]), records, Grouping()).tenant == ""
