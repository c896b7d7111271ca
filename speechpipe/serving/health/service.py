"""The monitoring service of a server: background tasks that follow its records, feedback and acknowledgements."""

import contextlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from speechpipe import __version__
from speechpipe.config import Settings
from speechpipe.errors import InvalidParameter, NotReady, StoreUnavailable, UnknownName
from speechpipe.foundation.background import BackgroundTask
from speechpipe.foundation.outgoing import Sender
from speechpipe.foundation.storage.database import STORE_ERRORS, translating_store_errors
from speechpipe.foundation.storage.leases import Lease
from speechpipe.foundation.storage.record import Emit, Measure, Record
from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.change_log import ChangeLog
from speechpipe.monitor.change_sources import STARTED
from speechpipe.monitor.exposition import GaugeRow
from speechpipe.monitor.profiles import Budget
from speechpipe.monitor.sinks import LogSink, Sink, WebhookSink
from speechpipe.monitor.telling import Teller
from speechpipe.monitor.watch import Watcher, WatchOptions
from speechpipe.serving.health.operations import HealthOperations
from speechpipe.serving.service import Service
from speechpipe.serving.signing import signing_secret
from speechpipe.serving.telemetry.cascade_metrics import CASCADE
from speechpipe.serving.telemetry.records import feedback_record

TICK_S = 2.0
TELL_S = 1.0
SYSTEM_EVERY_S = 10.0
HOUSEKEEPING_S = 600.0
WATCH_LEASE_S, HOUSE_LEASE_S = 15.0, 1_200.0
OUTCOMES = ("told", "failed", "lost")
FEEDBACK_WAIT_S = 5.0
RECORD_WAIT_S = 0.1
COUNTERS = frozenset(
    {"system.records_lost", "system.webhooks_lost", "software.restarts", "software.refused", "software.cpu_s"}
)


@dataclass(frozen=True)
class Feedback:
    """A user's feedback on an utterance or a session."""

    kind: str
    utterance_id: str = ""
    session_id: str = ""
    value: float | None = None
    tenant: str | None = None  # tenant that the session must belong to; None: any


