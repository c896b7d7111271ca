"""Blame on a cascade with known dependencies: who is named when what changes, and when nobody is."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from speechpipe.errors import InvalidParameter, UnknownName
from speechpipe.foundation.stats.shapley import cells, shapley
from speechpipe.foundation.storage.record import Measure, Record
from speechpipe.foundation.storage.store import Store
from speechpipe.interfaces.web.blame import picture
from speechpipe.interfaces.web.health import whole
from speechpipe.monitor.alarm_verdicts import AlarmVerdicts
from speechpipe.monitor.alarms import Alarm, Condition, Transition
from speechpipe.monitor.blame.documents import document
from speechpipe.monitor.blame.evidence import DEFAULTS, Thresholds
from speechpipe.monitor.blame.normal import ReferenceTooSmall, fit
from speechpipe.monitor.blame.onset import changes
from speechpipe.monitor.blame.operations import BlameOperations, ReferenceMismatch
from speechpipe.monitor.blame.probes import ProbeAnswer, ProbeHistory, ProbeResult, probe_history
from speechpipe.monitor.blame.repository import StoredVerdict
from speechpipe.monitor.blame.verdict import Verdict, blame, blame_together
from speechpipe.monitor.cases import Cases, joined
from speechpipe.monitor.profiles import Budget
from speechpipe.monitor.reference import Reference
from speechpipe.monitor.repository import Archive
from speechpipe.monitor.spec import CascadeSpec, Direction, Metric, MetricKind, Stage
from speechpipe.monitor.watch import Watcher, WatchOptions
from speechpipe.monitor.windows import Group, Window
from speechpipe.serving.health.documents import document as report_document
from speechpipe.serving.health.operations import HealthOperations
from tests.databases import place_tables


def of(name: str):  # type: ignore[no-untyped-def]
    return lambda record: record.measures.get(name)


SPEC = CascadeSpec(
    "toy",
    (
        Stage("source", "Source"),
        Stage("gate", "Gate", ("source",)),
        Stage("model", "Model", ("source", "gate")),
        Stage("people", "People", ("model",), blame="client"),
        Stage("machine", "Machine", served=False, blame="infra"),
    ),
    (
        Metric("source.level", "dB", "level", "", "session", of("source.level"), least=0.1),
        Metric("source.length", "s", "length", "", "session", of("source.length"), mix=True),
        Metric("gate.open", "", "opening", "", "session", of("gate.open"), key=True),
        Metric("gate.pause", "s", "pause", "", "session", of("gate.pause"), live=True),
        Metric("model.sure", "", "confidence", "", "unit", of("model.sure"), key=True),
        Metric(
            "model.null_share",
            "",
            "null",
            "",
            "unit",
            lambda r: float(r.outcome != "ok"),
            MetricKind.SHARE,
            Direction.UP,
        ),
        Metric(
            "people.redo",
            "",
            "redo",
            "",
            "unit",
            lambda r: 0.0 if r.kind == "unit" else 1.0,
            MetricKind.SHARE,
            late="feedback",
        ),
    ),
    joined=(
        Metric(
            "machine.lost", "", "lost", "", "case", lambda r: float(r.measures["case.units"] == 0), MetricKind.SHARE
        ),
    ),
)


def traffic(
    count: int,
    *,
    start: float = 0.0,
    seed: int = 0,
    level: float = 0.0,
    length: float = 0.0,
    gate: float = 0.0,
    pause: float = 0.0,
    model: float = 0.0,
    redo: float = 0.05,
    lost: float = 0.0,
    bundle: str = "b",
) -> list[Record]:
    """Sessions of one unit each; every keyword moves what its stage does by itself."""
    random = np.random.default_rng(seed)
    draw_pause = np.random.default_rng([seed, 1])
    found = []
    for number in range(count):
        said_length = random.normal(length, 1)
        said_level = random.normal(level, 1)
        opening = 0.8 * said_level + 0.3 * said_length + random.normal(gate, 0.4)
        sure = 0.6 * opening - 0.2 * said_level + random.normal(model, 0.4)
        measures: dict[str, Measure] = {
            "source.level": said_level,
            "source.length": said_length,
            "gate.open": opening,
            "gate.pause": draw_pause.normal(pause, 1),
        }
        common: dict[str, Any] = {
            "session_id": f"s{start}-{number}",
            "at": start + number,
            "channel": "c",
            "bundle": bundle,
        }
        found.append(Record("session", f"s{start}-{number}", bundle_version="1", measures=measures, **common))
        if random.random() >= lost:
            outcome = "empty" if random.random() < 0.03 else "ok"
            unit = Record(
                "unit",
                f"u{start}-{number}",
                bundle_version="1",
                outcome=outcome,
                measures={"model.sure": sure},
                **common,
            )
            found.append(unit)
            if random.random() < redo + 0.1 * (sure < -0.5):
                found.append(Record("feedback", f"f{start}-{number}", bundle_version="1", outcome="redo", **common))
    return found


NORMAL = fit(SPEC, joined(SPEC, traffic(500)))


def verdict(
    before: int = 300, after: int = 300, seed: int = 1, probes: tuple[ProbeResult, ...] = (), **change: Any
) -> Verdict:
    cases = joined(
        SPEC, [*traffic(before, start=1000, seed=seed), *traffic(after, start=1000 + before, seed=seed + 50, **change)]
    )
    return blame(NORMAL, cases, probes)


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"level": -6.0}, "source"),
        ({"gate": -1.0}, "gate"),
        ({"model": -1.0}, "model"),
        ({"redo": 0.4}, "client"),
        ({"redo": 0.0, "lost": 0.4}, "infra"),
        ({}, "none"),
        ({"length": 1.0}, "none"),
    ],
    ids=str,
)
def test_the_stage_whose_own_behaviour_changed_is_named(change: dict[str, Any], label: str) -> None:
    said = [verdict(seed=seed, **change).label for seed in range(1, 7)]
    assert said == [label] * 6


def test_a_verdict_says_why_since_when_and_what_would_refute_it() -> None:
    found = verdict(gate=-1.0)
    assert "does not explain" in found.reason
    assert any("opening fell" in line for line in found.path)
    assert any("confidence fell" in line for line in found.path), "what it did further down, though that is explained"
    assert found.since == pytest.approx(1300, abs=30)
    assert "pinned Gate" in found.refuted_if
    parts = {part.stage: part for part in found.contributions}
    assert abs(parts["gate"].value) > abs(parts["source"].value)
    assert parts["gate"].high < 0, "the interval does not hold 0"
    json.dumps(document(SPEC, found), allow_nan=False)


def test_contributions_add_up_to_the_change() -> None:
    found = verdict(before=0, model=-1.0)
    now = joined(SPEC, traffic(300, start=5000, seed=51, model=-1.0)).column("model.sure")
    change = np.nanmean(now) - np.nanmean(NORMAL.cases.column("model.sure"))
    assert sum(part.value for part in found.contributions) == pytest.approx(change, abs=0.02)


def test_probes_that_answer_as_ever_put_it_on_the_input() -> None:
    well = (ProbeResult("gate", 0, 100), ProbeResult("model", 0, 100))
    assert verdict(model=-1.0).label == "model"
    assert verdict(model=-1.0, probes=well).label == "source", "what is fed differs in a way that no metric sees"


def test_probes_do_not_acquit_a_stage_of_what_only_live_sessions_show() -> None:
    well = (ProbeResult("gate", 0, 40), ProbeResult("model", 0, 40))
    assert [verdict(seed=seed, probes=well, pause=2.0).label for seed in range(1, 5)] == ["gate"] * 4
    assert [verdict(seed=seed, probes=well, pause=2.0, gate=-1.0).label for seed in range(1, 5)] == ["source"] * 4


def test_probes_that_differ_name_their_stage_though_the_records_say_little() -> None:
    found = verdict(probes=(ProbeResult("gate", 0, 100), ProbeResult("model", 60, 100)))
    assert found.label == "model"
    assert "answers probes differently" in found.reason
    assert verdict(probes=(ProbeResult("gate", 1, 100), ProbeResult("model", 0, 100))).label == "none", (
        "one is an accident"
    )


def test_few_probes_convict_and_do_not_acquit() -> None:
    few = (ProbeResult("gate", 0, 8), ProbeResult("model", 0, 8))
    assert verdict(model=-1.0, probes=few).label == "model", "8 would all pass if one in ten failed, most often"
    assert verdict(probes=(ProbeResult("gate", 0, 8), ProbeResult("model", 3, 8))).label == "model"


def test_two_faults_at_once_are_both_named() -> None:
    found = verdict(level=-6.0, probes=(ProbeResult("gate", 0, 100), ProbeResult("model", 60, 100)))
    assert {found.label, *found.also} == {"source", "model"}


def test_less_certainty_is_asked_of_a_change_whose_alarm_fires() -> None:
    def named(redo: float, thresholds: Thresholds) -> int:
        found = []
        for seed in range(1, 13):
            healthy, changed = traffic(300, start=1000, seed=seed), traffic(100, start=1300, seed=seed + 50, redo=redo)
            found.append(blame(NORMAL, joined(SPEC, [*healthy, *changed]), (), thresholds, since=1300.0).label)
        assert set(found) <= {"client", "none"}
        return found.count("client")

    rang = replace(DEFAULTS, rang=frozenset({"people.redo"}))
    assert named(0.2, DEFAULTS) <= 3
    assert named(0.2, rang) >= 8
    assert named(0.05, rang) == 0


def test_too_little_data_says_how_much_more() -> None:
    found = verdict(before=0, after=12, gate=-3.0)
    assert (found.label, found.decided) == ("none", False)
    assert "18 more are needed" in found.reason
    with pytest.raises(ReferenceTooSmall, match="100 are needed"):
        fit(SPEC, joined(SPEC, traffic(99)))


def test_a_fifth_of_a_metric_missing_at_random_changes_nothing() -> None:
    random = np.random.default_rng(3)

    def holes(cases: Cases) -> Cases:
        values = cases.values.copy()
        values[random.random(values.shape) < 0.2] = np.nan
        return Cases(cases.names, cases.at, values)

    normal = fit(SPEC, holes(joined(SPEC, traffic(500))))
    changes: list[tuple[dict[str, Any], str]] = [({"gate": -1.2}, "gate"), ({"model": -1.2}, "model"), ({}, "none")]
    for change, label in changes:
        said = blame(normal, holes(joined(SPEC, traffic(300, start=5000, seed=9, **change)))).label
        assert said == label


@pytest.mark.parametrize("off", [-50, 50])
def test_an_onset_that_is_known_roughly_is_good_enough(off: int) -> None:
    cases = joined(SPEC, [*traffic(300, start=4700, seed=1), *traffic(300, start=5000, seed=2, gate=-1.0)])
    assert blame(NORMAL, cases, since=5000.0 + off).label == "gate"


def test_a_change_is_found_where_it_was_and_none_where_nothing_changed() -> None:
    cases = joined(SPEC, [*traffic(400, start=1000, seed=1), *traffic(200, start=5000, seed=2, model=-1.0)])
    assert changes(NORMAL, cases) == [pytest.approx(400, abs=10)]
    assert changes(NORMAL, joined(SPEC, traffic(600, start=1000, seed=1))) == []


def sequence(*parts: dict[str, Any], count: int = 120) -> Cases:
    """Traffic whose parts follow each other, each with its own change."""
    records = [
        record
        for number, change in enumerate(parts)
        for record in traffic(count, start=1000.0 + number * count, seed=20 + number, **change)
    ]
    return joined(SPEC, records)


@pytest.mark.parametrize(
    ("parts", "label"),
    [
        (({}, {"gate": -1.5}, {}, {"model": -1.5}), "model"),
        (({}, {"gate": -1.5}, {"model": -1.5}), "model"),
        (({}, {"model": -1.5}, {}, {"model": -1.5}, {}, {"level": -6.0}), "source"),
        (({}, {"level": -6.0}, {}, {"gate": -1.5}), "gate"),
    ],
    ids=str,
)
def test_of_faults_that_follow_each_other_the_last_is_named(parts: tuple[dict[str, Any], ...], label: str) -> None:
    found = blame(NORMAL, sequence(*parts))
    assert found.label == label
    assert found.since == pytest.approx(1000 + 120 * (len(parts) - 1), abs=15)
    assert found.cases == pytest.approx(120, abs=15)


def test_a_fault_that_has_ended_is_blamed_no_more() -> None:
    assert blame(NORMAL, sequence({}, {"gate": -1.5}, {})).label == "none"


def test_a_fault_that_grows_is_one_fault_since_it_began() -> None:
    found = blame(NORMAL, sequence({}, {"gate": -1.5}, {"gate": -2.5}, {"gate": -3.5}))
    assert found.label == "gate"
    assert found.since == pytest.approx(1120, abs=15)


def answered(at: float, gate: int = 0, model: int = 0) -> list[ProbeAnswer]:
    """A round of ten probes, of which so many are answered differently by a stage."""
    return [
        ProbeAnswer(at, f"p{number}", stage, number < failed)
        for stage, failed in (("gate", gate), ("model", model))
        for number in range(10)
    ]


def test_probes_from_before_the_change_neither_acquit_nor_convict() -> None:
    long_before = [answer for round_ in range(20) for answer in answered(1000.0 + round_)]
    broken = ProbeHistory((*long_before, *answered(1300.0, model=3), *answered(1310.0, model=3)))
    assert blame(NORMAL, sequence({}, {}, {"model": -1.5}), broken).label == "model", "3 of 10, though 6 of 220 in all"
    gate_before = [answer for round_ in range(20) for answer in answered(1000.0 + round_, gate=10)]
    repaired = ProbeHistory((*gate_before, *answered(1300.0, model=3), *answered(1310.0, model=3)))
    found = blame(NORMAL, sequence({"gate": -1.5}, {}, {"model": -1.5}), repaired)
    assert (found.label, found.also) == ("model", ())
    whole = ProbeHistory((*gate_before, *answered(1200.0), *answered(1300.0)))
    assert blame(NORMAL, sequence({}, {}), whole).label == "none", "the last two rounds are as ever"


PRESSED = CascadeSpec(
    "pressed",
    SPEC.stages,
    (
        *SPEC.metrics,
        Metric(
            "machine.memory",
            "MB",
            "memory",
            "",
            "session",
            of("machine.memory"),
            direction=Direction.UP,
            pressure=True,
        ),
        Metric(
            "machine.wait",
            "s",
            "wait",
            "",
            "session",
            of("machine.wait"),
            direction=Direction.UP,
            least=0.3,
            pressure=True,
            felt=True,
        ),
    ),
)


def pressed(start: float, seed: int, memory: float = 600.0, wait: float = 0.2, **change: Any) -> list[Record]:
    """Traffic with the machine's figures in the sessions."""
    random = np.random.default_rng(seed)
    found = []
    for record in traffic(200, start=start, seed=seed, **change):
        if record.kind == "session":
            machine = {"machine.memory": random.normal(memory, 5), "machine.wait": random.normal(wait, 0.05)}
            record = replace(record, measures={**record.measures, **machine})  # noqa: PLW2901
        found.append(record)
    return found


