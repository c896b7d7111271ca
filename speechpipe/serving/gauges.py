"""Prometheus rows that are read from the running server at each scrape: queues, workers, refusals, losses."""

from collections.abc import Callable, Mapping

from speechpipe.cascade.workers import PoolStatus
from speechpipe.foundation.background import BackgroundTasks, TaskStatus
from speechpipe.monitor.exposition import GaugeRow, by_cause

RESTART_CAUSES = ("crash", "timeout", "stopped", "start_failed", "start_timeout", "recycled_jobs", "recycled_rss")
LOSS_CAUSES = ("queue_full", "store_error", "refused", "unencodable", "store_replaced")


def gauges(
    pools: Callable[[], Mapping[str, PoolStatus]],
    *,
    ready: Callable[[], bool],
    uploads: Callable[[], int],
    refused: Mapping[str, int],
    lost: Mapping[str, int],
    fetches: Mapping[tuple[str, str], int],
    tasks: BackgroundTasks,
) -> tuple[GaugeRow, ...]:
    """Return the rows; the arguments are read at each scrape."""

    def one(name: str, help_: str, read: Callable[[], float]) -> GaugeRow:
        return GaugeRow(name, help_, lambda: [((), float(read()))])

    def by_pool(name: str, help_: str, read: Callable[[PoolStatus], float]) -> GaugeRow:
        return GaugeRow(
            name, help_, lambda: [((pool,), float(read(status))) for pool, status in pools().items()], ("pool",)
        )

    def restarts() -> list[tuple[tuple[str, ...], float]]:
        counts = {pool: dict.fromkeys(RESTART_CAUSES, 0) | dict(status.restarts) for pool, status in pools().items()}
        return [((pool, cause), float(count)) for pool, of in counts.items() for cause, count in sorted(of.items())]

    def by_task(name: str, help_: str, read: Callable[[TaskStatus], float], *, counter: bool = False) -> GaugeRow:
        def rows() -> list[tuple[tuple[str, ...], float]]:
            return [((status.name,), float(read(status))) for status in tasks.statuses()]

        return GaugeRow(name, help_, rows, ("task",), counter=counter)

    def fetched() -> list[tuple[tuple[str, ...], float]]:
        return [(key, float(count)) for key, count in sorted(fetches.items())]

    return (
        one("ready", "1 when sessions are accepted.", ready),
        one("uploads_in_progress", "Uploads in progress.", uploads),
        by_pool("queue_depth", "Segments waiting for a worker.", lambda status: status.queued),
        by_pool("queue_audio_seconds", "Audio waiting for a worker.", lambda status: status.queued_s),
        by_pool("workers_ready", "Workers ready.", lambda status: status.ready_workers),
        by_pool("workers_busy", "Segments on workers.", lambda status: status.active),
        by_pool("workers_backlog_seconds", "Audio on workers, not decoded yet.", lambda status: status.backlog_s),
        by_pool("worker_rss_bytes", "Resident memory of all workers.", lambda status: sum(status.rss_mb) * 2**20),
        GaugeRow("worker_restarts_total", "Workers replaced.", restarts, ("pool", "cause"), counter=True),
        by_task("background_task_alive", "1 while a background thread runs.", lambda status: status.alive),
        by_task("background_task_failing", "1 while its last run raised.", lambda status: status.failing),
        by_task("background_task_failures_total", "Runs that raised.", lambda status: status.failures, counter=True),
        by_cause("requests_refused_total", "Requests without a result.", refused),
        by_cause("records_lost_total", "Records that were not stored.", lost, LOSS_CAUSES),
        GaugeRow("weights_fetches_total", "Files of weights asked for.", fetched, ("source", "outcome"), counter=True),
    )
