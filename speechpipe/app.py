"""The composition root: makes the parts of the service and connects them."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from speechpipe.cascade.catalog.factories import catalogue, kept_audio, recognizer
from speechpipe.cascade.request import Mirror
from speechpipe.cascade.vad.loaded import LoadedVads
from speechpipe.config import Settings
from speechpipe.foundation import system
from speechpipe.foundation.background import BackgroundTask, BackgroundTasks
from speechpipe.monitor.exposition import Exposition
from speechpipe.serving.admission import Admission
from speechpipe.serving.engine import Cascade, Engine
from speechpipe.serving.gauges import gauges
from speechpipe.serving.hooks import Reviews, Watcher
from speechpipe.serving.pools import PoolManager
from speechpipe.serving.readiness import Readiness
from speechpipe.serving.record_sink import RecordSink, tracing
from speechpipe.serving.refusals import Refusals
from speechpipe.serving.routing import Router
from speechpipe.serving.service import Service
from speechpipe.serving.telemetry.records import ROWS
from speechpipe.serving.text.profanity import read_lists
from speechpipe.types import Bundle

if TYPE_CHECKING:  # imported at first use, for a fast start of the command line
    from speechpipe.cascade.catalog.bundles import Catalogue
    from speechpipe.control.review.service import ReviewService
    from speechpipe.control.rollout.operations import RolloutOperations
    from speechpipe.control.training.operations import TrainingOperations
    from speechpipe.foundation.storage.store import Store
    from speechpipe.monitor.change_log import ChangeLog

CHANNELS, LIVE_CHANNELS = ("upload",), ("listen", "realtime")


def build(settings: Settings, *, live: bool = False) -> Service:
    """Return a service, not yet started, with its store, review service and monitoring.

    Args:
        settings: the server's settings.
        live: also make the worker pool for live audio.
    """
    # SQLAlchemy is a third of the time the command line takes to start.
    from speechpipe.foundation.storage.store import Store

    store = Store(settings.record_store_url, settings.store_queue)
    return compose(settings, store=store, live=live, people=True, monitored=True)


def compose(
    settings: Settings,
    *,
    store: "Store | None" = None,
    clock: Callable[[], float] = time.time,
    only: Bundle | None = None,
    live: bool = False,
    people: bool = False,
    monitored: bool = False,
) -> Service:
    """Return a service, not yet started, of the parts that are asked for. Without a store, records are not kept.

    Args:
        settings: the server's settings.
        store: takes the records.
        clock: returns Unix seconds.
        only: preloaded instead of the bundles in the settings.
        live: also make worker pools for live audio.
        people: with the review service; needs a store.
        monitored: with the monitoring service; needs a store.

    Raises:
        BadInput: a card, or the file of words to mask, is invalid.
        UnknownName: the champion, or a bundle to preload, has no card.
        InvalidParameter: a setting cannot be followed.
    """
    parts = _Parts(settings, store, clock)
    cards = catalogue(settings)
    preloaded = tuple(cards.bundle(name) for name in settings.preloaded_bundles) if only is None else (only,)
    specs = {spec.key: spec for spec in (recognizer(bundle.asr) for bundle in preloaded)}
    pools, vads = PoolManager(settings, list(specs.values()), live=live), LoadedVads()
    reviews = parts.reviews(cards) if people else None
    mirror = parts.mirror(pools, vads, reviews) if store is not None else None
    router = Router(cards, cards.bundle(settings.bundle), lambda bundle: pools.ready(recognizer(bundle.asr)))
    kept = kept_audio(settings)
    engine = Engine(settings, Cascade(cards, pools, vads, router, kept), mirror, reviews)
    readiness = Readiness(pools, router, parts.tasks)
    refusals = Refusals()
    service = Service(
        settings=settings,
        clock=clock,
        tasks=parts.tasks,
        engine=engine,
        records=parts.records,
        exposition=parts.exposition,
        readiness=readiness,
        admission=Admission(settings, readiness, lambda: engine.pool.status()),  # noqa: PLW0108 - pools change
        refusals=refusals,
        preloaded=preloaded,
        audio_sweep=BackgroundTask("audio-sweep", kept.sweep, every_s=kept.sweep_every_s),
        store=store,
        mirror=mirror,
        reviews=reviews,
        profanity=read_lists(settings.profanity_words),
        watcher=parts.watcher(reviews, lambda: _facts(pools, refusals)) if monitored else None,
    )
    _show(service, CHANNELS + LIVE_CHANNELS * live)
    return service


def _show(service: Service, channels: Sequence[str]) -> None:
    """Show the service's threads, rows and channels in its health and metrics."""
    pools, store = service.engine.pools, service.store
    service.tasks.add(service.audio_sweep)
    service.tasks.add_source(lambda: pools.tasks)
    for bundle in service.preloaded:
        for channel in channels:
            service.exposition.announce(bundle.name, bundle.version, channel)
    service.exposition.add_gauges(
        gauges(
            pools.statuses,
            ready=lambda: not service.unready_reasons(),
            uploads=lambda: service.admission.uploads,
            refused=service.refusals.counts,
            lost=store.lost if store is not None else {},
            fetches=service.fetches,
            tasks=service.tasks,
        )
    )