@pytest.mark.parametrize(
    ("change", "label", "also"),
    [
        ({"memory": 900.0}, "none", ()),
        ({"wait": 0.1}, "none", ()),
        ({"wait": 0.35}, "none", ()),
        ({"wait": 2.0}, "infra", ()),
        ({"wait": 2.0, "memory": 900.0}, "infra", ()),
        ({"memory": 900.0, "gate": -1.5}, "gate", ()),
        ({"wait": 2.0, "gate": -1.5}, "gate", ("infra",)),
        ({"wait": 2.0, "level": -6.0}, "source", ("infra",)),
    ],
    ids=str,
)
def test_the_machine_is_blamed_if_people_wait_and_never_for_a_text(
    change: dict[str, Any], label: str, also: tuple[str, ...]
) -> None:
    normal = fit(PRESSED, joined(PRESSED, [*pressed(0.0, 1), *pressed(200.0, 2)]))
    found = blame(normal, joined(PRESSED, [*pressed(1000.0, 3), *pressed(1200.0, 4, **change)]))
    assert (found.label, found.also) == (label, also)
    if change == {"memory": 900.0}:
        assert found.reason.startswith("nothing relevant has changed; the machine is under more pressure, too little")


def test_cases_come_back_as_they_were_kept() -> None:
    cases = joined(SPEC, traffic(50))
    again = Cases.load(cases.dump())
    assert again.names == cases.names
    np.testing.assert_allclose(again.values, cases.values, rtol=1e-6)
    assert len(cases.between(10, 20)) == 10


