"""The specification of a cascade: its stages, their parents, and the metrics that are read from its records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

from speechpipe.foundation.storage.record import Measure, Record

__all__ = [
    "CascadeSpec",
    "Direction",
    "Join",
    "Metric",
    "MetricKind",
    "Read",
    "Severity",
    "Stage",
]

Read = Callable[[Record], float | None]
"""Reads a metric's value from a record; None if it has none."""

Join = Callable[[Record, Sequence[Record]], Mapping[str, Measure]]
"""Computes measures from a session together with its units."""


class MetricKind(Enum):
    """How values are aggregated and watched."""

    SHARE = "share"  # 0 or 1; aggregated to a share
    REAL = "real"  # any number; aggregated to a distribution
    SUM = "sum"  # a count; aggregated to a rate a second, not watched for drift


class Direction(Enum):
    """Which direction of change is a degradation."""

    UP = "up"
    DOWN = "down"
    BOTH = "both"


class Severity(Enum):
    """How a change is reported."""

    PAGE = "page"  # an operator, at once
    INVESTIGATE = "investigate"  # an operator, in working hours
    SHOWN = "shown"  # on pages only: it explains other metrics


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the cascade. `parents` are the names of the stages that feed it."""

    name: str
    title: str
    parents: tuple[str, ...] = ()
    served: bool = True  # False: data does not pass through it (the machine, the bookkeeping)
    blame: str = ""  # its label in verdicts, if not its name


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of the catalogue."""

    name: str  # stage.what_unit
    unit: str
    help: str
    catches: str  # the failure that it detects
    kind: str  # the kind of record that it is read from
    read: Read
    value_kind: MetricKind = MetricKind.REAL
    direction: Direction = Direction.BOTH
    severity: Severity = Severity.INVESTIGATE
    key: bool = False  # listed first, and plotted
    late: str = ""  # kind of later records that add to a counted value without being counted themselves
    limit: float | None = None  # crossing it (in `direction`) fails, whatever the reference is
    confirm: bool = False  # pages only if blame names a stage, too: harmless changes of the traffic move it as well
    least: float = 0.0  # smaller changes do not matter, however significant they are
    blames: str = ""  # the stage to blame when it changes on its own, if not its own stage
    mix: bool = False  # describes the traffic, not the service: it explains other metrics and is never blamed
    pressure: bool = False  # of the machine: it may make people wait, but makes no text wrong
    live: bool = False  # of live sessions only: probes, which are files, say nothing about it
    felt: bool = False  # what people wait for: `pressure` counts only if one of these rose, too

    @property
    def stage(self) -> str:
        """The stage that it belongs to."""
        return self.name.split(".", 1)[0]

    @property
    def owner(self) -> str:
        """The stage to blame when it changes on its own."""
        return self.blames or self.stage


@dataclass(frozen=True)
class CascadeSpec:
    """Everything the monitor knows about a cascade."""

    name: str
    stages: tuple[Stage, ...]
    metrics: tuple[Metric, ...]
    distributions: tuple[str, ...] = ()  # metrics whose whole distribution is shown
    joined: tuple[Metric, ...] = ()  # read from a session joined with its units (kind "case"); used by blame only
    join: Join = (
        lambda session, units: {}
    )  # computes the measures that `joined` reads, in addition to the session's own

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"two stages have the same name: {names}")
        for stage in self.stages:
            if unknown := set(stage.parents) - set(names):
                raise ValueError(f"stage {stage.name} has parents that do not exist: {sorted(unknown)}")
        seen = set[str]()
        for metric in (*self.metrics, *self.joined):
            if metric.owner not in names or metric.stage not in names or metric.name in seen:
                raise ValueError(f"metric {metric.name}: there is no such stage, or the name is used twice")
            seen.add(metric.name)

    def metric(self, name: str) -> Metric:
        """Return the metric with this name.

        Raises:
            KeyError: there is none.
        """
        return self.by_name[name]

    @cached_property
    def by_name(self) -> Mapping[str, Metric]:
        """Metrics by name."""
        return {metric.name: metric for metric in (*self.metrics, *self.joined)}

    def above(self, name: str) -> tuple[Stage, ...]:
        """Return the stages that feed a stage, directly or through others."""
        parents = {stage.name: stage.parents for stage in self.stages}
        names, todo = set[str](), list(parents[name])
        while todo:
            if (parent := todo.pop()) not in names:
                names.add(parent)
                todo += parents[parent]
        return tuple(stage for stage in self.stages if stage.name in names)

    def of_stage(self, stage: str) -> tuple[Metric, ...]:
        """Return a stage's metrics, key ones first."""
        rows = [metric for metric in self.metrics if metric.stage == stage]
        return tuple(sorted(rows, key=lambda metric: not metric.key))

    def without(self, switched_off: tuple[str, ...]) -> "CascadeSpec":
        """Return the spec without the metrics that are switched off.

        Raises:
            ValueError: one of the names is not a metric.
        """
        if unknown := set(switched_off) - set(self.by_name):
            raise ValueError(f"no such metric: {', '.join(sorted(unknown))}")
        return replace(
            self,
            metrics=tuple(metric for metric in self.metrics if metric.name not in switched_off),
            distributions=tuple(name for name in self.distributions if name not in switched_off),
            joined=tuple(metric for metric in self.joined if metric.name not in switched_off),
        )
