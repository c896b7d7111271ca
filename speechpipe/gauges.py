"""What is read off the running server when somebody looks: queues, workers, refusals, losses."""

from collections.abc import Callable, Mapping

from speechpipe.monitor.exposition import GaugeRow
from speechpipe.workers import PoolStatus

RESTART_CAUSES = ("crash", "timeout", "recycled_jobs", "recycled_rss")
LOSS_CAUSES = ("queue_full", "store_error")


def gauges(
    status: Callable[[], PoolStatus],
    *,
    ready: Callable[[], bool],
    uploads: Callable[[], int],
    refused: Mapping[str, int],
    lost: Mapping[str, int],
) -> tuple[GaugeRow, ...]:
    """Return the rows. Causes that are known beforehand are shown as 0, so that a rate can be taken from the first."""

    def one(name: str, help_: str, read: Callable[[], float]) -> GaugeRow:
        return GaugeRow(name, help_, lambda: [((), float(read()))])

    def by_cause(name: str, help_: str, read: Callable[[], Mapping[str, int]], known: tuple[str, ...] = ()) -> GaugeRow:
        def values() -> list[tuple[tuple[str, ...], float]]:
            counts = dict.fromkeys(known, 0) | dict(read())
            return [((cause,), float(count)) for cause, count in sorted(counts.items())]

        return GaugeRow(name, help_, values, ("cause",), counter=True)

    return (
        one("ready", "1 when sessions are taken.", ready),
        one("uploads_in_progress", "Uploads in progress.", uploads),
        one("queue_depth", "Segments waiting for a worker.", lambda: status().queued),
        one("queue_audio_seconds", "Audio waiting for a worker.", lambda: status().queued_s),
        one("workers_ready", "Workers ready.", lambda: status().ready_workers),
        one("workers_busy", "Segments on workers.", lambda: status().active),
        one("worker_rss_bytes", "Resident memory of all workers.", lambda: sum(status().rss_mb) * 2**20),
        by_cause("worker_restarts_total", "Workers replaced.", lambda: status().restarts, RESTART_CAUSES),
        by_cause("requests_refused_total", "Requests without a result.", lambda: refused),
        by_cause("records_lost_total", "Records the store did not get.", lambda: lost, LOSS_CAUSES),
    )