# ---- on a store ----


@pytest.fixture
def operations(tmp_path: Path) -> BlameOperations:
    store = Store(place_tables(tmp_path / "r.db"))
    store.open()
    for record in [*traffic(400), *traffic(300, start=5000, seed=2, gate=-1.0)]:
        store.append(record)
    store.flush()
    return BlameOperations(SPEC, store)


def reference(number: int = 1, bundle: str = "b@1") -> Reference:
    group = Group("consumer", "", "c", bundle, "champion")
    return Reference(number, group, 0.0, 400.0, 400.0, "pinned", Window(0, group, 0))


def test_the_cases_of_a_reference_outlive_its_records(operations: BlameOperations) -> None:
    pinned = reference()
    assert len(operations.pin(pinned) or ()) == 400
    operations.store.expire(1000.0)
    later = BlameOperations(operations.spec, operations.store)
    assert later.verdict(pinned.group, pinned, 4000.0, 6000.0).label == "gate"
    lost = later.verdict(pinned.group, reference(2), 4000.0, 6000.0)
    assert not lost.decided
    assert "approve another one" in lost.reason


def test_a_verdict_knows_which_alarms_of_its_group_fired_at_the_time(operations: BlameOperations) -> None:
    for record in [*traffic(300, start=9000, seed=2), *traffic(100, start=9300, seed=51, redo=0.2)]:
        operations.store.append(record)
    operations.store.flush()
    pinned = reference()
    operations.pin(pinned)

    def label(until: float = 9400.0) -> str:
        return operations.verdict(pinned.group, pinned, 9000.0, until, onset=9300.0).label

    assert label() == "none"
    condition = Condition("drift", "people.redo", "people", "page", pinned.group.label, "redo rose")
    of_others = replace(condition, group="consumer d b@1 champion")
    archive = Archive(lambda: operations.store.engine)
    archive.save([Transition(Alarm("other", of_others, "firing", 9340.0, 9350.0), "")])
    assert label() == "none"
    firing = Alarm("one", condition, "firing", 9340.0, 9350.0)
    archive.save([Transition(firing, "")])
    assert label() == "client"
    assert label(until=9345.0) == "none", "it had not fired yet"
    archive.save([Transition(replace(firing, state="resolved", resolved_at=9360.0), "firing")])
    assert label() == "none", "it has ended"