class MonitoringService:
    """Monitors the records of the service, and shares its lifetime. A failed task is tried again.

    Of several servers on one store, one at a time follows the records and one does the housekeeping (by leases). All
    of them deliver alarms.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        emit: Emit,
        clock: Callable[[], float] = time.time,
        sinks: Sequence[Sink] = (),
        change_log: ChangeLog | None = None,
    ) -> None:
        """Make the tasks; `start` starts them.

        Args:
            settings: the server's settings.
            store: the records.
            emit: takes the records of the server itself.
            clock: returns Unix seconds.
            sinks: receivers of alarms besides the log and the webhook.
            change_log: what was changed of the service.

        Raises:
            InvalidParameter: `METRICS_OFF` names an unknown metric, or there is no secret to sign the webhook.
        """
        try:
            self.spec = CASCADE.without(tuple(settings.metrics_off))
        except ValueError as error:
            raise InvalidParameter(str(error), param="metrics_off") from error
        self._settings = settings
        self._store = store
        self._emit = emit
        self._clock = clock
        options = WatchOptions(
            Budget(settings.false_alarms_per_day, settings.false_looks_per_day),
            settings.keep_records_days * 86_400.0,
            settings.keep_windows_days * 86_400.0,
        )
        self._watcher = Watcher(self.spec, store, [LogSink(), *_webhook(settings), *sinks], options, change_log)
        self._watching = Lease(lambda: store.engine, "watch", WATCH_LEASE_S, self._watcher.owner)
        self._house = Lease(lambda: store.engine, "housekeeping", HOUSE_LEASE_S, self._watcher.owner)
        self.operations = HealthOperations(self.spec, store, self._shown, clock, options.keep_records_s, change_log)
        self._sources: list[Callable[[], Mapping[str, float]]] = []
        self._counted: dict[str, float] = {}
        self._sampled_at = 0.0
        self.cpu_s = 0.0
        self._monitor_task = BackgroundTask("monitor", self.tick, every_s=TICK_S)
        self._housekeeper = BackgroundTask("housekeeping", self._keep_house, every_s=HOUSEKEEPING_S)
        self._tellers = [self._telling(teller) for teller in self._watcher.tellers]
        self.tasks = [
            self._monitor_task,
            BackgroundTask("system-records", self._sample, every_s=SYSTEM_EVERY_S),
            self._housekeeper,
            *self._tellers,
        ]

    @property
    def watcher(self) -> Watcher:
        """What follows the records and decides on alarms."""
        return self._watcher

    def _telling(self, teller: Teller) -> BackgroundTask:
        def tell() -> None:
            with translating_store_errors():
                teller.tell(self._clock(), lambda: task.closing)

        task = BackgroundTask(f"alarms-{teller.sink.name}", tell, every_s=TELL_S)
        return task

    def add_source(self, source: Callable[[], Mapping[str, float]]) -> None:
        """Have `source` called for measures of the server, by name, for its system records."""
        self._sources.append(source)

    def start(self) -> None:
        """Start the background tasks."""
        for task in self.tasks:
            task.start()

    def close(self) -> None:
        """Stop the tasks. Alarms not delivered yet stay in the store, for another server or the next start."""
        for task in self.tasks:
            task.close()
        with contextlib.suppress(*STORE_ERRORS):  # leases expire by themselves
            self._watching.release()
            self._house.release()

    # ---- the tasks ----

    def tick(self) -> None:
        """Process new records and update the alarms, if this server holds the lease.

        Raises:
            StoreUnavailable: the store failed; the next call continues where this one began.
        """
        begun = time.thread_time()
        try:
            with translating_store_errors():
                if self._watching.hold(self._clock()) and self._watcher.tick(self._clock(), tell=False):
                    for task in self._tellers:
                        task.wake()
        finally:
            self.cpu_s += time.thread_time() - begun

    def _sample(self) -> None:
        self._emit(self._system_record())

    def _keep_house(self) -> None:
        with translating_store_errors():
            if self._house.hold(self._clock()):
                self._watcher.keep_house(self._clock(), lambda: self._housekeeper.closing)

    @property
    def failure(self) -> str:
        """Why the last processing of records failed; empty if it did not."""
        status = self._monitor_task.status
        return status.last_failure if status.failing else ""

    def gauges(self) -> tuple[GaugeRow, ...]:
        """Return the Prometheus rows."""

        def notices() -> list[tuple[tuple[str, ...], float]]:
            return [
                ((teller.sink.name, outcome), float(teller.counts[outcome]))
                for teller in self._watcher.tellers
                for outcome in OUTCOMES
            ]

        help_ = "Alarms delivered to sinks, failed attempts, and alarms given up after a day."
        store = self._store
        return (
            GaugeRow("alarm_notices_total", help_, notices, ("sink", "outcome"), counter=True),
            GaugeRow("records_waiting", "Records that wait for the store.", lambda: [((), float(store.queued))]),
            GaugeRow("store_failing", "1 while records cannot be written.", lambda: [((), float(bool(store.failure)))]),
        )

    def _shown(self) -> dict[str, float | str]:
        return {
            **self.server_facts(),
            "store_failure": self._store.failure or self.failure,
            "store_queued": float(self._store.queued),
            "records_behind": float(self._watcher.behind),
        }

    def _system_record(self) -> Record:
        measures: dict[str, Measure] = {"system.store_wait_s": self._store.take_wait_s()}
        for name, value in self.server_facts().items():
            measures[name] = value
            if name in COUNTERS:
                measures[name], self._counted[name] = max(0.0, value - self._counted.get(name, value)), value
        now = self._clock()
        cpu_s = measures.get("software.cpu_s")
        if isinstance(cpu_s, float) and self._sampled_at:
            measures["software.cpu_share"] = cpu_s / max(now - self._sampled_at, 1.0) / self._settings.cores
        versions = {} if self._sampled_at else {"speechpipe": __version__, "bundle": self._settings.bundle}
        outcome = "ok" if self._sampled_at else STARTED
        self._sampled_at = now
        return Record(
            "system",
            f"system-{uuid.uuid4().hex}",
            "",
            now,
            "",
            "",
            "",
            outcome=outcome,
            measures=measures,
            tenant_class="",
            versions=versions,
        )

    def server_facts(self) -> dict[str, float]:
        """Return the current measures of the server, by name."""
        facts: dict[str, float] = {"system.records_lost": float(self._store.lost.total())}
        for teller in self._watcher.tellers:
            if teller.sink.name == WebhookSink.name:
                facts["system.webhooks_lost"] = float(teller.counts["lost"])
        for source in self._sources:
            facts |= source()
        return facts

    # ---- people ----

    def feedback(self, given: Feedback) -> Record:
        """Store feedback; blocks until it is in the store.

        Raises:
            UnknownName: there is no such utterance or session.
            StoreUnavailable: the store could not be read or written in time.
        """
        found = self._find(given)
        if found is None:
            name = given.utterance_id or given.session_id
            raise UnknownName(f"there is no utterance or session {name!r}", cause="not_found")
        measures: dict[str, Measure] = {}
        if given.kind == "rating":
            measures["people.rating"] = given.value
        if given.kind == "correction":
            measures["people.edit_share"] = given.value
        record = feedback_record(found, given.kind, f"feedback-{uuid.uuid4().hex}", self._clock(), measures)
        if not self._store.write(record, FEEDBACK_WAIT_S):
            raise StoreUnavailable(f"the feedback could not be stored: {self._store.failure or 'too slow'}")
        return record

    def _find(self, given: Feedback) -> Record | None:
        """Return the record that the feedback is about, also if it still waits for the store's writer.

        Raises:
            StoreUnavailable: the store cannot be read, or cannot write the records that wait.
        """
        for pause_s in (0.0, RECORD_WAIT_S):  # a live final is sent a moment before its record is queued
            time.sleep(pause_s)
            with translating_store_errors():
                if (found := self._look_up(given)) is not None:
                    return found
            settled = self._store.settle(FEEDBACK_WAIT_S)
            with translating_store_errors():
                if (found := self._look_up(given)) is not None:
                    return found
            if not settled or self._store.failure:
                raise StoreUnavailable(f"records cannot be written and wait: {self._store.failure or 'too slow'}")
        return None

    def _look_up(self, given: Feedback) -> Record | None:
        if given.utterance_id:
            found = [record for record in self._store.find(id_=given.utterance_id) if record.kind == "unit"]
        else:
            found = [r for r in self._store.find(session_id=given.session_id) if r.kind in ("unit", "session")]
        return next((record for record in found if given.tenant in (None, record.tenant)), None)


def _webhook(settings: Settings) -> list[Sink]:
    if not settings.alarm_webhook:
        return []
    return [WebhookSink(settings.alarm_webhook, Sender(signing_secret(settings)), settings.external_url)]


def monitoring_of(service: Service) -> MonitoringService:
    """Return the monitoring service of a service.

    Raises:
        NotReady: it has none.
    """
    if not isinstance(service.watcher, MonitoringService):
        raise NotReady("this service is not monitored")
    return service.watcher
