"""What watching costs: CPU of the store's writer and of the monitor over that of the whole cascade, and how long an
utterance waits for its record to be taken.

python benchmarks/monitor_cost.py AUDIO... [--rounds 5] [--record]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from measure import Figure, add_record, record

from speechpipe.app import build
from speechpipe.config import Settings
from speechpipe.foundation.storage.record import Record
from speechpipe.serving.health.service import monitoring_of
from speechpipe.serving.transcription.transcriber import Transcription, TranscriptionRequest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    add_record(parser)
    asked = parser.parse_args()
    waited: list[float] = []
    with tempfile.TemporaryDirectory() as state:
        service = build(Settings(state_dir=Path(state)))
        plain = service.records.emit

        def emit(record: Record) -> None:
            begun = time.perf_counter()
            plain(record)
            waited.append(time.perf_counter() - begun)

        service.records.emit = emit  # type: ignore[method-assign]
        assert service.store is not None
        with service:
            own, workers = time.process_time(), service.engine.pool.status().cpu_s
            for _ in range(asked.rounds):
                for path in asked.audio:
                    with path.open("rb") as file:
                        for _ in Transcription(service, file, TranscriptionRequest(service.engine.champion)).run():
                            pass
            service.store.flush()
            monitoring_of(service).tick()
            own, workers = time.process_time() - own, service.engine.pool.status().cpu_s - workers
            watching = service.store.cpu_s + monitoring_of(service).cpu_s + sum(waited)
            written = service.store.written
    print(f"{written} records; cascade {own + workers:.1f} CPU-s, of which watching {watching:.3f}:", end=" ")
    print(f"{watching / (own + workers):.2%}")
    slow = sorted(waited)[int(0.99 * len(waited))]
    median = statistics.median(waited)
    print(f"a record is taken in {1e3 * median:.3f} ms (p99 {1e3 * slow:.3f} ms)")
    if asked.record:
        share = watching / (own + workers)
        what = "watching: share of the cascade's CPU; time that an utterance waits for it, median, p99"
        found = f"{share:.2%}; {1e3 * median:.2f}, {1e3 * slow:.2f} ms"
        record([Figure(what, "<= 1 %; <= 1 ms", found, share <= 0.01 and slow <= 1e-3)])


if __name__ == "__main__":
    main()