def test_a_reference_of_other_traffic_is_refused(operations: BlameOperations) -> None:
    with pytest.raises(ReferenceMismatch, match="consumer d b@1"):
        operations.verdict(Group("consumer", "", "d", "b@1", "champion"), reference(1), 4000.0, 6000.0)


def test_a_bundle_is_compared_with_the_one_before_and_the_verdict_says_so(operations: BlameOperations) -> None:
    for record in traffic(200, start=9000, seed=3, gate=-1.5, bundle="new"):
        operations.store.append(record)
    operations.store.flush()
    found = operations.verdict(Group("consumer", "", "c", "new@1", "champion"), reference(), 8000.0, 9500.0)
    assert found.label == "gate"
    assert found.reason.startswith("compared with b@1: Gate: ")


def test_probe_records_are_counted_by_stage() -> None:
    probe: dict[str, Any] = {"session_id": "p", "channel": "probe", "bundle": "b", "bundle_version": "1"}
    records = [
        Record(
            "probe",
            f"p{i}",
            at=float(i),
            measures={"gate.probe_differs": float(i < 3), "model.probe_differs": 0.0},
            **probe,
        )
        for i in range(10)
    ]
    records.append(Record("probe", "p99", at=0.0, outcome="timeout", measures={"gate.probe_differs": 0.0}, **probe))
    history = probe_history(SPEC, records)
    assert history.since(0.0) == (ProbeResult("gate", 3, 11), ProbeResult("model", 0, 10))
    assert history.since(2.0) == (ProbeResult("gate", 1, 8), ProbeResult("model", 0, 8))
    assert history.since(None) == (ProbeResult("gate", 0, 2), ProbeResult("model", 0, 2)), "the last two rounds"


