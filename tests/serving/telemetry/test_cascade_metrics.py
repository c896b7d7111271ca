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


def test_an_upload_whose_client_left_is_no_session_in_which_vad_heard_nothing() -> None:
    silent: dict[str, Measure] = {"vad.segments": 0, "vad.speech_ratio": 0.0, "vad.triggers_per_minute": 0.0}
    whole = Record("session", "s", "s", 1.0, "upload", "default", "1", "ok", measures=silent)
    left = Record("session", "s", "s", 1.0, "upload", "default", "1", "client_gone", measures=silent)
    live = Record("session", "s", "s", 1.0, "listen", "default", "1", "client_gone", measures=silent)
    for name in ("vad.no_trigger_share", "vad.speech_ratio", "vad.trigger_rate"):
        assert read(name, whole) is not None
        assert read(name, left) is None
        assert read(name, live) is not None, "who speaks live leaves when all is said"
    assert [read("software.left_share", one) for one in (whole, left, live)] == [0.0, 1.0, None]
