"""The composition root: builds the service with its store, its reviews and its monitoring."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from speechpipe.config import Settings
from speechpipe.serving.engine import Service

if TYPE_CHECKING:  # imported at first use, for a fast start of the command line
    from speechpipe.control.rollout.operations import RolloutOperations
    from speechpipe.control.training.operations import TrainingOperations
    from speechpipe.foundation.storage.store import Store


def build(settings: Settings, *, live: bool = False) -> Service:
    """Return a service, not yet started, with its store, review service and monitoring.

    Args:
        settings: the server's settings.
        live: also make the worker pool for live audio.
    """
    # SQLAlchemy is a third of the time the command line takes to start.
    from speechpipe.control.review.demotion import DemotionSink
    from speechpipe.control.review.service import ReviewService
    from speechpipe.foundation.storage.store import Store
    from speechpipe.monitor.attribution import source
    from speechpipe.serving.health.service import MonitoringService
    from speechpipe.serving.telemetry.cascade_metrics import CASCADE

    store = Store(settings.record_store_url, settings.store_queue)
    service = Service(settings, store=store, live=live)
    reviewing = ReviewService(settings, store, service.emit, service.clock)
    service.review_by(reviewing, reviewing.tasks, reviewing.gauges())
    demotion = DemotionSink(
        reviewing.operations.automation,
        settings.enterprise_tenants,
        lambda alarm: source(CASCADE, store, alarm, service.clock()),
    )
    service.watch(MonitoringService(settings, store, service.emit, service.clock, [demotion]))
    return service


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
    return TrainingOperations(store, service.catalogue, places, rollouts, dict(GUARDS.rates), service.clock)