# ---- Shapley ----


def test_shapley_values_of_an_additive_game_are_its_parts_and_add_up() -> None:
    random = np.random.default_rng(0)
    worth = {"input": 0.1, "vad": 0.3, "asr": 0.0}
    base = random.normal(0.2, 0.05, 50)
    found = {cell: base + sum(worth[player] for player in cell) for cell in cells(list(worth))}
    shares = {share.player: share for share in shapley(list(worth), found)}
    for player, value in worth.items():
        assert shares[player].value == pytest.approx(value)
    assert sum(share.value for share in shares.values()) == pytest.approx(0.4)


def test_shapley_splits_what_two_do_together() -> None:
    found = {cell: np.full(5, 1.0 if {"a", "b"} <= cell else 0.0) for cell in cells(["a", "b"])}
    assert [share.value for share in shapley(["a", "b"], found)] == [0.5, 0.5]


# ---- in the watcher and the report ----


def test_an_alarm_and_the_report_say_whom_blame_names(tmp_path: Path) -> None:
    store = Store(place_tables(tmp_path / "r.db"))
    store.open()
    told: list[Alarm] = []
    sink = SimpleNamespace(name="test", send=told.extend)
    watcher = Watcher(SPEC, store, [sink], WatchOptions(Budget(page=10.0, investigate=10.0)))

    def put(records: list[Record], now: float) -> None:
        for record in records:
            store.append(record)
        store.flush()
        watcher.tick(now)

    put(traffic(600), 600.0)
    (proposal,) = watcher.archive.references()
    watcher.archive.approve(proposal.id, "ann", 600.0)
    put(traffic(300, start=600, seed=1), 900.0)
    assert told == []
    put(traffic(300, start=900, seed=2, gate=-1.0), 1200.0)
    drifts = [alarm for alarm in told if alarm.condition.rule == "drift"]
    assert drifts
    assert all(alarm.blame.startswith("gate: ") for alarm in drifts)
    operations = HealthOperations(SPEC, store, clock=lambda: 1200.0)
    report = operations.report(1000)
    (found,) = report.facts.verdicts
    assert (found.label, found.document["stage"]) == ("gate", "gate")
    assert 'data-blame="gate"' in whole(report)
    (one,) = report_document(report)["incidents"]
    assert {alarm["incident"] for alarm in report_document(report)["alarms"] if alarm["rule"] == "drift"} == {one["id"]}
    assert (one["state"], one["blame"].split(":")[0], len(one["sessions"])) == ("firing", "gate", 5)
    assert f'data-incident="{one["id"]}"' in whole(report)
    (alarm,) = {alarm.blame for alarm in operations.report(1000).facts.alarms if alarm.blame}
    assert alarm.startswith("gate: ")
    worth = {row.metric: row for row in operations.value(1000)}
    assert sum(row.blamed for row in worth.values()) == sum(row.alarms for row in worth.values()) > 0
    assert [name for name, row in worth.items() if row.decisive] == ["gate.open"]  # the only metric of its stage
    put(traffic(300, start=1200, seed=3, bundle="other"), 1500.0)
    groups = dict(operations.verdicts(0.0, 1500.0))
    (other,) = [verdict for group, verdict in groups.items() if group.bundle == "other@1"]
    assert other.reason == "compared with b@1: nothing relevant has changed"
    asked = operations.verdicts(0.0, 1500.0, number=proposal.id)
    assert len(asked) == 2, "also of another bundle, where somebody asks for it"
    put([replace(record, channel="d") for record in traffic(300, start=1500, seed=4)], 1800.0)
    (unheard,) = [verdict for group, verdict in operations.verdicts(1500.0, 1800.0) if group.channel == "d"]
    assert not unheard.decided
    assert unheard.reason.startswith("not watched: ")
    with pytest.raises(InvalidParameter, match="the traffic is of"):
        operations.verdicts(1500.0, 1800.0, number=proposal.id)
    with pytest.raises(UnknownName, match="no reference 99"):
        operations.verdicts(0.0, 1500.0, number=99)


