"""A service with everything around it that a server wants: store, monitoring, people."""

from speechpipe.config import Settings
from speechpipe.service import Service


def build(settings: Settings, *, live: bool = False) -> Service:
    """Return a service that is not started, with its store and with what watches it."""
    # SQLAlchemy is a third of the time the command line takes to start.
    from speechpipe.demotion import DemotionSink
    from speechpipe.monitor.attribution import source
    from speechpipe.monitor.store import Store
    from speechpipe.monitoring import Monitoring
    from speechpipe.reviewing import Reviewing
    from speechpipe.speech_cascade import CASCADE

    store = Store(settings.record_store_url, settings.store_queue)
    service = Service(settings, store=store, live=live)
    reviewing = Reviewing(settings, store, service.emit, service.clock)
    service.reviewing = reviewing
    service.tasks.add(*reviewing.tasks)
    service.exposition.add_gauges(reviewing.gauges())
    demotion = DemotionSink(
        reviewing.desk.automation,
        settings.enterprise_tenants,
        lambda alarm: source(CASCADE, store, alarm, service.clock()),
    )
    service.watch(Monitoring(settings, store, service.emit, service.clock, [demotion]))
    return service
