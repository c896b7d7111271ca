"""A cascade with known dependencies, its traffic, and a watcher on it, for the tests of blame."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speechpipe.foundation.storage.record import Measure, Record
from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.alarms import Alarm
from speechpipe.monitor.profiles import Budget
from speechpipe.monitor.reference import Reference
from speechpipe.monitor.sinks import Sink
from speechpipe.monitor.spec import CascadeSpec, Direction, Metric, MetricKind, Stage
from speechpipe.monitor.watch import Watcher, WatchOptions
from speechpipe.monitor.windows import Group, Window
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


def reference(number: int = 1, bundle: str = "b@1") -> Reference:
    group = Group("consumer", "", "c", bundle, "champion")
    return Reference(number, group, 0.0, 400.0, 400.0, "pinned", Window(0, group, 0))


class Watching:
    """A watcher on a store of its own. Times are unix seconds."""

    def __init__(self, folder: Path, sinks: Sequence[Sink] = (), budget: float = 10.0) -> None:
        """`budget`: alarms for nothing a day, of each severity."""
        self.store = Store(place_tables(folder / "r.db"))
        self.store.open()
        self.watcher = Watcher(SPEC, self.store, sinks, WatchOptions(Budget(page=budget, investigate=budget)))

    def put(self, records: Sequence[Record], now: float) -> None:
        """Store records, and let the watcher look at them."""
        for record in records:
            self.store.append(record)
        self.store.flush()
        self.watcher.tick(now)

    def begin(self) -> Reference:
        """Approve the reference of 600 healthy sessions, and return it."""
        self.put(traffic(600), 600.0)
        (proposal,) = self.watcher.archive.references()
        self.watcher.archive.approve(proposal.id, "ann", 600.0)
        return proposal

    @property
    def drifts(self) -> list[Alarm]:
        """The open alarms of drift."""
        return [alarm for alarm in self.watcher.archive.alarms() if alarm.condition.rule == "drift"]

    @property
    def blamed(self) -> dict[str, str]:
        """The label of the verdict that stands with each of them, by metric."""
        return {alarm.condition.metric: alarm.blame.split(":")[0] for alarm in self.drifts}