def test_the_verdict_on_an_alarm_follows_the_cases_and_outlives_the_fault(tmp_path: Path) -> None:
    store = Store(place_tables(tmp_path / "r.db"))
    store.open()
    watcher = Watcher(SPEC, store, [], WatchOptions(Budget(page=10.0, investigate=10.0)))

    def put(records: list[Record], now: float) -> set[str]:
        for record in records:
            store.append(record)
        store.flush()
        watcher.tick(now)
        return {alarm.blame.split(":")[0] for alarm in watcher.archive.alarms() if alarm.condition.rule == "drift"}

    put(traffic(600), 600.0)
    watcher.archive.approve(watcher.archive.references()[0].id, "ann", 600.0)
    fault = traffic(200, start=600, seed=2, gate=-2.0)
    early = put([record for record in fault if record.at < 610], 610.0)
    assert early <= {"none"}, "there are too few cases for a verdict"
    assert put([record for record in fault if record.at >= 610], 800.0) == {"gate"}
    assert put(traffic(150, start=800, seed=3), 950.0) <= {"gate"}, "it says what the alarm was about"


def test_verdicts_are_made_after_fifty_sessions_and_stored_when_they_say_something_else(tmp_path: Path) -> None:
    store = Store(place_tables(tmp_path / "r.db"))
    store.open()
    watcher = Watcher(SPEC, store, [], WatchOptions(Budget(page=0.001, investigate=0.001)))

    def put(records: list[Record], now: float) -> list[tuple[float, str]]:
        for record in records:
            store.append(record)
        store.flush()
        watcher.tick(now)
        return [(one.at, one.label) for one in watcher.blame.archive.history(0.0, now)]

    put(traffic(600), 600.0)
    watcher.archive.approve(watcher.archive.references()[0].id, "ann", 600.0)
    assert put(traffic(60, start=1000, seed=1), 1060.0) == [(1060.0, "none")]  # the first, which is due anyway
    assert put(traffic(60, start=1060, seed=2), 1120.0) == [(1060.0, "none")], "the same as before"
    assert put(traffic(60, start=1120, seed=3, gate=-2.0), 1180.0) == [(1060.0, "none"), (1180.0, "gate")]


