"""Rows in, Prometheus text out."""

from prometheus_client.parser import text_string_to_metric_families

from speechpipe.foundation.storage.record import Record
from speechpipe.monitor.exposition import CounterRow, Exposition, GaugeRow, HistogramRow


def record(kind: str, outcome: str = "ok", **measures: float) -> Record:
    return Record(kind, "i", "s", 0.0, "upload", "b", "1", outcome=outcome, measures=measures)


def values(exposition: Exposition) -> dict[str, float]:
    families = text_string_to_metric_families(exposition.text().decode())
    return {
        sample.name + "".join(f",{key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_rows_read_only_their_kind_and_none_is_not_observed() -> None:
    exposition = Exposition(
        (
            CounterRow("done_total", "x", "unit", lambda _: 1.0, ("outcome",), lambda item: (item.outcome,)),
            HistogramRow("length", "x", "unit", lambda item: item.measures.get("length"), (1.0, 2.0)),  # type: ignore[arg-type, return-value]
        ),
        (
            GaugeRow("depth", "x", lambda: [((), 3.0)]),
            GaugeRow("lost_total", "x", lambda: [(("a",), 2.0)], ("cause",), True),
        ),
    )
    for item in (record("unit", length=1.5), record("unit", "empty"), record("session", length=9.0)):
        exposition.observe(item)
    got = values(exposition)
    labels = ",bundle=b,bundle_version=1,channel=upload"
    assert got[f"speechpipe_done_total{labels},outcome=ok"] == 1
    assert got[f"speechpipe_done_total{labels},outcome=empty"] == 1
    assert got[f"speechpipe_length_count{labels}"] == 1
    assert got["speechpipe_depth"] == 3
    assert got["speechpipe_lost_total,cause=a"] == 2
