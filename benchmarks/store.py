"""The store and the report: records a second into the database; a report over a million records and ten times as many.

python benchmarks/store.py [--records 1000000] [--url postgresql+psycopg://...] [--record]
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measure import Figure, add_record, record

from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.watch import Watcher
from speechpipe.serving.health.operations import HealthOperations
from speechpipe.serving.telemetry.cascade_metrics import CASCADE

DAY_S = 86_400.0
START = 1_700_000_000.0


def traffic(count: int) -> Iterator[Record]:
    """Sessions with one utterance each, over a day, in eight groups."""
    random = np.random.default_rng(0)
    figures = random.gamma(4.0, 1.0, (count // 2 + 1, 12))
    classes, channels = ("consumer", "enterprise"), ("upload", "listen")
    names = (
        *("vad.segment_s", "vad.mean_probability", "asr.confidence", "asr.words_per_s", "asr.characters_per_s"),
        *("asr.compression_ratio", "asr.queue_s", "asr.wall_s", "input.level_dbfs", "input.snr_db"),
        *("asr.cpu_s", "vad.speech_s"),
    )
    for number in range(count // 2):
        at = START + number * DAY_S / (count // 2)
        common = {
            "session_id": f"s{number:09x}",
            "at": at,
            "channel": channels[number % 2],
            "bundle": "default",
            "bundle_version": "1.0.0",
            "tenant": f"t{number % 3}",
            "tenant_class": classes[number % 4 == 0],
            "versions": {"vad": "silero@6", "asr": "pocketsphinx@5"},
        }
        values = figures[number].tolist()
        outcome = "empty" if values[0] < 1.2 else "ok"
        yield Record(
            kind="unit",
            id=f"s{number:09x}-0",
            outcome=outcome,
            measures=dict(zip(names, values, strict=True)) | {"asr.attempts": 1, "vad.cut": 0},
            **common,  # type: ignore[arg-type]
        )
        yield Record(
            kind="session",
            id=f"s{number:09x}",
            measures={
                "vad.triggers_per_minute": values[1] * 3,
                "vad.speech_ratio": min(1.0, values[2] / 10),
                "vad.segments": 1,
                "input.duration_s": values[3] * 3,
                "input.level_dbfs": -values[4] * 6,
                "input.snr_db": values[5] * 8,
                "input.bandwidth_hz": 7000.0,
                "input.clipped_share": 0.0,
                "system.received_samples": 48_000,
                "system.balanced": 1,
                "software.real_time_factor": values[6] / 20,
            },
            **common,  # type: ignore[arg-type]
        )


def fill(store: Store, count: int) -> float:
    """Write the records as fast as the store takes them; return seconds."""
    begun = time.perf_counter()
    for made in traffic(count):
        while store.queued > 9_000:
            time.sleep(0.001)
        store.append(made)
    store.flush()
    return time.perf_counter() - begun


def report_s(store: Store) -> float:
    """Return the best of three reports over the whole day."""
    operations = HealthOperations(CASCADE, store)
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        found = operations.report(DAY_S + 3600, until=START + DAY_S + 60)
        times.append(time.perf_counter() - begun)
    assert found.units
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--url", default="")
    add_record(parser)
    asked = parser.parse_args()
    made = sum(1 for _ in traffic(20_000))
    begun = time.perf_counter()
    for _ in traffic(20_000):
        pass
    making = (time.perf_counter() - begun) / made
    with tempfile.TemporaryDirectory() as folder:
        reports, rates = [], []
        for count in (asked.records // 10, asked.records):
            store = Store(asked.url or f"sqlite:///{Path(folder) / f'{count}.db'}")
            store.open()
            took = fill(store, count)
            rates.append(count / took)
            print(f"{count} records: {count / took:.0f} a second into the store, making them included", flush=True)
            print(f"  (making one takes {1e6 * making:.0f} us: without that {count / (took - making * count):.0f})")
            watcher = Watcher(CASCADE, store)
            begun, cpu = time.perf_counter(), time.process_time()
            while watcher.behind or time.perf_counter() == begun:
                watcher.tick(START + DAY_S)
            took, cpu = time.perf_counter() - begun, time.process_time() - cpu
            print(f"  taken into account: {1e6 * cpu / count:.0f} us of CPU a record, {count / took:.0f} a second")
            reports.append(report_s(store))
            print(f"  a report over all of them: {reports[-1]:.2f} s", flush=True)
            store.close()
        more = reports[1] / reports[0]
        print(f"ten times the records: {more:.1f} times the time")
    if asked.record:
        what = f"a report over {asked.records:,} records; over ten times as many records"
        record(
            [
                Figure("records a second, making them included", ">= 20,000", f"{rates[1]:,.0f}", rates[1] >= 20_000),
                Figure(
                    what, "< 3 s; <= 10 times", f"{reports[1]:.2f} s; {more:.1f} times", reports[1] < 3 and more <= 10
                ),
            ]
        )


if __name__ == "__main__":
    main()