def test_verdicts_take_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []
    passed = [0.0]

    def stored(group: Group, of: Reference, since: float, now: float, repeat_s: float) -> StoredVerdict:
        made.append(now)
        passed[0] += 2.0  # it takes two seconds
        return StoredVerdict(now, group, "none", {"decided": True, "reason": ""})

    monkeypatch.setattr("speechpipe.monitor.alarm_verdicts.time.perf_counter", lambda: passed[0])
    archive = SimpleNamespace(alarms=list)
    verdicts = AlarmVerdicts(SPEC, archive, SimpleNamespace(stored=stored), [])  # type: ignore[arg-type]
    verdicts.make(999.0, {}, [])  # the periodic ones
    pinned = {one.group: one for one in (reference(1, "b@1"), reference(2, "c@1"))}
    for now in range(1000, 1300, 5):
        verdicts.heard(dict.fromkeys(pinned, 60))
        verdicts.make(float(now), pinned, [])
    assert made == [1000.0, 1000.0, 1080.0, 1080.0, 1160.0, 1160.0, 1240.0, 1240.0]


def test_a_verdict_on_what_began_later_is_not_said_with_an_alarm_that_has_one(tmp_path: Path) -> None:
    store = Store(place_tables(tmp_path / "r.db"))
    store.open()
    watcher = Watcher(SPEC, store, [], WatchOptions(Budget(page=10.0, investigate=10.0)))

    def put(records: list[Record], now: float) -> dict[str, str]:
        for record in records:
            store.append(record)
        store.flush()
        watcher.tick(now)
        open_ = [alarm for alarm in watcher.archive.alarms() if alarm.condition.rule == "drift"]
        return {alarm.condition.metric: alarm.blame.split(":")[0] for alarm in open_}

    put(traffic(600), 600.0)
    watcher.archive.approve(watcher.archive.references()[0].id, "ann", 600.0)
    assert put(traffic(200, start=600, seed=2, gate=-2.0), 800.0)["gate.open"] == "gate"
    put(traffic(60, start=800, seed=4, gate=-2.0), 860.0)
    later = put(traffic(200, start=860, seed=3, gate=-2.0, level=-9.0), 1060.0)
    assert later["source.level"] == "source"
    assert later["gate.open"] == "gate", "it fired before the level fell"


def test_units_from_before_a_window_are_not_taken_for_lost(operations: BlameOperations) -> None:
    found = []
    for number in range(120):  # sessions of ten seconds whose units are written when they begin
        one = traffic(1, start=20_000.0 + number, seed=number)
        found += [replace(record, at=record.at + 10.0 * (record.kind == "session")) for record in one]
    for record in found:
        operations.store.append(replace(record, id=f"w-{record.id}", session_id=f"w-{record.session_id}"))
    operations.store.flush()
    pinned = reference()
    assert operations.verdict(pinned.group, pinned, 20_040.0, 20_080.0, onset=20_040.0).label == "none"


def test_what_people_say_of_sessions_without_a_unit_is_not_counted_for_the_next_units(tmp_path: Path) -> None:
    store = Store(place_tables(tmp_path / "r.db"))
    store.open()
    watcher = Watcher(SPEC, store, [], WatchOptions(Budget(page=0.01, investigate=0.01)))

    def put(records: list[Record], now: float) -> set[str]:
        for record in records:
            store.append(record)
        store.flush()
        watcher.tick(now)
        return {alarm.condition.metric for alarm in watcher.archive.alarms() if alarm.condition.rule == "drift"}

    put(traffic(600), 600.0)
    watcher.archive.approve(watcher.archive.references()[0].id, "ann", 600.0)
    silent = [record for record in traffic(60, start=600, seed=1) if record.kind == "session"]
    redone = [replace(record, kind="feedback", id=f"f-{record.id}", outcome="redo", measures={}) for record in silent]
    assert "people.redo" not in put([*silent, *redone, *traffic(60, start=660, seed=2)], 720.0)
    assert "people.redo" in put(traffic(60, start=720, seed=3, redo=0.9), 780.0), "that of sessions with units is"


