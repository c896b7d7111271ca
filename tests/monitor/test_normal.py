"""What a stage's inputs explain: nothing is known of a mix that the reference has not seen."""

from dataclasses import replace

import numpy as np

from speechpipe.foundation.storage.record import Record
from speechpipe.monitor.blame.normal import Normal, fit
from speechpipe.monitor.blame.verdict import blame
from speechpipe.monitor.cases import joined
from tests.monitor.toy_cascade import SPEC, traffic


def of_length(records: list[Record], length: float | None) -> list[Record]:
    return [
        replace(one, measures={**one.measures, "source.length": length}) if one.kind == "session" else one
        for one in records
    ]


def known(normal: Normal, records: list[Record]) -> float:
    """The share of cases of which it is known what the gate should have done."""
    gate = normal.get("gate.open")
    assert gate is not None
    return float(np.isfinite(normal.residuals(joined(SPEC, records), gate)).mean())


def test_a_mix_that_was_always_the_same_and_is_another_one_explains_nothing() -> None:
    """Sessions of two utterances, where all of the reference had one."""
    normal = fit(SPEC, joined(SPEC, of_length(traffic(500), 1.0)))
    now = traffic(200, start=1000, seed=1, gate=-2.0)
    assert known(normal, of_length(now, 1.0)) == 1.0
    assert known(normal, of_length(now, 2.0)) == 0.0
    assert blame(normal, joined(SPEC, of_length(now, 1.0))).label == "gate"
    assert blame(normal, joined(SPEC, of_length(now, 2.0))).label == "none"


def test_a_reference_from_before_a_metric_of_the_mix_was_known_goes_on() -> None:
    normal = fit(SPEC, joined(SPEC, of_length(traffic(500), None)))
    now = traffic(200, start=1000, seed=1, gate=-2.0)
    assert known(normal, of_length(now, 2.0)) == 1.0
    assert blame(normal, joined(SPEC, of_length(now, 2.0))).label == "gate"
