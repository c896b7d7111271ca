"""A cascade in the monitor's terms: stages, who feeds whom, and the metrics that are read off its records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

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
"""What a record says of a metric; None where it says nothing."""

Join = Callable[[Record, Sequence[Record]], Mapping[str, Measure]]
"""What a session and its units say together that none of them says alone."""


class MetricKind(Enum):
    """How values are summed up and watched."""

    SHARE = "share"  # 0 or 1; summed up as a share
    REAL = "real"  # any number; summed up as a distribution
    SUM = "sum"  # counts up; summed up as a rate a second, not watched for drift


class Direction(Enum):
    """Which direction is a degradation."""

    UP = "up"
    DOWN = "down"
    BOTH = "both"  # a change, whichever way


class Severity(Enum):
    """Who should know when it changes."""

    PAGE = "page"  # somebody, now
    INVESTIGATE = "investigate"  # somebody, in the morning
    SHOWN = "shown"  # nobody: it explains


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the cascade. `parents` feed it, by name."""

    name: str
    title: str
    parents: tuple[str, ...] = ()
    served: bool = True  # False: not a step that data walks (the machine, the people)
    blame: str = ""  # what a verdict calls it, if not by its name


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the catalogue."""

    name: str  # stage.what_unit
    unit: str
    help: str
    catches: str  # the failure it is there to catch
    kind: str  # of the records that it is read from, each of which counts
    read: Read
    value_kind: MetricKind = MetricKind.REAL
    direction: Direction = Direction.BOTH
    severity: Severity = Severity.INVESTIGATE
    key: bool = False  # shown first, and plotted
    late: str = ""  # kind of records that arrive later and belong to one that was counted: they add, and do not count
    limit: float | None = None  # beyond it (in `direction`) it is failing, whatever the reference says
    least: float = 0.0  # a change that is smaller does not matter, however certain it is
    blames: str = ""  # the stage that is to blame when it moves by itself, if not its own
    mix: bool = False  # says what is asked for, not how well it comes: it explains, and is never to blame

    @property
    def stage(self) -> str:
        """The stage it tells of."""
        return self.name.split(".", 1)[0]

    @property
    def owner(self) -> str:
        """The stage that is to blame when it moves by itself."""
        return self.blames or self.stage


@dataclass(frozen=True)
class CascadeSpec:
    """Everything the monitor knows of a cascade."""

    name: str
    stages: tuple[Stage, ...]
    metrics: tuple[Metric, ...]
    distributions: tuple[str, ...] = ()  # metrics whose whole distribution is shown
    joined: tuple[Metric, ...] = ()  # read off a session with its units (kind "case"): only blame looks at them
    join: Join = lambda session, units: {}  # the measures that `joined` reads, beside the session's own

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"stages of the same name: {names}")
        for stage in self.stages:
            if unknown := set(stage.parents) - set(names):
                raise ValueError(f"stage {stage.name} is fed by {sorted(unknown)}, which does not exist")
        seen = set[str]()
        for metric in (*self.metrics, *self.joined):
            if metric.owner not in names or metric.stage not in names or metric.name in seen:
                raise ValueError(f"metric {metric.name}: no such stage, or named twice")
            seen.add(metric.name)

    def metric(self, name: str) -> Metric:
        """Return the metric of that name.

        Raises:
            KeyError: there is none.
        """
        return self.by_name[name]

    @property
    def by_name(self) -> Mapping[str, Metric]:
        """Metrics by name."""
        return {metric.name: metric for metric in (*self.metrics, *self.joined)}

    def of_stage(self, stage: str) -> tuple[Metric, ...]:
        """Return a stage's metrics, key ones first."""
        rows = [metric for metric in self.metrics if metric.stage == stage]
        return tuple(sorted(rows, key=lambda metric: not metric.key))

    def without(self, switched_off: tuple[str, ...]) -> "CascadeSpec":
        """Return the cascade with fewer metrics: start with many, prune later.

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