class _Parts:
    """What the services beside sessions are made of; each method makes one and registers its threads and rows."""

    def __init__(self, settings: Settings, store: "Store | None", clock: Callable[[], float]) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self.tasks = BackgroundTasks()
        self.exposition = Exposition(ROWS, ())
        self.records = RecordSink(self.exposition, store, tracing(settings))
        if store is not None:
            self.tasks.add(store.task)

    @property
    def _kept(self) -> "Store":
        assert self._store is not None, "reviews, monitoring and rollouts need a store"
        return self._store

    def reviews(self, cards: "Catalogue") -> "ReviewService":
        from speechpipe.control.review.service import ReviewService

        reviews = ReviewService(self._settings, self._kept, self.records.emit, self._clock, cards.prior)
        self.tasks.add(*reviews.tasks)
        self.exposition.add_gauges(reviews.gauges())
        return reviews

    def mirror(self, pools: PoolManager, vads: LoadedVads, reviews: Reviews | None) -> Mirror:
        from speechpipe.control.rollout.shadow import ShadowService

        on_compared = reviews.compared if reviews is not None else None
        shadowing = ShadowService(self._settings, pools, vads, self.records.emit, self._clock, on_compared)
        self.tasks.add_source(lambda: shadowing.tasks)
        return shadowing

    def watcher(self, reviews: "ReviewService | None", facts: Callable[[], Mapping[str, float]]) -> Watcher:
        from speechpipe.control.review.demotion import DemotionSink
        from speechpipe.monitor.attribution import source
        from speechpipe.serving.health.service import MonitoringService
        from speechpipe.serving.telemetry.cascade_metrics import CASCADE

        store, clock = self._kept, self._clock
        sinks = []
        if reviews is not None:
            automation, tenants = reviews.operations.automation, self._settings.enterprise_tenants
            sinks.append(DemotionSink(automation, tenants, lambda alarm: source(CASCADE, store, alarm, clock())))
        watcher = MonitoringService(self._settings, store, self.records.emit, clock, sinks, change_log(store))
        watcher.add_source(facts)
        self.tasks.add(*watcher.tasks)
        self.exposition.add_gauges(watcher.gauges())
        return watcher


def change_log(store: "Store") -> "ChangeLog":
    """Return what was changed of the service whose store this is."""
    from speechpipe.control.review.change_log import automation_changes
    from speechpipe.control.review.policy_repository import Automation
    from speechpipe.control.rollout.change_log import rollout_changes
    from speechpipe.control.training.change_log import training_changes
    from speechpipe.monitor.change_log import ChangeLog
    from speechpipe.monitor.change_sources import reference_changes, start_changes
    from speechpipe.monitor.repository import Archive

    return ChangeLog(
        (
            start_changes(lambda: store.engine),
            reference_changes(Archive(lambda: store.engine)),
            rollout_changes(lambda: store.engine),
            automation_changes(Automation(lambda: store.engine)),
            training_changes(lambda: store.engine),
        )
    )


def _facts(pools: PoolManager, refusals: Refusals) -> Mapping[str, float]:
    """Return measures of the server for the monitor; called every few seconds on a background thread."""
    statuses = list(pools.statuses().values())
    return {
        "software.queue_depth": sum(status.queued for status in statuses),
        "software.restarts": sum(status.unplanned_restarts for status in statuses),
        "software.hung": sum(status.hung for status in statuses),
        "software.refused": refusals.counts.total(),
        "software.cpu_s": sum(status.cpu_s for status in statuses) + time.process_time(),
        "software.rss_mb": sum(sum(status.rss_mb) for status in statuses) + system.rss_mb(os.getpid()),
    }


def training_operations(
    service: Service,
    rollouts: "Callable[[Callable[[RolloutOperations], object]], object]",
    store: "Store | None" = None,
) -> "TrainingOperations":
    """Return the operations on trainings, for a server or the command line.

    Training jobs work in the folder `retrain` of the state directory. Cards of new versions are written to the
    service's own models folder.

    Args:
        service: gives settings, catalogue and clock.
        rollouts: calls its argument with the rollout operations, under their owner's lock.
        store: where the jobs are stored. None: the service's store, which must then exist.
    """
    from speechpipe.control.rollout.speech_guards import GUARDS
    from speechpipe.control.training.operations import Places, TrainingOperations

    store = store or service.store
    assert store is not None, "training jobs need a store"
    settings = service.settings
    places = Places(settings.state_dir / "retrain", settings.own_models_dir, settings.state_dir / "reviews")
    return TrainingOperations(store, service.engine.catalogue, places, rollouts, dict(GUARDS.rates), service.clock)
