"""Days of healthy traffic: its rhythm, and what is counted."""

from dataclasses import replace

import numpy as np
import pytest

from speechpipe.bench.day import MONDAY, Plan, Run, Rung, begins, rows, simulated, text
from speechpipe.bench.day_traffic import DAY_S, HOUR_S, Traffic
from speechpipe.bench.laboratory import ClipResult
from speechpipe.cascade.evaluation.manifest import Clip
from speechpipe.foundation.storage.record import Record


def clip(speaker: str) -> Clip:
    return Clip(speaker, np.zeros(16_000, np.float32), "one two", speaker)


def heard(number: int) -> ClipResult:
    common = ("upload", "default", "1")
    session = {"input.duration_s": 3.0, "vad.speech_s": 2.0, "input.level_dbfs": -26.0, "input.snr_db": 30.0}
    unit = {"asr.cpu_s": 0.3, "asr.confidence": 0.9, "vad.segment_s": 2.0, "asr.words_per_s": 2.0, "vad.start_s": 0.5}
    return ClipResult(
        number,
        Record("session", "s", "s", 0.0, *common, measures=session),
        (Record("unit", "u", "s", 0.0, *common, measures=unit),),
        0.1,
        (),
        (),
    )


CLIPS, HEARD = [clip("a"), clip("b")], [heard(0), heard(1)]


def units(traffic: Traffic, since: float, until: float) -> list[Record]:
    found = [record for at in np.arange(since, until, 60.0) for record in traffic.between(at, at + 60.0)]
    assert [record.at for record in found if record.kind == "system"]
    return [record for record in found if record.kind == "unit"]


def test_traffic_has_a_night_a_day_and_a_weekend() -> None:
    traffic = Traffic(CLIPS, HEARD, 10_000.0, 0)
    night = units(traffic, MONDAY + 2 * HOUR_S, MONDAY + 4 * HOUR_S)
    noon = units(traffic, MONDAY + 10 * HOUR_S, MONDAY + 12 * HOUR_S)
    saturday = units(traffic, MONDAY + 5 * DAY_S + 10 * HOUR_S, MONDAY + 5 * DAY_S + 12 * HOUR_S)
    assert len(night) < len(noon) / 10
    assert len({(one.tenant, one.channel) for one in noon}) == 4
    assert sum(one.tenant == "acme" for one in saturday) < sum(one.tenant == "acme" for one in noon) / 5
    starts = [one.measures["vad.start_s"] for one in noon if one.session_id == noon[0].session_id]
    assert len(set(starts)) == len(starts)
    assert len({record.id for record in noon}) == len(noon)


def test_pages_are_counted_by_incident_and_day() -> None:
    one = Rung(MONDAY + HOUR_S, "asr.null_share", "g", "drift", True, "i", "", "")
    rung = (one, replace(one, metric="asr.confidence", page=False), replace(one, at=MONDAY + 25 * HOUR_S, incident="j"))
    run = Run(0, MONDAY, MONDAY, MONDAY + 2 * DAY_S, 9, rung)
    assert [(row.day, row.pages, row.incidents, row.alarms) for row in rows(run)] == [
        ("Mon", 1, 1, 2),
        ("Tue", 1, 1, 1),
    ]
    assert "1.00 pages, 1.00 alarms that page, 1.00 incidents, 1.50 alarms" in text([run], 10_000)


@pytest.mark.long
def test_a_tenth_of_a_day_goes_through_the_alarms_of_a_server() -> None:
    run = simulated(Plan(begins(0), 0.1, 10_000.0, 0, verdicts=False), CLIPS, HEARD, lambda _, __: None)
    assert run.watched_from > run.begun
    assert run.days == pytest.approx(0.1, abs=0.01)
    assert run.utterances > 300
