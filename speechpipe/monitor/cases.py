"""Cases: one row of metrics for each session, joined with its units and its feedback. The input of blame.

There is one column for each metric, NaN where unknown. A unit metric is the mean over the session's units. Server
metrics are forward-filled into every case.
"""

import io
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from speechpipe.foundation.storage.record import Record
from speechpipe.monitor.spec import CascadeSpec, Metric, MetricKind

Column = npt.NDArray[np.float64]

MOST_ROWS = 10_000
"""Rows that are remembered: about 9 MB."""


@dataclass(frozen=True)
class Cases:
    """`values` has shape (cases, metrics), in the order of `at` (unix seconds)."""

    names: tuple[str, ...]
    at: Column
    values: Column

    def __len__(self) -> int:
        return len(self.at)

    def column(self, name: str) -> Column:
        """Return a metric's values, NaN where unknown; all NaN if there is no such column."""
        if name not in self.names:
            return np.full(len(self.at), np.nan)
        return np.asarray(self.values[:, self.names.index(name)])

    def between(self, since: float, until: float) -> "Cases":
        """Return the cases with `since` <= at < `until`."""
        return self.take(np.flatnonzero((self.at >= since) & (self.at < until)))

    def take(self, rows: npt.NDArray[np.int64]) -> "Cases":
        """Return the cases at these row numbers."""
        return replace(self, at=self.at[rows], values=self.values[rows])

    def without(self, name: str) -> "Cases":
        """Return the cases with one metric set to NaN."""
        values = self.values.copy()
        if name in self.names:
            values[:, self.names.index(name)] = np.nan
        return replace(self, values=values)

    def dump(self) -> bytes:
        """Return the cases as compressed bytes, in single precision."""
        buffer = io.BytesIO()
        names = np.array(self.names)
        np.savez_compressed(buffer, names=names, at=self.at, values=self.values.astype(np.float32))
        return buffer.getvalue()

    @classmethod
    def load(cls, data: bytes) -> "Cases":
        """Return the cases that `dump` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            return cls(tuple(found["names"].tolist()), found["at"], found["values"].astype(np.float64))


def case_metrics(spec: CascadeSpec) -> tuple[Metric, ...]:
    """Return the metrics of cases, in the order of their columns."""
    return (*(metric for metric in spec.metrics if metric.value_kind is not MetricKind.SUM), *spec.joined)


@dataclass
class _Open:
    """A session whose records are being collected."""

    session: Record | None = None
    units: list[Record] = field(default_factory=list)
    late: list[Record] = field(default_factory=list)


class KnownRows:
    """The rows of sessions that were joined before, for those that join the same ones again and again.

    Records never change, so a row is the same as long as the session's records are. Used on one thread, with one spec.
    """

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        self._rows: OrderedDict[tuple[str, str, int], Column] = OrderedDict()

    def row(self, records: Sequence[Record], make: Callable[[], Sequence[float]]) -> Column:
        """Return the row of a session with these records, its own first; it is made if it is not known."""
        key = records[0].id, records[-1].id, len(records)
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = np.array(make(), float)
        self._rows.move_to_end(key)
        if len(self._rows) > self._most:
            self._rows.popitem(last=False)
        return row


def joined(spec: CascadeSpec, records: Iterable[Record], known: KnownRows | None = None) -> Cases:
    """Return one case for each session among the records, ordered by time. `known` is asked for rows, and gets them."""
    metrics = case_metrics(spec)
    known = known or KnownRows()
    found: dict[str, _Open] = {}
    system: list[Record] = []
    for record in records:
        if record.kind == "system":
            system.append(record)
            continue
        mine = found.setdefault(record.session_id, _Open())
        if record.kind == "session":
            mine.session = record
        elif record.kind == "unit":
            mine.units.append(record)
        elif record.kind == "feedback":
            mine.late.append(record)
    rows = []
    for mine in found.values():
        if (session := mine.session) is not None:
            make = partial(_row, spec, metrics, session, mine.units, mine.late)
            rows.append((session.at, known.row([session, *mine.units, *mine.late], make)))
    rows.sort(key=lambda row: row[0])
    at = np.array([row[0] for row in rows], float)
    values = np.array([row[1] for row in rows], float).reshape(len(rows), len(metrics))
    _fill_in(metrics, system, at, values)
    return Cases(tuple(metric.name for metric in metrics), at, values)


def _row(
    spec: CascadeSpec, metrics: Sequence[Metric], session: Record, units: Sequence[Record], late: Sequence[Record]
) -> list[float]:
    measures = {**session.measures, **spec.join(session, units), "case.units": len(units)}
    whole = replace(session, kind="case", measures=measures)
    by_kind = {"session": [session], "unit": units, "case": [whole], "feedback": late}
    return [_value(metric, by_kind.get(metric.kind, ()), by_kind.get(metric.late, ())) for metric in metrics]


def _value(metric: Metric, records: Sequence[Record], late: Sequence[Record]) -> float:
    values = [value for record in records if (value := metric.read(record)) is not None and math.isfinite(value)]
    if not values:
        return math.nan
    if metric.late:
        said = (metric.read(record) for record in late)
        more = sum(value for value in said if value is not None and math.isfinite(value))
        return min(1.0, (sum(values) + more) / len(values))
    return sum(values) / len(values)


def _fill_in(metrics: Sequence[Metric], system: Sequence[Record], at: Column, values: Column) -> None:
    if not system or not len(at):
        return
    times = np.array([record.at for record in system])
    last = np.searchsorted(times, at, side="right") - 1
    for index, metric in enumerate(metrics):
        if metric.kind == "system":
            said = np.array([math.nan if (value := metric.read(record)) is None else value for record in system])
            values[:, index] = np.where(last >= 0, said[np.maximum(last, 0)], np.nan)
