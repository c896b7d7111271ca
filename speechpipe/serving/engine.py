"""The engine: a running cascade built from the settings. It owns worker pools and VADs, and opens sessions.

Services beside sessions (reviews, copies for a candidate, monitoring) are passed to it by `speechpipe.app`; it knows
them by the protocols of `hooks.py` and `cascade/request.py`.
"""

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.cascade.catalog.factories import kept_audio, recognizer, segmenter
from speechpipe.cascade.recognition import OnUtterance
from speechpipe.cascade.request import Mirror, SessionRequest, both, new_session_id
from speechpipe.cascade.session import Session, SessionOptions, Taps
from speechpipe.cascade.vad import Vad, load_vad
from speechpipe.cascade.workers.pool import RecognizerPool
from speechpipe.config import Settings
from speechpipe.errors import InvalidParameter, NotReady, SpeechpipeError
from speechpipe.foundation import system
from speechpipe.foundation.background import BackgroundTask, BackgroundTasks
from speechpipe.foundation.storage.record import Record
from speechpipe.monitor.exposition import Exposition, GaugeRow
from speechpipe.monitor.windows import UNSERVED
from speechpipe.serving.admission import Admission
from speechpipe.serving.assignment import CHAMPION_NAMES
from speechpipe.serving.automation.policy import NOT_FOLLOWED, EffectivePolicy
from speechpipe.serving.gauges import gauges
from speechpipe.serving.hooks import Reviews, Traces, Watcher
from speechpipe.serving.pools import PoolManager, PoolPair
from speechpipe.serving.routing import Assignment, Router
from speechpipe.serving.telemetry.records import ROWS
from speechpipe.types import Bundle, Component, Scalar

if TYPE_CHECKING:  # importing SQLAlchemy would slow the start of the command line
    from speechpipe.foundation.storage.store import Store


