"""Records with literals: a cascade small enough to read, and traffic through it."""

import numpy as np

from speechpipe.foundation.storage.record import Measure, Record
from speechpipe.monitor.spec import CascadeSpec, Direction, Metric, MetricKind, Severity, Stage


def read(name: str):  # type: ignore[no-untyped-def]
    return lambda record: record.measures.get(name)


SPEC = CascadeSpec(
    "toy",
    (Stage("gate", "Gate"), Stage("model", "Model", ("gate",)), Stage("people", "People", ("model",))),
    (
        Metric(
            "gate.length_s",
            "s",
            "length",
            "cuts",
            "unit",
            read("gate.length_s"),
            severity=Severity.PAGE,
            key=True,
            least=0.1,
        ),
        Metric("gate.open", "", "open", "", "session", read("gate.open"), key=True),
        Metric(
            "model.null_share",
            "",
            "null output",
            "nothing",
            "unit",
            lambda record: float(record.outcome != "ok"),
            MetricKind.SHARE,
            Direction.UP,
            Severity.PAGE,
            key=True,
            limit=0.5,
        ),
        Metric(
            "people.redo_rate",
            "",
            "redo",
            "",
            "unit",
            lambda record: 0.0 if record.kind == "unit" else float(record.outcome == "redo"),
            MetricKind.SHARE,
            Direction.UP,
            late="feedback",
        ),
    ),
    distributions=("gate.length_s",),
)


def unit(number: int, at: float, length_s: float = 3.0, outcome: str = "ok", **changes: object) -> Record:
    measures: dict[str, Measure] = {"gate.length_s": length_s}
    values: dict[str, object] = {
        "kind": "unit",
        "id": f"u{number}",
        "session_id": f"s{number}",
        "at": at,
        "channel": "upload",
        "bundle": "b",
        "bundle_version": "1",
        "outcome": outcome,
        "measures": measures,
    }
    return Record(**{**values, **changes})  # type: ignore[arg-type]


def traffic(
    count: int, *, start: float = 0.0, first: int = 0, null_share: float = 0.02, length_s: float = 3.0, seed: int = 0
) -> list[Record]:
    """Return a unit a second."""
    random = np.random.default_rng(seed)
    lengths = random.gamma(4.0, length_s / 4.0, count)
    nulls = random.random(count) < null_share
    return [
        unit(first + number, start + number, float(lengths[number]), "empty" if nulls[number] else "ok")
        for number in range(count)
    ]
