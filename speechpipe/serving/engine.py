"""The engine: settings in, a running cascade out. It builds pools and VADs and opens sessions on them.

What is done beside a session (people who review, a candidate that hears a copy, the follower of the records) is handed
to it by `speechpipe.app`; it knows each by the protocol below.
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

if TYPE_CHECKING:  # SQLAlchemy is a third of the time that the command line takes to start
    from speechpipe.foundation.storage.writer import Store


class Service:
    """A cascade that is ready to take sessions. Thread-safe."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: "Store | None" = None,
        clock: Callable[[], float] = time.time,
        only: Bundle | None = None,
        live: bool = False,
    ) -> None:
        """Read the cards; nothing is started yet. `only` is warmed instead of the settings' bundles; `live` starts
        workers for live audio beside those for files.

        Raises:
            BadInput: a card is broken.
            UnknownName: the champion, or a bundle to preload, has no card.
        """
        self.settings = settings
        self.clock = clock
        self.tasks = BackgroundTasks()  # every thread that works for as long as the server
        self.catalogue = Catalogue([shipped_models(), settings.own_models_dir])
        names = settings.preloaded_bundles
        self._preload = [self.catalogue.bundle(name) for name in names] if only is None else [only]
        self.store = store
        if store is not None:
            self.tasks.add(store.task)
        self.kept_audio = kept_audio(settings)
        self._sweep = BackgroundTask("audio-sweep", self.kept_audio.sweep, every_s=self.kept_audio.sweep_every_s)
        self.tasks.add(self._sweep)
        self.watcher: Watcher | None = None  # follows the records
        self.reviewing: Reviews | None = None  # people who look at results
        self._tracing: Traces | None = tracing(settings)
        self.refused: Counter[str] = Counter()
        specs = list({spec.key: spec for spec in (recognizer(bundle.asr) for bundle in self._preload)}.values())
        self.fleet = PoolManager(settings, specs, live=live)
        self.tasks.add_source(lambda: self.fleet.tasks)
        champion = self.catalogue.bundle(settings.bundle)
        self.router = Router(self.catalogue, champion, lambda bundle: self.fleet.ready(recognizer(bundle.asr)))
        self.mirror: Mirror | None = None
        self.exposition = Exposition(
            ROWS,
            gauges(
                self.fleet.statuses,
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
            lambda: self.pool.status(),  # noqa: PLW0108 - who that is changes
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
        """Start workers and store, load the preloaded bundles' VADs meanwhile, and wait until all is warm.

        `before_ready` is called last; sessions are taken when it has returned.

        Raises:
            WorkerLoadFailed: a recognizer cannot be loaded.
            StageFailed: a VAD cannot be loaded.
        """
        try:
            self.fleet.start()
            if self.store is not None:
                self.store.open()
            if self.watcher is not None:
                self.watcher.start()
            if self.reviewing is not None:
                self.reviewing.start()
            self._sweep.start()
            for bundle in self._preload:
                self.vad(bundle.vad)
            self.fleet.wait_ready()
            before_ready()
        except BaseException:
            self.close()
            raise
        self._started = True

    def close(self, drain_s: float = 0.0) -> None:
        """Finish running work for up to `drain_s` seconds, then end the workers and the store.

        Every part is closed, whatever closing another one raises; that is raised in the end.
        """
        self._started = False
        with contextlib.ExitStack() as steps:  # the last that is added is done first
            for part in (self.store, self._tracing, self.reviewing, self.watcher, self._sweep):
                if part is not None:
                    steps.callback(part.close)
            steps.callback(self.fleet.close, drain_s)

    def __enter__(self) -> "Service":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- sessions ----

    def bundle(self, name: str, changes: Mapping[str, Scalar] | None = None) -> Bundle:
        """Return the bundle that a client names, with parameters changed for this session.

        The champion's name means the champion, whatever other version of it there is.

        Raises:
            UnknownName: no such bundle, or its weights are not here.
            InvalidParameter: an unknown parameter, or a value out of bounds.
        """
        bundle = self.champion if name in (*CHAMPION_NAMES, self.champion.name) else self.catalogue.bundle(name)
        self.catalogue.require(bundle)
        return self.catalogue.changed(bundle, changes) if changes else bundle

    @property
    def champion(self) -> Bundle:
        """What `default` and `whisper-1` mean, but for the sessions of a canary."""
        return self.router.lane.champion

    def pin(self, tenant: str, user: str = "", session_id: str = "") -> Assignment:
        """Return a new session's place: the same arm for the same user of a tenant, if there is a user."""
        return self.router.pin(f"{tenant}:{user}" if user else session_id or new_session_id(), returns=bool(user))

    def vad(self, component: Component) -> Vad:
        """Return the loaded VAD; equal options share one."""
        key = (component.implementation, tuple(sorted(component.options.items())))
        with self._lock:
            if key not in self._vads:
                self._vads[key] = load_vad(component.implementation, **component.options)
            return self._vads[key]

    def session(self, bundle: Bundle, request: SessionRequest, on_utterance: OnUtterance = lambda _: None) -> Session:
        """Open a session, pinned to `bundle`."""
        vad = self.vad(bundle.vad)
        session_id = request.session_id or new_session_id()
        spec = recognizer(bundle.asr)
        pool = self.fleet.pool(spec, whole=request.decode.whole, session_id=request.session_id or "")
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
        """Send a record sideways to metrics and store; never raises, never waits."""
        if record.kind == "session":
            self.fleet.release(record.session_id)
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
        """Count a request that got no result, by cause."""
        self.refuse_cause(error.cause)

    def refuse_cause(self, cause: str) -> None:
        """As `refuse`, for what is refused below the application."""
        with self._lock:
            self.refused[cause] += 1

    def unready_reasons(self) -> list[str]:
        """Return why no session should be sent here now; empty when ready."""
        reasons = [] if self._started else ["starting or shutting down"]
        if not any(crew.files.ready for crew in self._crews):
            reasons.append(f"no recognizer worker is ready {self.pool.status().failure}".strip())
        if self.fleet.first.live is not None and not self.live_ready:
            reasons.append("no recognizer worker for live audio is ready")
        if self.admission.uploads >= self.settings.max_uploads:
            reasons.append("as many uploads as may run at once")
        ended = [status.name for status in self.tasks.statuses() if status.ended]
        return reasons + [f"the background task {name} has ended" for name in ended]

    def _unavailable(self) -> str:
        """Return why nobody can work on an upload; empty if somebody can, or could until a moment ago."""
        reasons = [crew.files.unavailable for crew in self._crews]
        return reasons[0] if all(reasons) else ""

    def workers_missing(self) -> list[dict[str, str | int]]:
        """Return the pools that have fewer workers than they should, and why the last start failed, if it did."""
        return [
            {"pool": name, "ready": status.ready_workers, "wanted": status.workers, "failure": status.failure}
            for name, status in self.fleet.statuses().items()
            if status.ready_workers < status.workers
        ]

    @property
    def _crews(self) -> list[PoolPair]:
        """Workers of those who may answer: where one arm has none left, the other's do."""
        answering = (self.router.lane.champion, self.router.lane.candidate)
        return [self.fleet.crew(recognizer(bundle.asr)) for bundle in answering if bundle is not None]

    @property
    def live_ready(self) -> bool:
        """Whether a worker takes live audio."""
        return any(crew.live is not None and crew.live.ready for crew in self._crews)

    @property
    def pool(self) -> RecognizerPool:
        """The recognizer workers for uploads and files."""
        return self.fleet.crew(recognizer(self.champion.asr)).files

    @property
    def live_pool(self) -> RecognizerPool:
        """The recognizer workers for live audio.

        Raises:
            NotReady: this service was built without.
        """
        pool = self.fleet.crew(recognizer(self.champion.asr)).live
        if pool is None:
            raise NotReady("this service takes no live audio")
        return pool

    def watch(self, watcher: Watcher) -> None:
        """Have this service's records followed; it is started and closed with the service."""
        self.watcher = watcher
        watcher.add_source(self._facts)
        self.tasks.add(*watcher.tasks)
        self.exposition.add_gauges(watcher.gauges())

    def _facts(self) -> dict[str, float]:
        statuses = list(self.fleet.statuses().values())
        return {
            "software.queue_depth": sum(status.queued for status in statuses),
            "software.restarts": sum(sum(status.restarts.values()) for status in statuses),
            "software.refused": self.refused.total(),
            "software.cpu_s": sum(status.cpu_s for status in statuses) + time.process_time(),
            "software.rss_mb": sum(sum(status.rss_mb) for status in statuses) + system.rss_mb(os.getpid()),
        }

    def review_by(self, reviews: Reviews, tasks: Iterable[BackgroundTask], rows: Sequence[GaugeRow]) -> None:
        """Have people look at this service's results; that is started and closed with the service.

        Args:
            reviews: who that is.
            tasks: its background tasks.
            rows: what it says of itself.
        """
        self.reviewing = reviews
        self.tasks.add(*tasks)
        self.exposition.add_gauges(rows)

    def mirror_to(self, mirror: Mirror) -> None:
        """Give copies of sessions to `mirror`, which decides of each whether it wants one."""
        self.mirror = mirror

    def terms(self, tenant: str, bundle: Bundle) -> EffectivePolicy:
        """Return how much the machine may do alone in a new session."""
        return self.reviewing.terms(tenant, bundle.id) if self.reviewing is not None else NOT_FOLLOWED

    started = property(lambda self: self._started, doc="Whether sessions are taken.")


def tracing(settings: Settings) -> Traces | None:
    """Return what makes spans, if the settings ask for them; InvalidParameter if the extra is not installed."""
    if not settings.traces:
        return None
    try:
        from speechpipe.serving.telemetry.tracing import Tracing
    except ImportError as error:
        message = "SPEECHPIPE_TRACES needs OpenTelemetry: pip install 'speechpipe[otel]'"
        raise InvalidParameter(message, param="traces") from error
    return Tracing()
