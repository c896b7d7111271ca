"""Which stage is named without probes when a small change above moves the stages below by more."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from speechpipe.foundation.storage.record import Record
from speechpipe.monitor.blame.normal import Normal, fit
from speechpipe.monitor.blame.probes import ProbeResult
from speechpipe.monitor.blame.verdict import blame
from speechpipe.monitor.cases import Cases, joined
from speechpipe.monitor.spec import Direction, Metric
from tests.monitor.toy_cascade import SPEC, of, traffic

LITTLE = replace(
    SPEC,  # what the gate does by itself matters from 2.0 on
    metrics=tuple(replace(one, least=2.0) if one.name == "gate.open" else one for one in SPEC.metrics),
)
NORMAL = fit(SPEC, joined(SPEC, traffic(500)))
LITTLE_NORMAL = fit(LITTLE, joined(LITTLE, traffic(500)))


def worse(records: list[Record]) -> list[Record]:
    """The model is less sure than the openings of the gate explain."""
    return [
        replace(one, measures={**one.measures, "model.sure": one.number("model.sure") - 1.0})
        if "model.sure" in one.measures
        else one
        for one in records
    ]


def named(normal: Normal, probes: tuple[ProbeResult, ...] = (), seed: int = 2, **change: Any) -> str:
    records = [*traffic(200, start=1000, seed=1), *worse(traffic(200, start=1200, seed=seed, **change))]
    return blame(normal, joined(normal.spec, records), probes).label


@pytest.mark.parametrize("seed", range(2, 6))
def test_a_stage_above_that_has_certainly_changed_comes_before_the_one_that_changed_more(seed: int) -> None:
    assert named(LITTLE_NORMAL, seed=seed) == "model"
    assert named(LITTLE_NORMAL, seed=seed, gate=-1.0) == "gate"


@pytest.mark.parametrize("seed", range(2, 6))
def test_an_input_that_hardly_ever_was_comes_before_what_a_stage_makes_of_it(seed: int) -> None:
    assert named(NORMAL, seed=seed, level=1.8) == "source"
    assert named(NORMAL, seed=seed, level=0.5) == "model", "a little louder is no reason"


def test_by_itself_neither_is_a_reason_to_blame_a_stage() -> None:
    changes: tuple[dict[str, Any], ...] = ({"gate": -1.0}, {"level": 1.2})
    for change in changes:
        records = [*traffic(200, start=1000, seed=1), *traffic(200, start=1200, seed=2, **change)]
        assert blame(LITTLE_NORMAL, joined(LITTLE, records)).label == "none"


def test_the_stage_below_is_said_not_to_be_sure() -> None:
    records = [*traffic(200, start=1000, seed=1), *worse(traffic(200, start=1200, seed=2, gate=-1.0))]
    found = blame(LITTLE_NORMAL, joined(LITTLE, records))
    assert (found.label, found.also, found.perhaps) == ("gate", (), ("model",))
    whole = (ProbeResult("gate", 12, 30), ProbeResult("model", 0, 30))
    assert blame(LITTLE_NORMAL, joined(LITTLE, records), whole).perhaps == (), "its probes are answered as before"


def test_a_metric_that_never_varied_has_not_changed_by_its_rounding() -> None:
    def constant(records: list[Record]) -> list[Record]:
        return [
            replace(one, measures={**one.measures, "gate.pause": 0.512}) if one.kind == "session" else one
            for one in records
        ]

    pinned = Cases.load(joined(SPEC, constant(traffic(500))).dump())
    now = joined(SPEC, constant([*traffic(200, start=1000, seed=1), *worse(traffic(200, start=1200, seed=2))]))
    assert blame(fit(SPEC, pinned), now).label == "model"


@pytest.mark.parametrize("edge", [-1.5, 1.5])
def test_what_is_read_below_and_blamed_on_a_stage_is_no_certain_change_of_it(edge: float) -> None:
    """A recognizer at fault moves the confidence at the edges of segments, which is blamed on the gate."""

    def edges(records: list[Record], moved: float) -> list[Record]:
        random = np.random.default_rng(len(records))
        return [
            replace(one, measures={**one.measures, "model.edge": random.normal(moved, 1.0)})
            if one.kind == "unit"
            else one
            for one in records
        ]

    metric = Metric(
        "model.edge", "", "edge", "", "unit", of("model.edge"), direction=Direction.DOWN, least=5.0, blames="gate"
    )
    spec = replace(SPEC, metrics=(*SPEC.metrics, metric))
    known = fit(spec, joined(spec, edges(traffic(500), 0.0)))
    now = edges(traffic(200, start=1000, seed=1), 0.0) + edges(worse(traffic(200, start=1200, seed=2)), edge)
    assert blame(known, joined(spec, now)).label == "model"
    alone = replace(metric, least=0.0)
    spec = replace(SPEC, metrics=(*SPEC.metrics, alone))
    known = fit(spec, joined(spec, edges(traffic(500), 0.0)))
    now = edges(traffic(200, start=1000, seed=1), 0.0) + edges(traffic(200, start=1200, seed=2), edge)
    assert blame(known, joined(spec, now)).label == ("gate" if edge < 0 else "none"), "what is better is no fault"


def test_probes_decide_where_there_are_some() -> None:
    convicted = (ProbeResult("gate", 0, 30), ProbeResult("model", 12, 30))
    assert named(LITTLE_NORMAL, convicted, gate=-1.0) == "model"