def test_sessions_without_a_unit_get_a_verdict(tmp_path: Path) -> None:
    store = Store(place_tables(tmp_path / "r.db"))
    store.open()
    watcher = Watcher(SPEC, store, [], WatchOptions(Budget(page=10.0, investigate=10.0)))
    for record in traffic(600):
        store.append(record)
    store.flush()
    watcher.tick(600.0)
    watcher.archive.approve(watcher.archive.references()[0].id, "ann", 600.0)
    for record in traffic(200, start=600, seed=2, gate=-3.0):
        if record.kind == "session":
            store.append(record)
    store.flush()
    watcher.tick(1000.0)
    (found,) = watcher.blame.archive.verdicts(0.0, 2000.0)
    assert found.label == "infra", "none of their units reached the store"


def test_the_picture_shows_the_path_and_needs_nothing_else() -> None:
    found = picture(SPEC, verdict(gate=-1.0), "consumer c b@1")
    root = ElementTree.fromstring(found)
    boxes = [node.get("class", "") for node in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert sum("blamed" in kind for kind in boxes) == 1
    assert "http" not in found.replace("http://www.w3.org/2000/svg", "")


# ---- several groups of traffic ----


def test_what_is_too_little_in_each_group_is_named_in_all_of_them() -> None:
    alone, named = [], []
    for seed in range(1, 9):
        parts = []
        for group in range(4):
            few = traffic(14, start=1300, seed=100 * seed + group, gate=-0.7)
            parts.append((NORMAL, joined(SPEC, [*traffic(60, start=1200, seed=seed + 50 + group), *few])))
        alone += [blame(*part, since=1300.0).label for part in parts]
        named.append(blame_together(parts, since=1300.0).label)
    assert set(alone) == {"none"}, "14 cases are too few for a verdict"
    assert named.count("gate") >= 7


def test_groups_that_are_well_are_well_together() -> None:
    for seed in range(1, 9):
        parts = [(NORMAL, joined(SPEC, traffic(60, start=1200, seed=10 * seed + group))) for group in range(4)]
        assert blame_together(parts).label == "none"


def test_the_verdict_on_all_traffic_is_told_where_that_on_a_group_names_no_stage(tmp_path: Path) -> None:
    store = Store(place_tables(tmp_path / "r.db"))
    store.open()
    watcher = Watcher(SPEC, store, [], WatchOptions(Budget(page=10.0, investigate=10.0)))

    def put(now: float, **change: Any) -> None:
        count, start = change.pop("count"), change.pop("start")
        for number, channel in enumerate("cdef"):
            for record in traffic(count, start=start, seed=number + int(start), **change):
                told = replace(record, id=f"{channel}{record.id}", session_id=f"{channel}{record.session_id}")
                store.append(replace(told, channel=channel))
        store.flush()
        watcher.tick(now)

    put(600.0, count=600, start=0.0)
    for one in watcher.archive.references():
        watcher.archive.approve(one.id, "ann", 600.0)
    put(700.0, count=100, start=600.0)
    put(720.0, count=20, start=700.0, gate=-1.5)
    watcher.tick(1100.0)
    put(1101.0, count=5, start=1100.0, gate=-1.5)
    found = {verdict.group.label: verdict for verdict in watcher.blame.archive.verdicts(0.0, 2000.0)}
    assert found["b@1 champion"].label == "gate"
    said = {alarm.blame for alarm in watcher.archive.alarms() if alarm.condition.rule == "drift"}
    assert said
    assert all(text.startswith("gate: ") for text in said)


@pytest.mark.parametrize(("level", "label"), [(30.0, "source"), (3.5, "none")], ids=["far", "near"])
def test_a_quarter_of_values_far_outside_the_reference_counts_and_a_little_outside_not(
    level: float, label: str
) -> None:
    for seed in range(1, 7):
        records = [*traffic(100, start=1000, seed=seed), *traffic(225, start=1100, seed=seed + 10)]
        odd = traffic(75, start=1100.5, seed=seed + 20, level=level)
        for number, record in enumerate(odd):
            records.append(replace(record, at=1100.5 + 3 * (number // 2)))
        cases = joined(SPEC, sorted(records, key=lambda record: record.at))
        assert blame(NORMAL, cases, since=1100.0).label == label
