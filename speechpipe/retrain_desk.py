"""Makes the desk of retrainings out of a service's settings, for servers and for the command line."""

from collections.abc import Callable

from speechpipe.monitor.store import Store
from speechpipe.retrain.desk import Places, RetrainDesk
from speechpipe.rollout.desk import RolloutDesk
from speechpipe.rollout_guards import GUARDS
from speechpipe.service import Service


def retrain_desk(
    service: Service, store: Store, rollouts: Callable[[Callable[[RolloutDesk], object]], object]
) -> RetrainDesk:
    """Return the desk: works in `retrain` of the state directory, writes cards into the service's own models."""
    settings = service.settings
    places = Places(settings.state_dir / "retrain", settings.own_models_dir, settings.state_dir / "reviews")
    return RetrainDesk(store, service.catalogue, places, rollouts, dict(GUARDS.rates), service.clock)
