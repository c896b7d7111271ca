"""Blame on a cascade with known dependencies: who is named when what changes, and when nobody is."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from speechpipe.foundation.stats.shapley import cells, shapley
from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store
from speechpipe.interfaces.web.blame import picture
from speechpipe.monitor.alarms import Alarm, Condition, Transition
from speechpipe.monitor.blame.documents import document
from speechpipe.monitor.blame.evidence import DEFAULTS, Thresholds
from speechpipe.monitor.blame.normal import ReferenceTooSmall, fit
from speechpipe.monitor.blame.onset import changes
from speechpipe.monitor.blame.operations import BlameOperations, ReferenceMismatch
from speechpipe.monitor.blame.probes import ProbeAnswer, ProbeHistory, ProbeResult, probe_history
from speechpipe.monitor.blame.verdict import Verdict, blame, blame_together
from speechpipe.monitor.cases import Cases, joined
from speechpipe.monitor.repository import Archive
from speechpipe.monitor.spec import CascadeSpec, Direction, Metric
from speechpipe.monitor.windows import Group
from tests.databases import place_tables
from tests.monitor.toy_cascade import SPEC, of, reference, traffic

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


def test_of_failures_in_the_bookkeeping_less_is_enough() -> None:
    counted = replace(SPEC, joined=tuple(replace(one, direction=Direction.UP) for one in SPEC.joined))
    cases = joined(counted, [*traffic(300, start=1000, seed=1), *traffic(300, start=1300, seed=2, lost=0.05)])
    assert blame(fit(counted, joined(counted, traffic(500))), cases, since=1300.0).label == "infra"
    assert blame(NORMAL, cases, since=1300.0).label == "none", "it may be usual for the traffic"
    both = joined(counted, [*traffic(300, start=1000, seed=1), *traffic(300, start=1300, seed=2, lost=0.05, gate=-1.5)])
    found = blame(fit(counted, joined(counted, traffic(500))), both, since=1300.0)
    assert (found.label, found.also) == ("gate", ("infra",)), "a gate that does worse may be why"


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


def test_groups_of_which_the_largest_does_not_have_the_metric_that_changed_have_a_verdict() -> None:
    def files(records: list[Record]) -> list[Record]:
        return [
            replace(one, measures={name: value for name, value in one.measures.items() if name != "gate.pause"})
            for one in records
        ]

    uploads = fit(SPEC, joined(SPEC, files(traffic(500, seed=5))))
    now = joined(SPEC, files(traffic(300, start=1000, seed=6))), joined(SPEC, traffic(150, start=1000, pause=-3.0))
    found = blame_together([(uploads, now[0]), (NORMAL, now[1])], since=1000.0)
    assert found.label == "gate"
    assert found.contributions == ()


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


@pytest.mark.parametrize(("passed", "label"), [(0, "gate"), (8, "gate"), (15, "none"), (20, "source")])
def test_the_more_probes_pass_the_more_is_asked_of_what_inputs_do_not_explain(passed: int, label: str) -> None:
    probes = (ProbeResult("gate", 0, passed), ProbeResult("model", 0, passed)) if passed else ()
    assert verdict(after=80, gate=-0.7, probes=probes).label == label


def test_a_probe_that_differs_leaves_the_suspicion_as_it_is() -> None:
    assert verdict(after=80, gate=-0.7, probes=(ProbeResult("gate", 1, 15),)).label == "gate"


def test_people_are_not_blamed_for_what_came_through_a_stage_that_probes_have_nearly_acquitted() -> None:
    few = (ProbeResult("gate", 0, 15), ProbeResult("model", 0, 15))
    change: dict[str, Any] = {"after": 80, "gate": -0.7, "redo": 0.4}
    assert verdict(probes=few, **change).label == "none"
    assert verdict(after=80, redo=0.4, probes=few).label == "client", "where nothing else has changed, it is theirs"
    assert verdict(after=80, redo=0.4, gate=-0.7, probes=(ProbeResult("gate", 15, 15),)).label == "gate"


def test_two_faults_at_once_are_both_named() -> None:
    found = verdict(level=-6.0, probes=(ProbeResult("gate", 0, 100), ProbeResult("model", 60, 100)))
    assert found.label == "model", "whatever the input is: it answers the same audio differently"
    assert found.also == ("source",)


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


def test_probes_of_a_bundle_without_a_reference_do_not_count(operations: BlameOperations) -> None:
    """They were pinned with its own answers, and do not tell how it differs from the bundle before."""
    for record in traffic(200, start=9000, seed=3, gate=-1.5, bundle="new"):
        operations.store.append(record)
    well: dict[str, Any] = {"gate.probe_differs": 0.0, "model.probe_differs": 0.0}
    common: dict[str, Any] = {"channel": "probe", "bundle": "new", "bundle_version": "1", "measures": well}
    for number in range(40):
        operations.store.append(Record("probe", f"p{number}", f"p{number}", at=9100.0 + number, **common))
    operations.store.flush()
    group = Group("consumer", "", "c", "new@1", "champion")
    assert operations.verdict(group, reference(), 8000.0, 9500.0).label == "gate"
    own = operations.verdict(group, reference(2, "new@1"), 8000.0, 9500.0)
    assert "fewer than 100 cases" in own.reason


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
