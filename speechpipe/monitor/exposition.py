"""Prometheus metrics computed from records. Each metric is one row of a table.

A row has a name, its help text, the kind of record it reads, and a function that reads it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from speechpipe.foundation.storage.record import Record

PREFIX = "speechpipe_"

Read = Callable[[Record], float | None]
Labels = Callable[[Record], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class CounterRow:
    """Adds `read(record)` for every record of `kind`."""

    name: str
    help: str
    kind: str
    read: Read
    labels: tuple[str, ...] = ()
    label_values: Labels = field(default=lambda _: ())
    known: tuple[tuple[str, ...], ...] = ()  # label values that are exposed as 0 from the start


@dataclass(frozen=True, slots=True)
class HistogramRow:
    """Observes `read(record)` for every record of `kind`, unless it is None."""

    name: str
    help: str
    kind: str
    read: Read
    buckets: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GaugeRow:
    """Calls `read` at each scrape: (label values, value) pairs."""

    name: str
    help: str
    read: Callable[[], Iterable[tuple[tuple[str, ...], float]]]
    labels: tuple[str, ...] = ()
    counter: bool = False


Row = CounterRow | HistogramRow


def by_cause(name: str, help_: str, counts: Mapping[str, int], known: tuple[str, ...] = ()) -> GaugeRow:
    """Return a row of counts by cause. `known` causes are exposed as 0, so that `rate()` sees their first event."""

    def read() -> list[tuple[tuple[str, ...], float]]:
        found = dict.fromkeys(known, 0) | dict(counts)
        return [((cause,), float(count)) for cause, count in sorted(found.items())]

    return GaugeRow(name, help_, read, ("cause",), counter=True)


class Exposition:
    """The Prometheus registry. Each record metric has the bundle, its version and the channel as labels."""

    COMMON = ("bundle", "bundle_version", "channel")

    def __init__(self, rows: Sequence[Row], gauges: Sequence[GaugeRow] = ()) -> None:
        self._registry = CollectorRegistry()
        self._counters: list[tuple[CounterRow, Counter]] = []
        self._histograms: list[tuple[HistogramRow, Histogram]] = []
        self._announced: set[tuple[str, str, str]] = set()
        for row in rows:
            if isinstance(row, CounterRow):
                labels = (*self.COMMON, *row.labels)
                counter = Counter(PREFIX + row.name, row.help, labels, registry=self._registry)
                self._counters.append((row, counter))
            else:
                histogram = Histogram(
                    PREFIX + row.name, row.help, self.COMMON, registry=self._registry, buckets=row.buckets
                )
                self._histograms.append((row, histogram))
        self._kinds = {row.kind for row in rows}
        self.add_gauges(gauges)

    def add_gauges(self, gauges: Sequence[GaugeRow]) -> None:
        """Expose more rows."""
        self._registry.register(_Gauges(gauges))

    def announce(self, bundle: str, bundle_version: str, channel: str) -> None:
        """Expose the metrics of a bundle and channel as 0, so that `rate()` sees the first event of each kind."""
        common = (bundle, bundle_version, channel)
        if common in self._announced:
            return
        self._announced.add(common)
        for row, counter in self._counters:
            for values in row.known or (() if row.labels else ((),)):
                counter.labels(*common, *values)
        for _, histogram in self._histograms:
            histogram.labels(*common)

    def observe(self, record: Record) -> None:
        """Add one record to every row that reads its kind."""
        common = (record.bundle, record.bundle_version, record.channel)
        if record.kind in self._kinds:
            self.announce(*common)
        for row, counter in self._counters:
            if row.kind == record.kind and (value := row.read(record)):
                counter.labels(*common, *row.label_values(record)).inc(value)
        for row_, histogram in self._histograms:
            if row_.kind == record.kind and (value := row_.read(record)) is not None:
                histogram.labels(*common).observe(value)

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    def __init__(self, rows: Sequence[GaugeRow]) -> None:
        self._rows = rows

    def collect(self) -> Iterable[Metric]:
        for row in self._rows:
            family = CounterMetricFamily if row.counter else GaugeMetricFamily
            metric = family(PREFIX + row.name, row.help, labels=row.labels)
            for labels, value in row.read():
                metric.add_metric(labels, value)
            yield metric
