"""The composition root: a service with everything around it that a server wants."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from speechpipe.config import Settings
from speechpipe.serving.engine import Service

if TYPE_CHECKING:  # what these need is loaded when it is used
    from speechpipe.control.rollout.operations import RolloutOperations
    from speechpipe.control.training.operations import TrainingOperations
    from speechpipe.foundation.storage.writer import Store


def build(settings: Settings, *, live: bool = False) -> Service:
    """Return a service that is not started, with its store and with what watches it."""
    # SQLAlchemy is a third of the time the command line takes to start.
    from speechpipe.control.review.demotion import DemotionSink
    from speechpipe.control.review.service import ReviewService
    from speechpipe.foundation.storage.writer import Store
    from speechpipe.monitor.attribution import source
    from speechpipe.serving.health.service import MonitoringService
    from speechpipe.serving.telemetry.cascade import CASCADE

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
    """Return what is done with trainings, for servers and for the command line.

    They work in `retrain` of the state directory, and cards go into the service's own models.

    Args:
        service: whose settings and catalogue count.
        rollouts: calls what it is given with the operations on rollouts, under their owner's lock.
        store: where the jobs are; the service's own if it has one.
    """
    from speechpipe.control.rollout.speech_guards import GUARDS
    from speechpipe.control.training.operations import Places, TrainingOperations

    store = store or service.store
    assert store is not None, "trainings live in the store"
    settings = service.settings
    places = Places(settings.state_dir / "retrain", settings.own_models_dir, settings.state_dir / "reviews")
    return TrainingOperations(store, service.catalogue, places, rollouts, dict(GUARDS.rates), service.clock)