class Service:
    """A cascade that opens sessions. Thread-safe."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: "Store | None" = None,
        clock: Callable[[], float] = time.time,
        only: Bundle | None = None,
        live: bool = False,
    ) -> None:
        """Read the cards and make the parts; `open` starts them. Without a store, records are not kept.

        `only` is preloaded instead of the bundles in the settings. `live` also makes worker pools for live audio.

        Raises:
            BadInput: a card is invalid.
            UnknownName: the champion, or a bundle to preload, has no card.
        """
        self.settings = settings
        self.clock = clock
        self.tasks = BackgroundTasks()  # all background threads of the server
        self.catalogue = Catalogue([shipped_models(), settings.own_models_dir])
        names = settings.preloaded_bundles
        self._preload = [self.catalogue.bundle(name) for name in names] if only is None else [only]
        self.store = store
        if store is not None:
            self.tasks.add(store.task)
        self.kept_audio = kept_audio(settings)
        self._sweep = BackgroundTask("audio-sweep", self.kept_audio.sweep, every_s=self.kept_audio.sweep_every_s)
        self.tasks.add(self._sweep)
        self.watcher: Watcher | None = None  # the monitoring service
        self.reviewing: Reviews | None = None  # the review service
        self._tracing: Traces | None = tracing(settings)
        self.refused: Counter[str] = Counter()
        specs = list({spec.key: spec for spec in (recognizer(bundle.asr) for bundle in self._preload)}.values())
        self.pools = PoolManager(settings, specs, live=live)
        self.tasks.add_source(lambda: self.pools.tasks)
        champion = self.catalogue.bundle(settings.bundle)
        self.router = Router(self.catalogue, champion, lambda bundle: self.pools.ready(recognizer(bundle.asr)))
        self.mirror: Mirror | None = None
        self.exposition = Exposition(
            ROWS,
            gauges(
                self.pools.statuses,
                ready=lambda: not self.unready_reasons(),
                uploads=lambda: self.admission.uploads,
                refused=self.refused,
                lost=store.lost if store is not None else {},
                tasks=self.tasks,
            ),
        )
        self._announce(("upload", "listen", "realtime") if live else ("upload",))
        self.admission = Admission(
            settings,
            lambda: self.pool.status(),  # noqa: PLW0108 - the pool changes with the champion
            lambda: self._started,
            self._unavailable,
        )
        self._vads: dict[object, Vad] = {}
        self._lock = threading.Lock()
        self._started = False

    def _announce(self, channels: tuple[str, ...]) -> None:
        for bundle in self._preload:
            for channel in channels:
                self.exposition.announce(bundle.name, bundle.version, channel)

    # ---- life ----

    def open(self, before_ready: Callable[[], None] = lambda: None) -> None:
        """Start workers, store and services, load the preloaded bundles' VADs, and wait until all are ready.

        `before_ready` is called last; sessions are accepted after it has returned.

        Raises:
            WorkerLoadFailed: a recognizer cannot be loaded.
            StageFailed: a VAD cannot be loaded.
        """
        try:
            self.pools.start()
            if self.store is not None:
                self.store.open()
            if self.watcher is not None:
                self.watcher.start()
            if self.reviewing is not None:
                self.reviewing.start()
            self._sweep.start()
            for bundle in self._preload:
                self.vad(bundle.vad)
            self.pools.wait_ready()
            before_ready()
        except BaseException:
            self.close()
            raise
        self._started = True

    def close(self, drain_s: float = 0.0) -> None:
        """Finish running work for up to `drain_s` seconds, then close all parts.

        Every part is closed even if closing another raises; that error is raised at the end.
        """
        self._started = False
        with contextlib.ExitStack() as steps:  # called in reverse order
            for part in (self.store, self._tracing, self.reviewing, self.watcher, self._sweep):
                if part is not None:
                    steps.callback(part.close)
            steps.callback(self.pools.close, drain_s)

    def __enter__(self) -> "Service":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- sessions ----

    def bundle(self, name: str, changes: Mapping[str, Scalar] | None = None) -> Bundle:
        """Return the bundle that a client names, with changed parameters.

        The champion's name returns the champion, even if there are other versions of that name.

        Raises:
            UnknownName: there is no such bundle, or its weights are missing.
            InvalidParameter: a parameter is unknown, or a value is out of bounds.
        """
        bundle = self.champion if name in (*CHAMPION_NAMES, self.champion.name) else self.catalogue.bundle(name)
        self.catalogue.require(bundle)
        return self.catalogue.changed(bundle, changes) if changes else bundle

    @property
    def champion(self) -> Bundle:
        """The bundle for `default` and `whisper-1`, except in canary sessions."""
        return self.router.snapshot.champion

    def pin(self, tenant: str, user: str = "", session_id: str = "") -> Assignment:
        """Return the assignment of a new session. Sessions of the same user of a tenant get the same arm."""
        return self.router.pin(f"{tenant}:{user}" if user else session_id or new_session_id(), returns=bool(user))

    def vad(self, component: Component) -> Vad:
        """Return the VAD of a component; loaded once for equal options.

        Raises:
            StageFailed, ImportError: it cannot be loaded.
        """
        key = (component.implementation, tuple(sorted(component.options.items())))
        with self._lock:
            if key not in self._vads:
                self._vads[key] = load_vad(component.implementation, **component.options)
            return self._vads[key]

    def session(self, bundle: Bundle, request: SessionRequest, on_utterance: OnUtterance = lambda _: None) -> Session:
        """Open a session on `bundle`. `on_utterance` is called on the session's thread for each utterance."""
        vad = self.vad(bundle.vad)
        session_id = request.session_id or new_session_id()
        spec = recognizer(bundle.asr)
        pool = self.pools.pool(spec, offline=request.decode.offline, session_id=request.session_id or "")
        kept = self.kept_audio.open(session_id) if request.session_id else None
        copy = self.mirror.open(bundle, request) if self.mirror is not None and request.session_id else None
        held = self.reviewing.hold(session_id) if self.reviewing is not None and request.held else None
        if copy is not None:
            on_utterance = both(copy.heard, on_utterance)
        return Session(
            SessionOptions(
                id=session_id,
                vad=vad,
                segmenter=segmenter(bundle, vad.frame_samples, spans_s=request.spans_s, manual=request.manual),
                open_job=lambda decode, before: pool.open(spec, decode, session_id, before),
                decode=request.decode,
                max_pending_s=self.settings.max_pending_s,
                feed_step=request.feed_step,
                listener=request.listener,
                tap=Taps([tap for tap in (kept, copy, held) if tap is not None]),
            ),
            on_utterance,
        )

    # ---- facts ----

    def emit(self, record: Record) -> None:
        """Pass a record to metrics, traces and the store's queue; never blocks."""
        if record.kind == "session":
            self.pools.release(record.session_id)
            if self.mirror is not None:
                self.mirror.end(record)
        if record.kind == "shadow" and self.reviewing is not None:
            self.reviewing.compared(record)
        if record.arm != UNSERVED:
            self.exposition.observe(record)
            if self._tracing is not None:
                self._tracing.emit(record)
        if self.store is not None:
            self.store.append(record)

    def refuse(self, error: SpeechpipeError) -> None:
        """Count a request without a result, by its cause."""
        self.refuse_cause(error.cause)

    def refuse_cause(self, cause: str) -> None:
        """As `refuse`, for requests that are refused below the application."""
        with self._lock:
            self.refused[cause] += 1

    def unready_reasons(self) -> list[str]:
        """Return why this server should get no sessions now; empty when ready."""
        reasons = [] if self._started else ["starting or shutting down"]
        if not any(pair.files.ready for pair in self._pairs):
            reasons.append(f"no recognizer worker is ready {self.pool.status().failure}".strip())
        if self.pools.first.live is not None and not self.live_ready:
            reasons.append("no recognizer worker for live audio is ready")
        if self.admission.uploads >= self.settings.max_uploads:
            reasons.append("the limit of uploads in progress is reached")
        ended = [status.name for status in self.tasks.statuses() if status.ended]
        return reasons + [f"the background task {name} has ended" for name in ended]

    def _unavailable(self) -> str:
        """Return why no worker can process an upload; empty if one can, or could until a moment ago."""
        reasons = [pair.files.unavailable for pair in self._pairs]
        return reasons[0] if all(reasons) else ""

    def workers_missing(self) -> list[dict[str, str | int]]:
        """Return the pools that have fewer ready workers than wanted, with the reason of the last failed start."""
        return [
            {"pool": name, "ready": status.ready_workers, "wanted": status.workers, "failure": status.failure}
            for name, status in self.pools.statuses().items()
            if status.ready_workers < status.workers
        ]

    @property
    def _pairs(self) -> list[PoolPair]:
        """The pools of champion and candidate; either can answer if the other has no worker."""
        answering = (self.router.snapshot.champion, self.router.snapshot.candidate)
        return [self.pools.pair(recognizer(bundle.asr)) for bundle in answering if bundle is not None]

    @property
    def live_ready(self) -> bool:
        """Whether a worker accepts live audio."""
        return any(pair.live is not None and pair.live.ready for pair in self._pairs)

    @property
    def pool(self) -> RecognizerPool:
        """The champion's pool for uploads and files."""
        return self.pools.pair(recognizer(self.champion.asr)).files

    @property
    def live_pool(self) -> RecognizerPool:
        """The champion's pool for live audio.

        Raises:
            NotReady: the service was built without live audio.
        """
        pool = self.pools.pair(recognizer(self.champion.asr)).live
        if pool is None:
            raise NotReady("this service does not support live audio")
        return pool

    def watch(self, watcher: Watcher) -> None:
        """Set the monitoring service; it is started and closed with this service. Call before `open`."""
        self.watcher = watcher
        watcher.add_source(self._facts)
        self.tasks.add(*watcher.tasks)
        self.exposition.add_gauges(watcher.gauges())

    def _facts(self) -> dict[str, float]:
        statuses = list(self.pools.statuses().values())
        return {
            "software.queue_depth": sum(status.queued for status in statuses),
            "software.restarts": sum(sum(status.restarts.values()) for status in statuses),
            "software.refused": self.refused.total(),
            "software.cpu_s": sum(status.cpu_s for status in statuses) + time.process_time(),
            "software.rss_mb": sum(sum(status.rss_mb) for status in statuses) + system.rss_mb(os.getpid()),
        }

    def review_by(self, reviews: Reviews, tasks: Iterable[BackgroundTask], rows: Sequence[GaugeRow]) -> None:
        """Set the review service; it is started and closed with this service. Call before `open`.

        Args:
            reviews: the review service.
            tasks: its background tasks.
            rows: its Prometheus rows.
        """
        self.reviewing = reviews
        self.tasks.add(*tasks)
        self.exposition.add_gauges(rows)

    def mirror_to(self, mirror: Mirror) -> None:
        """Set the receiver of copies; it decides for each session whether it wants one."""
        self.mirror = mirror

    def terms(self, tenant: str, bundle: Bundle) -> EffectivePolicy:
        """Return the automation policy for a new session."""
        return self.reviewing.terms(tenant, bundle.id) if self.reviewing is not None else NOT_FOLLOWED

    started = property(lambda self: self._started, doc="Whether sessions are accepted.")


def tracing(settings: Settings) -> Traces | None:
    """Return the tracing of records if the settings enable it, else None.

    Raises:
        InvalidParameter: OpenTelemetry is not installed.
    """
    if not settings.traces:
        return None
    try:
        from speechpipe.serving.telemetry.tracing import Tracing
    except ImportError as error:
        message = "SPEECHPIPE_TRACES needs OpenTelemetry: pip install 'speechpipe[otel]'"
        raise InvalidParameter(message, param="traces") from error
    return Tracing()
