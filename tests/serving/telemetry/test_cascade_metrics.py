"""What the metrics of the cascade read from records that differ by kind of recognizer."""

from speechpipe.foundation.storage.record import Measure, Record
from speechpipe.serving.telemetry.cascade_metrics import CASCADE
from speechpipe.serving.telemetry.records import ROWS


def unit(**measures: Measure) -> Record:
    named = {name.replace("__", "."): value for name, value in measures.items()}
    return Record("unit", "s-0", "s", 1.0, "listen", "default", "1", "ok", measures=named)


def read(name: str, record: Record) -> float | None:
    (metric,) = [metric for metric in (*CASCADE.metrics, *CASCADE.joined) if metric.name == name]
    return metric.read(record)


def test_stretch_compares_the_work_on_a_segment_with_its_cpu_time() -> None:
    spoken = unit(asr__wall_s=8.0, asr__work_s=0.2, asr__cpu_s=0.1)
    assert read("software.stretch", spoken) == 2.0, "the time in which it was spoken is no work"
    assert read("software.overdue_share", spoken) == 0.0
    starved = unit(asr__wall_s=8.0, asr__work_s=3.0, asr__cpu_s=0.1)
    assert read("software.overdue_share", starved) == 1.0
    assert read("software.stretch", unit(asr__wall_s=0.4, asr__cpu_s=0.1)) == 4.0, "records of earlier versions"


def test_speculative_decodes_are_counted_as_made_used_and_wasted() -> None:
    counters = {row.name: row for row in ROWS}
    live = unit(asr__speculations=3, asr__speculated=1, live__endpoint_to_final_s=0.01)
    found = [counters[f"asr_speculations{kind}_total"].read(live) for kind in ("", "_used", "_wasted")]
    assert found == [3.0, 1.0, 2.0]
    assert read("asr.speculations", live) == 3.0
    assert read("asr.speculated_share", live) == 1.0
    assert read("asr.speculated_share", unit(asr__speculations=0, asr__speculated=0)) is None, "an upload"
